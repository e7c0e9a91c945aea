"""The .t7 reader: what the real Torch7 wrote, hostile and damaged files, other people's files."""

import json
import math
import random
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed import unpacked
from paths import TESTS
from shared import shared
from t7_writer import module, table, tensor, write

from rmpe_legacy import RmpeError, read_torch7
from rmpe_legacy.cli import main
from rmpe_legacy.errors import FileError
from rmpe_legacy.torch7.describe import describe_torch7
from rmpe_legacy.torch7.objects import Function, Storage, Table, Tensor, Torch7Object
from rmpe_legacy.torch7.reader import parse_torch7, walk

GOLDEN = TESTS / "golden" / "torch7"
MODELS = unpacked("torch7/models")
ZOO = GOLDEN / "zoo"
SMALL = ("long4.t7", "long8.t7", "bigendian.t7", "two_objects.t7", "serialized_string.bin", "unreferenced.t7")
DESCRIBED = [(path, path.name.partition(".")[0] + ".json") for path in sorted(ZOO.glob("*.t7"))
             if (ZOO / f"{path.name.partition('.')[0]}.json").exists()
             and path.name.partition(".")[0] not in ("bn_v1", "conv_old", "cuda_types", "half")]
CASES = DESCRIBED + [(ZOO / name, "small.json") for name in SMALL]


class Description:
    """Torch7's own account of a file, to compare a value with: which objects are the same is part of it."""

    def __init__(self, root: dict, sharing: bool = True):
        self.root, self.sharing = root, sharing
        self.defined: dict[int, dict] = {}
        waiting = [root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, dict):
                if "id" in node and node["t"] != "ref":
                    self.defined[node["id"]] = node
                waiting += node.values()
            elif isinstance(node, list):
                waiting += node
        self.same: dict[int, Any] = {}  # id -> our object
        self.taken: dict[int, int] = {}  # id() of our object -> id

    def fits(self, node: dict, value: Any) -> bool:
        node = self.defined[node["id"]] if node["t"] == "ref" else node
        if "id" not in node or not self.sharing:
            return getattr(self, node["t"])(node, value)
        if node["id"] in self.same or id(value) in self.taken:
            return self.same.get(node["id"]) is value
        before = dict(self.same), dict(self.taken)
        self.same[node["id"]], self.taken[id(value)] = value, node["id"]
        if getattr(self, node["t"])(node, value):
            return True
        self.same, self.taken = before
        return False

    def nil(self, node: dict, value: Any) -> bool:
        return value is None

    def boolean(self, node: dict, value: Any) -> bool:
        return value is node["v"]

    def number(self, node: dict, value: Any) -> bool:
        return isinstance(value, float) and equal(float(node["v"]), value)

    def string(self, node: dict, value: Any) -> bool:
        return value == bytes.fromhex(node["hex"])

    def table(self, node: dict, value: Any) -> bool:
        return isinstance(value, Table) and self.entries(node, value)

    def object(self, node: dict, value: Any) -> bool:
        return isinstance(value, Torch7Object) and value.class_name == node["class"] and \
            value.version == node["version"] and self.entries(node, value.fields)

    def entries(self, node: dict, value: Table) -> bool:
        """Entries with plain keys by their key; of the others, each must fit one."""
        left = list(value.items())
        plain = [e for e in node["entries"] if e[0]["t"] in ("number", "string", "boolean")]
        for key, item in plain + [e for e in node["entries"] if e not in plain]:
            for i, (our_key, our_item) in enumerate(left):
                if self.fits(key, our_key) and self.fits(item, our_item):
                    del left[i]
                    break
            else:
                return False
        return not left

    def function(self, node: dict, value: Any) -> bool:
        upvalues = value.upvalues.seq() if isinstance(value, Function) else []
        names = [u.get("name").decode() for u in upvalues]
        return isinstance(value, Function) and value.code.startswith(b"\x1bLJ") and \
            names == [u["name"] for u in node["upvalues"]] and \
            all(self.fits(theirs["value"], ours.get("value"))
                for theirs, ours in zip(node["upvalues"], upvalues, strict=True))

    def storage(self, node: dict, value: Any) -> bool:
        return isinstance(value, Storage) and value.class_name == node["class"] and \
            same_numbers(node["data"], value.data)

    def tensor(self, node: dict, value: Any) -> bool:
        if not isinstance(value, Tensor) or value.class_name != node["class"]:
            return False
        if node["size"]:
            placed = (value.size, value.stride, value.start) == (
                tuple(node["size"]), tuple(node["stride"]), node["offset"])
            if not placed or not self.fits(node["storage"], value.storage):
                return False
        return list(value.size) == node["size"] and same_numbers(node["data"], value.numpy())


