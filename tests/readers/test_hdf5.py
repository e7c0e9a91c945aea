"""HDF5 files read without HDF5's library: the same names, shapes, types and values as h5py gives; damage is refused."""

import random
from pathlib import Path

import h5py
import numpy as np
import pytest
from harness import GOLDEN

from rmpe_legacy.caffe.proto.hdf5 import read_hdf5_weights
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.readers.hdf5 import Dataset, Group, open_hdf5

FORMS = {"oldest": {}, "1.8": {"libver": ("earliest", "v108")}, "1.8 alone": {"libver": ("v108", "v108")},
         "newest": {"libver": "latest"}, "user's block": {"userblock_size": 1024}}
RNG = np.random.default_rng(1)
ARRAYS = {
    "single": (RNG.random((3, 4, 5)).astype("<f4"), {}),
    "double": (RNG.random(7), {}),
    "half": (RNG.random(9).astype(np.float16), {}),
    "big endian": (RNG.random((2, 3)).astype(">f8"), {}),
    "bytes": (np.arange(-3, 3, dtype=np.int8), {}),
    "unsigned": (np.arange(5, dtype=">u4"), {}),
    "long": (np.array([1 << 62, -5]), {}),
    "one value": (np.float32(2.5), {}),
    "no rows": (np.zeros((0, 3)), {}),
    "chunks": (RNG.random((10, 11)).astype(np.float32), {"chunks": (3, 4)}),
    "gzip": (RNG.random((30, 5)), {"chunks": (7, 5), "compression": "gzip"}),
    "gzip and shuffle": (np.arange(300.0).reshape(30, 10), {"chunks": (9, 4), "compression": "gzip", "shuffle": True}),
    "checksums": (RNG.random(101), {"chunks": (20,), "fletcher32": True}),
    "all filters": (np.arange(77, dtype=np.int16),
                    {"chunks": (10,), "fletcher32": True, "shuffle": True, "compression": 9}),
    "many chunks": (np.arange(2000.0), {"chunks": (2,)}),
    "growing": (np.arange(12.0).reshape(4, 3), {"chunks": (8, 3), "maxshape": (None, 3)}),
}
NEW_LAYOUT = {"chunks", "gzip", "gzip and shuffle", "checksums", "all filters", "many chunks", "growing"}


def write(path: Path, form: str, **arrays) -> Path:
    with h5py.File(path, "w", **FORMS[form]) as file:
        for name, (value, options) in arrays.items():
            file.create_dataset(name, data=value, **options)
    return path


def same(ours: Group, theirs: h5py.Group) -> int:
    """Compare everything below two groups; how many arrays there were."""
    assert list(ours) == sorted(theirs)
    count = 0
    for name in ours:
        mine, its = ours.get(name), theirs[name]
        if isinstance(its, h5py.Group):
            count += same(mine, its)
        elif its.dtype.kind in "fiu":
            assert isinstance(mine, Dataset)
            values = mine.read()
            assert values.dtype == its.dtype.newbyteorder("=")
            np.testing.assert_array_equal(values, its[()])
            count += 1
    return count


