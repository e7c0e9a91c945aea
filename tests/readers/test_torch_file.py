"""Files of torch.save read without torch's reader: the same tensors, and no memory for what a file only claims."""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch

from rmpe_legacy.caffe.weights import read_state
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.readers.torch_file import read_state_dict

BASE = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
STATES = {
    "types": {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in (
        torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool)},
    "views of one storage": {"all": BASE, "part": BASE[1, :, 1:3], "turned": BASE.permute(2, 0, 1)},
    "empty, and a single value": {"none": torch.empty(0, 3), "one": torch.tensor(2.5)},
    "a module's": torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict(),
    "nothing": torch.nn.ReLU().state_dict(),
    "parameters": OrderedDict(weight=torch.nn.Parameter(torch.ones(3))),
    "many": {f"layer{i}.weight": torch.full((3,), i, dtype=torch.float32) for i in range(300)},
}


def saved(state, **how) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_torch_saves(tmp_path, name, zipped, protocol):
    state = STATES[name]
    data = saved(state, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    (tmp_path / "a.pt").write_bytes(data)
    ours, theirs = read_state_dict(tmp_path / "a.pt")[0], torch.load(tmp_path / "a.pt", weights_only=protocol == 2)
    assert list(ours) == list(theirs) == list(state)
    for key, value in ours.items():
        assert value.dtype == theirs[key].dtype
        torch.testing.assert_close(value, theirs[key].detach(), rtol=0, atol=0)


def archive(pickled: bytes, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for name, content in members.items():
            file.writestr(f"archive/data/{name}", content)
    return buffer.getvalue()


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def tensor(size: str, stride: str = "(I1\n1t", offset: bytes = b"K\0", numel: bytes = b"K\4") -> bytes:
    """The pickle of {"a": a tensor}."""
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpu" + numel + b"tQ"
    return (b"\x80\x02}X\1\0\0\0actorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size.encode("latin-1")
            + stride.encode("latin-1") + b"\x89}tRs.")


HOSTILE = {
    "code": (archive(pickle.dumps({"a": Call(exec, "raise SystemExit(3)")}, 2)), "a call of __builtin__.exec, which"),
    "two gigabytes": (archive(pickle.dumps(Call(bytearray, 1 << 31), 2)), "a call of __builtin__.bytearray"),
    "a tensor of torch's own making": (archive(b"\x80\2ctorch\nTensor\n\x8a\5\0\0\0\x80\0\x85R."),
                                       "a call of torch.Tensor"),
    "a long memo": (archive(b"\x80\2]r\xff\xff\xff\xff."), "not a state dict"),
    "a length beyond the end": (archive(b"\x80\2X\xff\xff\xff\x7fabc."), "it ends, but 2147483647 more bytes are"),
    "marks without end": (archive(b"\x80\2" + b"(" * 1000), "more than 64 nested values"),
    "nothing remembered": (archive(b"\x80\2h\5."), "no object is stored under 5"),
    "keys that take ages to compare": (archive(b"\x80\2}K\1" + b"q\0h\0\x86" * 60 + b"K\1s."), "keys are not names"),
    "a checkpoint": (saved({"state_dict": {"a": BASE}, "epoch": 3}), "not a state dict, tensors by name"),
    "a whole module": (saved(torch.nn.Linear(2, 2)), "does not make a tensor .save net.state_dict"),
    "a script": (archive(b"\x80\2c__torch__\nModule\n)\x81."), "does not make a tensor"),
    "a size beyond the storage": (archive(tensor("(K\5t", "(K\1t"), **{"0": bytes(16)}), "not a dense"),
    "a stride beyond it": (archive(tensor("(K\2t", "(K\7t"), **{"0": bytes(16)}), "not a dense tensor"),
    "an offset beyond it": (archive(tensor("(K\1t", "(K\1t", b"K\4"), **{"0": bytes(16)}), "not a dense tensor"),
    "a negative stride": (archive(tensor("(K\2t", "(J\xff\xff\xff\xfft"), **{"0": bytes(16)}), "not a dense tensor"),
    "a negative offset": (archive(tensor("(K\1t", "(K\1t", b"J\xff\xff\xff\xff"), **{"0": bytes(16)}), "not a dense"),
    "values repeated by a stride of 0": (archive(tensor("(K\xfft", "(K\0t"), **{"0": bytes(16)}), "not a dense tensor"),
    "40 dimensions": (archive(tensor("(" + "K\1" * 40 + "t", "(" + "K\1" * 40 + "t"), **{"0": bytes(16)}), "dense"),
    "other numbers of sizes and strides": (archive(tensor("(K\1K\1t", "(K\1t"), **{"0": bytes(16)}), "not a dense"),
    "no storage": (archive(tensor("(K\4t", "(K\1t")), "not a dense tensor"),
    "a storage too short": (archive(tensor("(K\4t", "(K\1t"), **{"0": bytes(12)}), "not a dense tensor"),
    "a huge storage": (archive(tensor("(K\4t", "(K\1t", numel=b"\x8a\7" + b"\xff" * 6 + b"\0"), **{"0": bytes(16)}),
                       "not a dense tensor"),
    "no pickle": (saved({"a": BASE})[:10] + b"x", "not a readable file of tensors: File is not a zip file"),
    "big-endian": (saved({"a": BASE}).replace(b"little", b"big   "), "not little-endian"),
    "another pickle": (pickle.dumps([1, 2], 2), "a pickle, but not of torch.save"),
    "an old file cut off": (saved({"a": BASE}, _use_new_zipfile_serialization=False)[:-20], "a storage of 24 values"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_is_a_sentence(tmp_path, name):
    data, words = HOSTILE[name]
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(FileError, match=rf"a\.pt.*({words})"):
        read_state_dict(tmp_path / "a.pt")


def test_the_same_values_again_and_again(tmp_path):
    large = torch.zeros(1 << 18)
    (tmp_path / "a.pt").write_bytes(saved({f"x{i}": large for i in range(200)}))
    with pytest.raises(FileError, match="its tensors show the same values again and again"):
        read_state_dict(tmp_path / "a.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_cut_anywhere(tmp_path, zipped):
    data = saved(STATES["a module's"], _use_new_zipfile_serialization=zipped)
    for end in range(4, len(data), 11):
        (tmp_path / "a.pt").write_bytes(data[:end])
        with pytest.raises(RmpeError):
            read_state_dict(tmp_path / "a.pt")


@pytest.mark.parametrize("size", [0x280, 0x380, 0x480, 0x580, 0x4034B50], ids=hex)
def test_a_safetensors_whose_length_looks_like_a_start_of_these_files(tmp_path, size):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode().ljust(size)
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", size) + header + struct.pack("<2f", 1.5, -2))
    state = read_state(tmp_path / "a.safetensors")
    assert state.tensors["a"].tolist() == [1.5, -2]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_torch_saves_is_no_safetensors(tmp_path, zipped, protocol):
    data = saved({"a": BASE}, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    (tmp_path / "a.pt").write_bytes(data)
    assert torch.equal(read_state(tmp_path / "a.pt").tensors["a"], BASE)