def equal(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))


def same_numbers(want: list[str], got: np.ndarray) -> bool:
    return len(want) == got.size and all(equal(float(w), float(g)) for w, g in zip(want, got.flat, strict=True))


class TestZoo:
    @pytest.mark.parametrize(("path", "description"), CASES, ids=lambda p: getattr(p, "name", p))
    def test_is_what_torch7_says(self, path: Path, description: str):
        node = json.loads((ZOO / description).read_text())
        assert Description(node, sharing=path.name != "unreferenced.t7").fits(node, read_torch7(path).root)

    @pytest.mark.parametrize("name", ["cuda_types.t7", "cuda_types.ascii.t7"])
    def test_cuda_classes(self, name: str):
        root = read_torch7(ZOO / name).root
        node = json.loads((ZOO / "cuda_types.json").read_text())["a"]
        tensors = {key.decode(): value for key, value in root.items()}
        assert tensors["a"].class_name == "torch.CudaTensor"
        assert same_numbers(node["data"], tensors["a"].numpy())
        assert tensors["b"].storage is tensors["a"].storage  # its transpose
        np.testing.assert_array_equal(tensors["b"].numpy(), tensors["a"].numpy().T)
        assert [tensors[k].numpy().tolist() for k in ("l", "by", "i", "d")] == [[1, 2, 3], [1, 255], [-5], [1.5, 2.5]]
        np.testing.assert_array_equal(tensors["h"].numpy(), np.float16([1, -2.5, 0.1]))
        assert tensors["lempty"].numpy().dtype == np.int64
        assert tensors["empty"].numpy().size == 0

    @pytest.mark.parametrize("name", ["half.t7", "half.ascii.t7"])
    def test_half_precision(self, name: str):
        root = read_torch7(ZOO / name).root
        assert root["h"].numpy().dtype == np.float16
        np.testing.assert_array_equal(root["h"].numpy().astype(np.float32), root["ref"].numpy())

    def test_old_function_has_no_index(self):
        function, after = read_torch7(ZOO / "legacy_fn6.t7").root.seq()
        assert function.upvalues.seq() == [11.0]
        assert after == b"after"

    def test_old_recursive_function(self):
        function = read_torch7(ZOO / "legacy_fn7.t7").root
        assert function.upvalues.seq() == [21.0]

    def test_class_without_a_version(self):
        root = read_torch7(ZOO / "legacy_nover.t7").root
        assert (root.class_name, root.version, root.get("legacy")) == ("nn.Identity", 0, True)

    def test_bare_nil(self):
        assert read_torch7(ZOO / "bare_nil.t7").root is None

    def test_an_empty_file_says_so(self):
        with pytest.raises(FileError, match="the file is empty"):
            read_torch7(ZOO / "ascii_noauto.t7")

    def test_second_object(self):
        first, second = read_torch7(ZOO / "two_objects.t7").objects
        assert first[1.0] is second["second"] or second["second"].numpy().size == 3

    @pytest.mark.parametrize(("name", "encoding", "long_size"), [
        ("long4.t7", "little-endian", 4), ("long8.t7", "little-endian", 8), ("bigendian.t7", "big-endian", 8),
        ("tensors.ascii.t7", "ascii", 8)])
    def test_says_how_it_was_written(self, name: str, encoding: str, long_size: int):
        file = read_torch7(ZOO / name)
        assert (file.encoding, file.long_size, file.trailing) == (encoding, long_size, 0)

    def test_the_long_size_can_be_said(self):
        assert read_torch7(ZOO / "long4.t7", long_size=4).root[2.0].numpy().tolist() == [1, 2, 3]
        with pytest.raises(FileError):
            read_torch7(ZOO / "long4.t7", long_size=8)
        with pytest.raises(FileError, match="4 or 8 bytes"):
            read_torch7(ZOO / "long4.t7", long_size=2)

    def test_true_and_1_are_two_keys(self):
        root = read_torch7(ZOO / "tables.t7").root
        assert (root[True], root[False], root[1], root[0]) == (b"yes", b"no", b"one", b"zero")