class TestLikeH5py:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("name", ARRAYS)
    def test_an_array(self, tmp_path, name, form):
        path = write(tmp_path / "a.h5", form, **{name: ARRAYS[name]})
        if form == "newest" and name in NEW_LAYOUT:
            with pytest.raises(FileError, match=r"layout is of version [45] .*; write the file again with h5py's"):
                open_hdf5(path).get(name).read()
            return
        with h5py.File(path) as file:
            assert same(open_hdf5(path), file) == 1

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("count", [0, 1, 8, 9, 100, 3000])
    @pytest.mark.slow
    def test_groups_of_any_size(self, tmp_path, count, form):
        names = [f"layer {i} {'x' * random.Random(i).randrange(40)}" for i in range(count)]
        path = write(tmp_path / "a.h5", form, **{f"g/{name}": (np.float32(i), {}) for i, name in enumerate(names)})
        if not count:
            assert list(open_hdf5(path)) == []
            return
        group = open_hdf5(path).get("g")
        assert list(group) == sorted(names)
        assert [float(group.get(name).read()) for name in names] == list(range(count))

    def test_names_in_utf8_and_in_bytes(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["größe"] = 1.0
            file[b"\xff"] = 2.0
        assert list(open_hdf5(tmp_path / "a.h5")) == ["größe", "\udcff"]

    def test_values_that_were_never_written(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("zeros", (3, 2), "f4")
            file.create_dataset("sevens", (5,), "f8", chunks=(2,), fillvalue=7)[2:4] = 1
        root = open_hdf5(tmp_path / "a.h5")
        np.testing.assert_array_equal(root.get("zeros").read(), np.zeros((3, 2)))
        np.testing.assert_array_equal(root.get("sevens").read(), [7, 7, 1, 1, 7])

    def test_a_compact_array(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            kind = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            kind.set_layout(h5py.h5d.COMPACT)
            space = h5py.h5s.create_simple((4,))
            made = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, kind)
            made.write(space, space, np.arange(4, dtype=np.float32))
        np.testing.assert_array_equal(open_hdf5(tmp_path / "a.h5").get("x").read(), np.arange(4))

    def test_every_golden_file(self):
        paths = sorted(GOLDEN.rglob("*.h5"))
        assert paths
        for path in paths:
            with h5py.File(path) as file:
                assert same(open_hdf5(path), file) > 0

    def test_values_are_views_of_the_file(self, tmp_path):
        values = open_hdf5(write(tmp_path / "a.h5", "oldest", x=ARRAYS["single"])).get("x").read()
        assert not values.flags.owndata
        assert not values.flags.writeable


class TestRefusals:
    def refused(self, path: Path, name: str, words: str) -> None:
        with pytest.raises(FileError, match=words):
            open_hdf5(path).get(name).read()

    @pytest.mark.parametrize(("value", "words"), [
        ("text", "holds values of any length"), (np.array([b"ab"]), "holds text"), (np.array([1j]), "holds "),
        (np.array([True]), "holds enumerated values"), (h5py.Empty("f4"), "holds no values"),
        (np.zeros(2, [("a", "f4")]), "holds records"),
    ])
    def test_what_is_no_array_of_numbers(self, tmp_path, value, words):
        self.refused(write(tmp_path / "a.h5", "oldest", x=(value, {})), "x", f"a.h5: /x: {words}")

    def test_other_compression(self, tmp_path):
        path = write(tmp_path / "a.h5", "oldest", x=(np.zeros(100), {"chunks": (10,), "compression": "lzf"}))
        self.refused(path, "x", "compressed with lzf")

    def test_a_virtual_array(self, tmp_path):
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "b.h5"), "x", (3,))
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_virtual_dataset("x", layout)
        self.refused(tmp_path / "a.h5", "x", "virtual")

    def test_a_chunk_that_was_changed(self, tmp_path):
        path = write(tmp_path / "a.h5", "oldest", x=(np.full(100, 1.25), {"chunks": (50,), "fletcher32": True}))
        data = path.read_bytes()
        at = data.index(np.full(50, 1.25).tobytes())
        path.write_bytes(data[:at] + b"\1" + data[at + 1 :])
        self.refused(path, "x", "a chunk with a wrong checksum")

    def test_zeros_without_end(self, tmp_path):
        path = write(tmp_path / "a.h5", "oldest",
                     x=(np.zeros((64, 1 << 20), np.uint8), {"chunks": (1, 1 << 20), "compression": 9}))
        assert path.stat().st_size < 500_000
        self.refused(path, "x", r"claims 67108864 bytes, too much for a file of \d+ bytes")

    def test_two_links_to_one_group_of_weights(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["data/a/0"] = np.zeros(3)
            file["data/b"] = file["data/a"]
        with pytest.raises(FileError, match=r"/data/b is a second link to /data/a"):
            read_hdf5_weights(tmp_path / "a.h5")

    def test_groups_without_end(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_group("data/" + "/".join("x" * 500))
        with pytest.raises(FileError, match="more than 32 nested groups"):
            read_hdf5_weights(tmp_path / "a.h5")

    def test_a_group_in_itself(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_group("data/a")
            file["data/a/again"] = file["data"]
        with pytest.raises(FileError, match="a second link"):
            read_hdf5_weights(tmp_path / "a.h5")

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.slow
    def test_any_byte_changed_and_cut_anywhere(self, tmp_path, form):
        """An answer or a FileError: nothing else, and no memory to speak of."""
        names = ("single", "big endian", "chunks", "all filters")
        arrays = {f"g/{name}": ARRAYS[name] for name in names if form != "newest" or name not in NEW_LAYOUT}
        many = {f"h/{i}": (np.float32(i), {}) for i in range(30)}
        data = write(tmp_path / "a.h5", form, **arrays, **many).read_bytes()
        rng, outcomes = random.Random(1701), set()
        used = [i for i in range(len(data)) if data[i]]
        for _ in range(1500):
            mutant = bytearray(data if rng.random() < 0.9 else data[: rng.randrange(len(data))])
            for _ in range(rng.randint(1, 3)):
                at = rng.choice(used)
                if at < len(mutant):
                    mutant[at] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
            (tmp_path / "b.h5").write_bytes(mutant)
            try:
                root = open_hdf5(tmp_path / "b.h5")
                for name in root:
                    group = root.get(name)
                    for member in group if isinstance(group, Group) else ():
                        if isinstance(found := group.get(member), Dataset):
                            found.read()
                outcomes.add("read")
            except RmpeError:
                outcomes.add("refused")
        assert outcomes == {"read", "refused"}