class TestMemory:
    def test_tensors_are_views_of_the_file(self):
        root = read_torch7(ZOO / "views.t7").root
        base, row, transposed = (root[name].numpy() for name in ("base", "row", "t"))
        assert np.shares_memory(base, row)
        assert np.shares_memory(base, transposed)
        assert not base.flags.owndata
        assert not base.flags.writeable

    def test_flattened_parameters_are_one_storage(self):
        modules = [m for m in walk(read_torch7(MODELS / "rmpe.t7").root) if isinstance(m, Torch7Object)]
        weights = [m.get("weight") for m in modules if isinstance(m.get("weight"), Tensor)]
        assert len(weights) > 400
        assert len({id(weight.storage) for weight in weights}) == 1

    def test_a_large_file_costs_no_memory(self, tmp_path: Path):
        path = write(tmp_path / "large.t7", tensor(np.zeros((1000, 5000), np.float32)))
        tracemalloc.start()
        root = read_torch7(path).root
        assert root.numpy().shape == (1000, 5000)
        assert tracemalloc.get_traced_memory()[1] < 1e6
        tracemalloc.stop()

    def test_the_writer_of_these_tests_writes_what_torch7_writes(self, tmp_path: Path):
        for name, how in (("long8.t7", {}), ("long4.t7", {"long_size": 4}), ("bigendian.t7", {"order": ">"})):
            root = read_torch7(ZOO / name).root
            assert write(tmp_path / name, root, **how).read_bytes() == (ZOO / name).read_bytes()


def nested(levels: int) -> bytes:
    """A table in a table in a table ..."""
    ends = b"".join(struct.pack("<iiiid", 3, i + 1, 1, 1, 1.0) for i in range(levels))
    return ends + struct.pack("<iii", 3, levels + 1, 0)


def one_tensor(size=(2, 3), stride=(3, 1), offset=1, storage=6, data=6) -> bytes:
    """A FloatTensor with these numbers, and `data` floats."""
    def torch(index: int, name: bytes) -> bytes:
        return struct.pack("<iii", 4, index, 3) + b"V 1" + struct.pack("<i", len(name)) + name

    dims = struct.pack(f"<i{2 * len(size) + 1}q", len(size), *size, *stride, offset)
    return torch(1, b"torch.FloatTensor") + dims + torch(2, b"torch.FloatStorage") + \
        struct.pack("<q", storage) + bytes(4 * data)


HOSTILE = {
    "a string of negative length": struct.pack("<ii", 2, -1),
    "a string longer than the file": struct.pack("<ii", 2, 1 << 30),
    "a table of 2^31 - 1 entries": struct.pack("<iii", 3, 1, (1 << 31) - 1),
    "a table of negative size": struct.pack("<iii", 3, 1, -5),
    "a table with nil as a key": struct.pack("<iiiii", 3, 1, 1, 0, 0),
    "a table with NaN as a key": struct.pack("<iiiidi", 3, 1, 1, 1, math.nan, 0),
    "an unknown type of object": struct.pack("<iiiid", 3, 1, 1, 1, 1.0) + struct.pack("<i", 77),
    "a storage of 2^40 elements": one_tensor(storage=1 << 40),
    "a storage of negative size": one_tensor(storage=-1),
    "a storage cut short": one_tensor(data=5),
    "2^31 - 1 dimensions": struct.pack("<iii", 4, 1, 3) + b"V 1" + struct.pack("<i", 17) + b"torch.FloatTensor" +
                           struct.pack("<i", (1 << 31) - 1) + bytes(64),
    "a stride out of the storage": one_tensor(stride=(4, 1)),
    "an offset out of the storage": one_tensor(offset=2),
    "an offset of 0": one_tensor(offset=0),
    "a negative stride": one_tensor(stride=(3, -1)),
    "a negative size": one_tensor(size=(2, -3)),
    "2^80 elements by stride 0": one_tensor(size=(1 << 40, 1 << 40), stride=(0, 0)),
    "an unknown class of tensors": one_tensor().replace(b"torch.FloatTensor", b"torch.QuarkTensor"),
    "a storage of another type": one_tensor().replace(b"torch.FloatStorage", b"torch.HalfStorages"[:18]),
    "a storage that is a table": one_tensor()[:one_tensor().index(b"V 1", 20) - 12] + struct.pack("<iii", 3, 2, 0),
    "a class name of negative length": struct.pack("<iii", 4, 1, -3),
    "a function longer than the file": struct.pack("<iii", 8, 1, 1 << 20),
    "a tds.Vec of 2^40": struct.pack("<iii", 4, 1, 3) + b"V 0" + struct.pack("<i", 7) + b"tds.Vec" +
                         struct.pack("<q", 1 << 40),
    "only a type": struct.pack("<i", 3),
    "ascii, a string longer than the file": b"2\n1000000000\nabc\n",
    "ascii, a huge number": b"3\n1\n" + b"9" * 100_000 + b"\n",
    "ascii, no number": b"3\n1\nx\n",
    "ascii, an underscore": b"2\n1_0\n0123456789\n",
    "ascii, a storage of 2^40": b"4\n1\n3\nV 1\n18\ntorch.FloatStorage\n1099511627776\n1 2 3\n",
    "ascii, a storage of words": b"4\n1\n3\nV 1\n18\ntorch.FloatStorage\n3\n1 two 3\n",
    "ascii, an int out of range": b"4\n1\n3\nV 1\n17\ntorch.LongStorage\n2\n1 99999999999999999999999\n",
    "zip": b"PK\x03\x04" + bytes(60),
    "html": b"<!DOCTYPE html><html>",
    "noise": bytes(range(9, 100)),
}


class TestHostile:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_is_a_sentence(self, name: str):
        with pytest.raises(FileError, match=r"hostile\.t7: .*(byte \d+|it begins with|this is)"):
            parse_torch7(HOSTILE[name], "hostile.t7")

    @pytest.mark.slow
    def test_200000_levels_are_read(self):
        value, depth = parse_torch7(nested(200_000)).root, 0
        while len(value):
            value, depth = value[1.0], depth + 1
        assert depth == 200_000

    @pytest.mark.slow
    def test_200000_levels_are_described(self, tmp_path: Path):
        (tmp_path / "deep.t7").write_bytes(nested(200_000))
        assert "[1] = table of 1" in describe_torch7(tmp_path / "deep.t7")

    def test_a_view_that_repeats_one_element_is_no_memory(self):
        value = parse_torch7(one_tensor(size=(1 << 30, 1 << 25), stride=(0, 0))).root
        assert value.numpy().shape == (1 << 30, 1 << 25)

    def test_a_missing_file_is_a_sentence(self, tmp_path: Path):
        with pytest.raises(FileError, match=r"none\.t7: No such file"):
            read_torch7(tmp_path / "none.t7")
        with pytest.raises(FileError, match="Is a directory"):
            read_torch7(tmp_path)

    def test_what_follows_the_first_object_does_not_hurt_it(self, tmp_path: Path):
        path = tmp_path / "more.t7"
        path.write_bytes((ZOO / "long8.t7").read_bytes() + b"\xff" * 10)
        file = read_torch7(path)
        assert (len(file.root), file.trailing) == (5, 10)
        assert "10 bytes at the end hold no object" in describe_torch7(path)

    @pytest.mark.parametrize("name", ["views.t7", "functions.t7", "tensors.ascii.t7", "bigendian.t7", "long4.t7",
                                      "custom.t7", "half.ascii.t7"])
    @pytest.mark.slow
    def test_cut_anywhere(self, name: str):
        data = (ZOO / name).read_bytes()
        for end in range(len(data)):
            attempt(data[:end])

    @pytest.mark.parametrize("name", ["views.t7", "functions.t7", "tensors.ascii.t7", "tables.t7", "bn_v1.t7"])
    @pytest.mark.slow
    def test_flipped_bytes(self, name: str):
        data, chance = (ZOO / name).read_bytes(), random.Random(1701)
        for _ in range(1500):
            damaged = bytearray(data)
            for _ in range(chance.choice((1, 1, 2, 8))):
                damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
            attempt(bytes(damaged))

    def test_a_long_line_of_small_storages(self):
        """Each is looked at for as long as it says it is, not to the end of the line."""
        count = 20_000
        began = time.process_time()
        data = b"".join(b"4\n%d\n3\nV 1\n16\ntorch.IntStorage\n1\n7\t" % (i + 1) for i in range(count))
        objects = parse_torch7(data).objects
        assert len(objects) == count
        assert time.process_time() - began < 2

    def test_damage_costs_no_memory(self):
        data, chance = (MODELS / "hourglass.cuda.t7").read_bytes(), random.Random(3)
        tracemalloc.start()
        for _ in range(8):
            damaged = bytearray(data)
            for _ in range(20):
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            attempt(bytes(damaged))
        assert tracemalloc.get_traced_memory()[1] < 60 * len(data)
        tracemalloc.stop()


def attempt(data: bytes) -> None:
    """Read all of it, or be told why not."""
    try:
        root = parse_torch7(data).root
    except RmpeError:  # any other exception is a bug
        return
    for value in walk(root):
        if isinstance(value, Tensor):
            assert value.numpy().ndim in (1, len(value.size))


OTHERS = ["options.t7", "cpp-torch/net.t7", "cpp-torch/x.t7", "cpp-torch/y.t7", "demos/face-detector-new_face.net",
          "demos/face-detector_face.net", "demos/preproc.t7", "demos/random.net", "demos/road-net_u1net.net",
          "demos/road-net_unsup-cl-30.net", "demos/unsupervised.net"]


class TestOtherPeoplesFiles:
    @pytest.mark.parametrize("name", OTHERS)
    def test_is_read_to_its_end(self, name: str):
        file = read_torch7(shared("torch7", "files", name))
        assert (len(file.objects), file.trailing, file.long_size) == (1, 0, 8)
        for value in walk(file.root):
            if isinstance(value, Tensor):
                value.numpy()

    def test_the_authors_options(self):
        root = read_torch7(shared("torch7", "files", "options.t7")).root
        assert [root[name] for name in ("nStack", "nParaStack", "nFeats", "nModules", "trainBatch", "LR")] == [
            8, 4, 256, 1, 1, 2.5e-4]
        assert len(root) == 49
        assert root["idxRef"]["train"].numpy().shape == (26294,)

    @pytest.mark.parametrize(("name", "want"), [
        ("hello=123", {b"hello": 123.0}), ("map_table1", None), ("map_table2", None), ("list_table", None)])
    def test_tables_of_torchfile(self, name: str, want: dict | None):
        root = read_torch7(shared("torch7", "files", "torchfile-tests", f"{name}.t7")).root
        assert len(root) > 0
        assert want is None or dict(root.items()) == want

    def test_the_rest_of_torchfile(self):
        folder = shared("torch7", "files", "torchfile-tests")
        read = {name: read_torch7(folder / f"{name}.t7").root for name in (
            "custom_class", "recursive_class", "recursive_kv_table", "doubletensor", "floattensor", "function",
            "function_upvals", "tds_hash", "tds_vec", "nngraph_node", "gmodule_with_linear_identity")}
        assert read["custom_class"].class_name == "Blah"
        assert read["recursive_class"].get("a") is read["recursive_class"]
        (key, value), = read["recursive_kv_table"].items()
        assert key is value is read["recursive_kv_table"]
        assert read["doubletensor"].numpy().shape == (2, 3)
        assert read["floattensor"].numpy().shape == (2, 3, 4)
        assert len(read["function"].code) == 218
        assert len(read["function_upvals"].upvalues) > 0
        assert dict(read["tds_hash"].fields.items()) == {2: 3, 10: 11, 1: 2}
        assert read["tds_vec"].fields.seq() == [123, 456]
        assert read["gmodule_with_linear_identity"].class_name == "nn.gModule"


class TestDescribe:
    def test_a_network(self):
        text = describe_torch7(MODELS / "rmpe.t7")
        assert "RMPE with STN, SPPE (stacked hourglass, 2 stacks) and SDTN, and the parallel SPPE (2 stacks)" in text
        assert "100,954 parameters (0.4 MB in single precision) in 1 storage; 1,076 modules" in text
        assert "mode: evaluation" in text
        assert "nn.SpatialConvolution, nInputPlane 3, nOutputPlane 8, kW 7, kH 7, dW 2, dH 2" in text
        assert max(map(len, text.splitlines())) < 250

    def test_the_hourglass_alone(self):
        text = describe_torch7(MODELS / "hourglass.cuda.t7")
        assert "network: stacked hourglass (SPPE alone), 2 stacks" in text

    def test_training_mode(self):
        assert "mode: training, in 1 module" in describe_torch7(MODELS / "uncleared_train.t7")

    def test_a_table(self):
        text = describe_torch7(ZOO / "tables.t7")
        assert "list = table of 3\n    [1] = 10\n    [2] = 20" in text
        assert "self = table of 18 (see above)" in text

    def test_a_large_table_is_cut(self, tmp_path: Path):
        text = describe_torch7(write(tmp_path / "many.t7", table(*range(5000))))
        assert text.count("\n") < 80
        assert text.endswith("...")

    def test_many_objects_are_cut(self, tmp_path: Path):
        (tmp_path / "nils.t7").write_bytes(b"0\n" * 5000)
        text = describe_torch7(tmp_path / "nils.t7")
        assert text.count("\n") < 200
        assert text.endswith("... and 4,940 more objects")

    def test_rmpe_show(self, capsys: pytest.CaptureFixture):
        assert main(["show", str(MODELS / "hourglass.cuda.t7")]) == 0
        assert "stacked hourglass (SPPE alone), 2 stacks" in capsys.readouterr().out

    def test_rmpe_show_of_a_damaged_file(self, tmp_path: Path, capsys: pytest.CaptureFixture):
        (tmp_path / "cut.t7").write_bytes((ZOO / "views.t7").read_bytes()[:700])
        assert main(["show", str(tmp_path / "cut.t7")]) == 1
        assert capsys.readouterr().err.startswith(f"rmpe: {tmp_path / 'cut.t7'}: not a readable Torch7 file")

    @pytest.mark.parametrize("name", ["views.t7", "tables.t7", "functions.t7", "bn_v1.t7"])
    def test_flipped_bytes(self, name: str, tmp_path: Path):
        data, chance, told = (ZOO / name).read_bytes(), random.Random(5), 0
        for _ in range(200):
            damaged = bytearray(data)
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            (tmp_path / "damaged.t7").write_bytes(damaged)
            try:
                told += len(describe_torch7(tmp_path / "damaged.t7")) > 0
            except RmpeError:  # any other exception is a bug
                continue
        assert told > 20

    def test_one_list_of_modules_in_many_places(self, tmp_path: Path):
        """Two levels of 3,000 modules each would be nine million lines; no more is made than is shown."""
        inner = module("nn.Sequential", *[module("nn.Identity")] * 3000)
        outer = module("nn.Sequential", *[inner] * 3000)
        path = write(tmp_path / "wide.t7", module("nn.Sequential", *[outer] * 3000))
        tracemalloc.start()
        assert describe_torch7(path).endswith("...")
        assert tracemalloc.get_traced_memory()[1] < 20e6
        tracemalloc.stop()

    def test_module_in_itself(self, tmp_path: Path):
        network = module("nn.Sequential")
        network.fields["modules"] = table(network)
        assert "nn.Sequential" in describe_torch7(write(tmp_path / "self.t7", network))
