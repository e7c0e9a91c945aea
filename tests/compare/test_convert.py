"""rmpe convert, verify and hash: networks from one kind of file to another and back, from the command line."""

import json
import os
import runpy
import shutil
import struct
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import torch
from harness import GOLDEN
from packed import unpacked
from shared import shared

from rmpe_legacy import load_net
from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
from rmpe_legacy.caffe.weights import trained_layers
from rmpe_legacy.compare.verify import verify
from rmpe_legacy.formats.base import NetRunner
from rmpe_legacy.formats.network_json import load_converted
from rmpe_legacy.formats.npz import StoredRunner

V0 = GOLDEN / "layers" / "Net__v0_prototxt_v0_caffemodel"
MODELS = unpacked("torch7/models")
SMALL = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 16 dim: 18 } } }
layer { name: "conv.1" type: "Convolution" bottom: "data" top: "conv.1"
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv.1" top: "conv.1" }
layer { name: "scale" type: "Scale" bottom: "conv.1" top: "conv.1"
  scale_param { bias_term: true filler { value: 1.5 } } }
layer { name: "relu" type: "ReLU" bottom: "conv.1" top: "conv.1" }
layer { name: "pool" type: "Pooling" bottom: "conv.1" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "twin_a" type: "Convolution" bottom: "pool" top: "a" param { name: "shared" } param { name: "shared_b" }
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "twin_b" type: "Convolution" bottom: "pool" top: "b" param { name: "shared" } param { name: "shared_b" }
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "both" type: "Eltwise" bottom: "a" bottom: "b" top: "both" eltwise_param { coeff: 1 coeff: -0.5 } }
layer { name: "fc" type: "InnerProduct" bottom: "both" top: "fc"
  inner_product_param { num_output: 7 weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.1 } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    """A small network: prototxt and caffemodel, two of whose layers share their parameters."""
    torch.manual_seed(1701)
    prototxt, weights = tmp_path / "small.prototxt", tmp_path / "small.caffemodel"
    prototxt.write_text(SMALL)
    net = load_net(prototxt)
    net.params["bn"][2].fill_(2)
    net.params["bn"][0].copy_(torch.randn(5))
    net.params["bn"][1].copy_(torch.rand(5) + 1)
    write_caffemodel(weights, trained_layers(net))
    return prototxt, weights


def blobs(path: Path) -> dict[str, list[bytes]]:
    return {layer.name: [np.asarray(blob.data, "<f4").tobytes() for blob in layer.blobs]
            for layer in read_weights(path) if layer.blobs}


class TestConvert:
    @pytest.mark.parametrize("name", ["out.caffemodel", "out.caffemodel.h5", "out.safetensors", "out.pt", "out.onnx",
                                      "out.py", "out/"])
    def test_writes_compares_and_reports(self, rmpe, small, tmp_path, name):
        os.chdir(tmp_path)
        code, out, err = rmpe("convert", *small, name)
        assert (code, err) == (0, "")
        *written, verdict = out.splitlines()
        files = [Path(line.removeprefix("written to ")) for line in written]
        assert all(file.exists() for file in files)
        assert verdict.startswith("the same: ")
        report = files[-1].read_text()
        assert files[-1].name.endswith(".verify.html")
        assert verdict in report
        assert "conv.1 (Convolution), bn (BatchNorm), scale (Scale), relu (ReLU)" in report
        assert not list(tmp_path.glob(".*"))

    @pytest.mark.parametrize("through", ["through.safetensors", "through.pt", "through.caffemodel.h5"])
    def test_there_and_back_keeps_every_bit(self, rmpe, small, tmp_path, through):
        prototxt, weights = small
        back = tmp_path / "back.caffemodel"
        assert rmpe("convert", *small, tmp_path / through, "--no-verify")[0] == 0
        assert rmpe("convert", prototxt, tmp_path / through, back, "--no-verify")[0] == 0
        assert blobs(back) == blobs(weights)

    def test_safetensors_and_json_are_a_whole_network(self, rmpe, small, tmp_path):
        rmpe("convert", *small, tmp_path / "whole.safetensors", "--no-verify")
        net = load_converted(tmp_path / "whole.json")
        x = torch.randn(2, 3, 16, 18)
        assert torch.equal(net(data=x)["prob"], load_net(*small)(data=x)["prob"])
        code, out, _ = rmpe("convert", tmp_path / "whole.safetensors", tmp_path / "again.caffemodel")
        assert code == 0
        assert f"written to {tmp_path / 'again.prototxt'}" in out
        assert load_net(tmp_path / "again.prototxt").name == "small"

    def test_the_state_dict_is_that_of_the_net(self, rmpe, small, tmp_path):
        rmpe("convert", *small, tmp_path / "state.pt", "--no-verify")
        state, net = torch.load(tmp_path / "state.pt", weights_only=True), load_net(*small)
        assert state.keys() == net.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())

    def test_weights_alone_keep_every_bit(self, rmpe, tmp_path):
        code, out, _ = rmpe("convert", V0 / "weights.caffemodel", tmp_path / "v2.caffemodel")
        assert code == 0
        assert "the same: 4 blobs, every bit" in out
        assert blobs(tmp_path / "v2.caffemodel") == blobs(V0 / "weights.caffemodel")
        code, out, _ = rmpe("convert", tmp_path / "v2.caffemodel", tmp_path / "v2.caffemodel.h5")
        assert code == 0
        with h5py.File(tmp_path / "v2.caffemodel.h5") as file:
            assert set(file["data/conv1"]) == {"0", "1"}

    def test_a_caffemodel_without_a_null_is_one(self, rmpe, tmp_path):
        """A small one may have none: it was taken for text."""
        data = np.full(4, 0.3, np.float32)
        assert b"\0" not in data.tobytes()
        write_caffemodel(tmp_path / "a.caffemodel", [TrainedLayer("c", "Bias", (StoredBlob((4,), data),))])
        assert b"\0" not in (tmp_path / "a.caffemodel").read_bytes()
        code, out, _ = rmpe("convert", tmp_path / "a.caffemodel", tmp_path / "a.h5")
        assert code == 0
        assert "the same: 1 blob, every bit" in out
        assert blobs(tmp_path / "a.h5") == {"c": [data.tobytes()]}

    @pytest.mark.parametrize(("make", "path"), [(os.mkfifo, "out.onnx"), (os.mkdir, "out.pt")], ids=["pipe", "folder"])
    def test_only_regular_files_are_written(self, rmpe, small, tmp_path, make, path):
        """What is written is read again, and a pipe would be waited for."""
        make(tmp_path / path)
        code, out, err = rmpe("convert", *small, tmp_path / "out.onnx" if path == "out.onnx" else tmp_path / "out.py")
        assert (code, out) == (1, "")
        assert f"{path}: is a directory, a device or a pipe" in err
        assert sorted(each.name for each in tmp_path.glob("out*")) == [path]

    def test_legacy_shapes_stay_without_a_prototxt_and_are_the_networks_with_one(self, rmpe, tmp_path):
        def shapes(path: Path) -> list[tuple[int, ...]]:
            return [blob.shape for layer in read_weights(path) for blob in layer.blobs]

        assert rmpe("convert", V0 / "weights.caffemodel", tmp_path / "alone.caffemodel")[0] == 0
        assert shapes(tmp_path / "alone.caffemodel") == [(4, 3, 5, 5), (1, 1, 1, 4), (1, 1, 6, 16), (1, 1, 1, 6)]
        assert rmpe("convert", V0 / "net.prototxt", V0 / "weights.caffemodel", tmp_path / "net.caffemodel")[0] == 0
        assert shapes(tmp_path / "net.caffemodel") == [(4, 3, 5, 5), (4,), (6, 16), (6,)]

    def test_double_and_half_precision_stay(self, rmpe, tmp_path):
        folder = GOLDEN / "layers" / "Net__v1_double_blobs"
        files = folder / "net.prototxt", folder / "weights.caffemodel"
        rmpe("convert", *files, tmp_path / "a.safetensors", "--no-verify")
        rmpe("convert", tmp_path / "a.safetensors", tmp_path / "a.caffemodel", "--no-verify")
        before, after = (next(layer.blobs[0].data for layer in read_weights(path) if layer.blobs)
                         for path in (folder / "weights.caffemodel", tmp_path / "a.caffemodel"))
        assert before.dtype == after.dtype == np.float64
        assert before.tobytes() == after.tobytes()

    def test_an_old_prototxt_gets_todays_layout(self, rmpe, tmp_path):
        code, _, _ = rmpe("convert", V0 / "net.prototxt", tmp_path / "new.prototxt")
        assert code == 0
        text = (tmp_path / "new.prototxt").read_text()
        assert 'type: "Convolution"' in text
        assert rmpe("hash", V0 / "net.prototxt")[1] == rmpe("hash", tmp_path / "new.prototxt")[1]

    def test_until_converts_a_part(self, rmpe, small, tmp_path):
        code, _, _ = rmpe("convert", *small, tmp_path / "part.safetensors", "--until", "pool")
        assert code == 0
        net = load_converted(tmp_path / "part.json")
        assert net.outputs == ("pool",)
        assert set(net.params) == {"conv.1", "bn", "scale"}

    def test_onnx_takes_any_batch(self, rmpe, small, tmp_path):
        rmpe("convert", *small, tmp_path / "net.onnx", "--no-verify")
        model = onnx.load(tmp_path / "net.onnx")
        assert model.opset_import[0].version >= 18
        assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["N", 3, 16, 18]
        np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(5, 3, 16, 18)).astype(np.float32))
        code, out, _ = rmpe("verify", ",".join(map(str, small)), tmp_path / "net.onnx", "--input",
                            f"data={tmp_path / 'x.npy'}")
        assert code == 0
        assert "run on  data given" in out

    def test_model_py_needs_nothing_but_torch(self, rmpe, small, tmp_path):
        rmpe("convert", *small, tmp_path / "model.py", "--no-verify")
        text = (tmp_path / "model.py").read_text()
        imported = [line for line in text.splitlines() if line.startswith(("import", "from"))]
        assert imported == ["import torch", "import torch.nn.functional as F", "from torch import Tensor, nn"]
        net = runpy.run_path(str(tmp_path / "model.py"))["load"]()
        x = torch.randn(4, 3, 16, 18)
        with torch.no_grad():
            assert (net(x) - load_net(*small)(data=x)["prob"]).abs().max() < 1e-6
        assert {"conv_1.weight", "fc.bias"} <= net.state_dict().keys()


class TestVerify:
    def test_says_where_two_networks_part(self, rmpe, small, tmp_path):
        prototxt, weights = small
        net = load_net(*small)
        with torch.no_grad():
            net.params["twin_a"][0] += 0.01
        write_caffemodel(tmp_path / "other.caffemodel", trained_layers(net))
        code, out, err = rmpe("verify", f"{prototxt},{weights}", tmp_path / "other.caffemodel", "--html",
                              tmp_path / "page.html")
        assert (code, err) == (1, "")
        assert "the first is a, computed by twin_a (Convolution)" in out
        assert "<- first difference" in out
        page = (tmp_path / "page.html").read_text()
        assert "not the same" in page
        assert page.count("class=apart") == 6  # a, b, both, fc, prob, log(prob)

    def test_stored_blobs_bring_their_inputs(self, rmpe, small, tmp_path):
        np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(2, 3, 16, 18)))
        rmpe("forward", *small, "--input", f"data={tmp_path / 'x.npy'}", "--blobs", "all", "--output",
             tmp_path / "blobs.npz")
        code, out, _ = rmpe("verify", tmp_path / "blobs.npz", ",".join(map(str, small)))
        assert code == 0
        assert f"run on  data from {tmp_path / 'blobs.npz'}" in out
        assert "the same: 8 blobs differ by 0 of" in out

    @pytest.mark.parametrize("value", [np.nan, -np.inf])
    def test_inputs_that_hide_differences_are_refused(self, rmpe, small, tmp_path, value):
        np.save(tmp_path / "x.npy", np.full((2, 3, 16, 18), value))
        net = ",".join(map(str, small))
        code, out, err = rmpe("verify", net, net, "--input", f"data={tmp_path / 'x.npy'}")
        assert (code, out) == (2, "")
        assert err == "rmpe: input 'data' has values that are nan or infinite, which hide differences; give others\n"

    def test_nan_is_no_agreement(self, rmpe, small, tmp_path):
        net = load_net(*small)
        net.params["fc"][1].data[3] = float("nan")
        write_caffemodel(tmp_path / "nan.caffemodel", trained_layers(net))
        code, out, _ = rmpe("verify", ",".join(map(str, small)), tmp_path / "nan.caffemodel")
        assert code == 1
        assert "the first is fc, computed by fc (InnerProduct): NaN or infinity at different positions" in out

    def test_saturated_probabilities_are_compared_by_their_logarithms(self, rmpe, small, tmp_path):
        prototxt, _ = small
        net = load_net(*small)
        with torch.no_grad():
            net.params["fc"][1][0] = 12
        write_caffemodel(tmp_path / "a.caffemodel", trained_layers(net))
        with torch.no_grad():
            net.params["fc"][1][2] -= 0.05
        write_caffemodel(tmp_path / "b.caffemodel", trained_layers(net))
        out = rmpe("verify", f"{prototxt},{tmp_path / 'a.caffemodel'}", tmp_path / "b.caffemodel")[1]
        apart = {line.split()[0] for line in out.splitlines() if line.endswith("<-")}
        assert "log(prob)" in apart
        assert "prob" not in apart


    @pytest.mark.parametrize(("apart", "same"), [(1.2e-4, True), (6e-4, False)])
    def test_what_single_precision_costs_is_not_held_against_the_other_side(self, tmp_path, apart, same):
        (tmp_path / "net.prototxt").write_text(
            'layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 dim: 50 } } }\n'
            'layer { name: "one" type: "Scale" bottom: "x" top: "one" }\n'
            'layer { name: "up" type: "Power" bottom: "one" top: "up" power_param { shift: 1000 } }\n'
            'layer { name: "down" type: "Power" bottom: "up" top: "down" power_param { shift: -1000 } }')
        net = load_net(tmp_path / "net.prototxt")
        x = np.random.default_rng(3).uniform(-1, 1, (2, 50)).astype(np.float32)
        down = net(x=torch.from_numpy(x))["down"].detach().numpy()
        np.savez(tmp_path / "blobs.npz", x=x, down=down + np.float32(apart))
        verdict = verify(NetRunner(net, "net"), StoredRunner(tmp_path / "blobs.npz", "stored"))
        assert verdict.same is same
        assert 1e-4 < verdict.differences[-1].allowed < 2e-4


class TestHash:
    def test_does_not_depend_on_the_container(self, rmpe, small, tmp_path):
        prototxt, weights = small
        for name in ("a.safetensors", "a.pt", "a.caffemodel.h5", "b.caffemodel"):
            rmpe("convert", *small, tmp_path / name, "--no-verify")
        want = rmpe("hash", *small)[1]
        assert [line.split()[0] for line in want.splitlines()] == ["network", "weights"]
        assert rmpe("hash", tmp_path / "a.json")[1] == want
        assert rmpe("hash", prototxt, tmp_path / "a.pt")[1] == want
        assert rmpe("hash", prototxt, tmp_path / "a.caffemodel.h5")[1] == want
        for path in (weights, tmp_path / "b.caffemodel"):
            assert rmpe("hash", path)[1] == want.splitlines(keepends=True)[1]

    def test_v1_and_v2_files_of_the_same_weights(self, rmpe, tmp_path):
        rmpe("convert", V0 / "net.prototxt", V0 / "weights.caffemodel", tmp_path / "v2.caffemodel", "--no-verify")
        assert [layer.blobs[1].shape for layer in read_weights(tmp_path / "v2.caffemodel")
                if layer.name == "conv1"] == [(4,)]
        assert rmpe("hash", tmp_path / "v2.caffemodel")[1] == rmpe("hash", V0 / "weights.caffemodel")[1]

    def test_a_bit_a_name_or_a_setting_changes_it(self, rmpe, small, tmp_path):
        network, stored = (line.split()[1] for line in rmpe("hash", *small)[1].splitlines())
        net = load_net(*small)
        value = net.params["fc"][0].data[0]
        value[0] = torch.nextafter(value[0], torch.tensor(1.0))
        write_caffemodel(tmp_path / "bit.caffemodel", trained_layers(net))
        assert stored not in rmpe("hash", tmp_path / "bit.caffemodel")[1]
        for old, new, same in (("stride: 2", "stride: 1", False), ("prob", "chance", False), ("small", "big", True),
                               ("kernel_size: 3 stride: 2", "stride: 2 pool: MAX pad: 0 kernel_size: 3", True)):
            (tmp_path / "other.prototxt").write_text(SMALL.replace(old, new))
            assert (network in rmpe("hash", tmp_path / "other.prototxt")[1]) is same

    def test_a_t7_file_is_its_caffe_network(self, rmpe, tmp_path):
        t7 = MODELS / "hourglass.cuda.t7"
        rmpe("convert", t7, f"{tmp_path}/out/", "--no-verify")
        files = tmp_path / "out" / "hourglass.cuda.prototxt", tmp_path / "out" / "hourglass.cuda.caffemodel"
        assert rmpe("hash", t7)[1] == rmpe("hash", *files)[1]


def truncated(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: len(content) * 2 // 3]


class TestMistakes:
    @pytest.mark.parametrize(("argv", "words"), [
        (["convert", "small.prototxt", "out.onnx"],
         "has parameters (conv.1, bn, scale, twin_a, twin_b and 1 more), but no weights"),
        (["convert", "small.prototxt", "small.caffemodel", "out.xyz"], "its suffix does not say what to write"),
        (["convert", "small.prototxt", "small.caffemodel", "small.caffemodel"], "is one of the sources"),
        (["convert", "small.prototxt", "small.caffemodel", "no/out.onnx"], "there is no folder no; make it first"),
        (["convert", "small.prototxt", "small.caffemodel", "out.onnx", "--until", "pol"], "did you mean 'pool'?"),
        (["convert", "small.caffemodel", "out.onnx"], "for other formats give the prototxt"),
        (["convert", "a", "b", "c", "out.onnx"], "3 sources are given"),
        (["convert", "none.t7", "out/"], "none.t7: No such file or directory"),
        (["convert", "small.prototxt", "small.prototxt", "out.pt"], "this is text (a prototxt?)"),
        (["hash", "state.pt"], "does not say which of Caffe's blobs each tensor is; give the prototxt too"),
        (["convert", "run.onnx", "out.pt"], "run.onnx: a .onnx cannot be read back as a Caffe network; give the files"),
        (["convert", "run.py", "out/"], "run.py: a .py cannot be read back as a Caffe network; give the files"),
        (["hash", "run.npz"], "run.npz: a .npz cannot be read back as a Caffe network; give the files"),
        (["hash", "none"], "none: No such file or directory"),
        (["convert", "small.prototxt", "other.caffemodel", "out.prototxt"], "no weights for conv.1, bn, scale"),
    ])
    def test_are_one_sentence_and_leave_nothing(self, rmpe, small, tmp_path, argv, words):
        os.chdir(tmp_path)
        torch.save({"a.weight": torch.zeros(2)}, "state.pt")
        for name in ("run.onnx", "run.py", "run.npz"):
            Path(name).write_bytes(b"")
        write_caffemodel("other.caffemodel", [TrainedLayer("else", "Bias", (StoredBlob((1,), np.ones(1, "f4")),))])
        before = sorted(os.listdir())
        code, out, err = rmpe(*argv)
        assert (code, out) == (1, "")
        assert err.startswith("rmpe: ")
        assert words in err
        assert sorted(os.listdir()) == before

    def test_a_model_that_is_too_large_for_onnx(self, rmpe, small, tmp_path, monkeypatch):
        monkeypatch.setattr("rmpe_legacy.export.onnx_model.MAX_BYTES", 999)
        before = sorted(tmp_path.iterdir())
        code, out, err = rmpe("convert", *small, tmp_path / "large.onnx")
        assert (code, out) == (1, "")
        assert f"{tmp_path / 'large.onnx'}: would be 0.0 GiB; an ONNX file can hold at most 2 GiB" in err
        assert sorted(tmp_path.iterdir()) == before

    def test_a_model_is_read_anew_though_size_and_time_are_the_same(self, rmpe, small, tmp_path, monkeypatch):
        monkeypatch.setattr("sys.dont_write_bytecode", False)
        for code in ("raise SystemExit(1)\n", "raise SystemExit(2)\n"):
            (tmp_path / "ends.py").write_text(code)
            os.utime(tmp_path / "ends.py", (1, 1))
            _, _, err = rmpe("verify", tmp_path / "ends.py", f"{small[0]},{small[1]}")
        assert "ends.py: cannot be loaded: 2; expected a file that rmpe convert wrote" in err
        assert not (tmp_path / "__pycache__").exists()

    def test_a_model_that_ends_the_program_is_not_the_same(self, rmpe, small, tmp_path):
        (tmp_path / "ends.py").write_text("raise SystemExit(0)\n")
        code, out, err = rmpe("verify", tmp_path / "ends.py", f"{small[0]},{small[1]}")
        assert (code, out) == (2, "")
        assert "ends.py: cannot be loaded: 0; expected a file that rmpe convert wrote" in err

    @pytest.mark.parametrize(("a", "b", "words"), [
        ("none.onnx", "small.prototxt,small.caffemodel", "none.onnx: No such file or directory"),
        ("small.prototxt", "small.prototxt,small.caffemodel", "a prototxt has no weights"),
        ("small.caffemodel", "small.caffemodel", "weights alone do not say which network"),
        ("small.prototxt,small.caffemodel", "other.npz", "have no output name in common"),
        ("other.npz", "other.npz", "give them with --input"),
    ])
    def test_of_verify_have_exit_code_2(self, rmpe, small, tmp_path, a, b, words):
        os.chdir(tmp_path)
        np.savez("other.npz", elsewhere=np.zeros(3))
        code, _, err = rmpe("verify", a, b)
        assert code == 2
        assert words in err

    @pytest.mark.parametrize("name", ["out.onnx", "out.safetensors", "out.json", "out.pt", "out.caffemodel",
                                      "out.caffemodel.h5", "out.py", "blobs.npz", "out.t7"])
    @pytest.mark.parametrize("damage", ["truncated", "noise", "empty"])
    def test_damaged_files(self, rmpe, small, tmp_path, name, damage):
        os.chdir(tmp_path)
        for kind in ("safetensors", "pt", "onnx", "caffemodel.h5", "caffemodel"):
            rmpe("convert", *small, f"out.{kind}", "--no-verify")
        np.savez("blobs.npz", data=np.zeros((2, 3, 16, 18), np.float32), prob=np.zeros((2, 7)))
        if name == "out.py":
            rmpe("convert", *small, "out.py", "--no-verify", "--force")  # over the out.pt of before
        shutil.copy(MODELS / "rmpe.t7", "out.t7")
        content = {"truncated": truncated(Path(name)), "empty": b"",
                   "noise": np.random.default_rng(7).integers(0, 256, 5000, np.uint8).tobytes()}[damage]
        Path(name).write_bytes(content)
        code, _, err = rmpe("verify", "small.prototxt,small.caffemodel", name)
        assert code == 2
        assert err.startswith(f"rmpe: {name}: ")

    def test_a_safetensors_header_that_claims_too_much(self, rmpe, small, tmp_path):
        entry = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}
        header = json.dumps({"conv_1.weight": entry}).encode()
        (tmp_path / "big.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
        code, _, err = rmpe("convert", small[0], tmp_path / "big.safetensors", tmp_path / "out.caffemodel")
        assert code == 1
        assert "not a readable safetensors file" in err
        assert not (tmp_path / "out.caffemodel").exists()

    def test_a_pickle_that_would_run_something(self, rmpe, small, tmp_path):
        class Hostile:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "made"),)

        torch.save({"conv_1.weight": Hostile()}, tmp_path / "hostile.pt")
        code, _, err = rmpe("convert", small[0], tmp_path / "hostile.pt", tmp_path / "out.caffemodel")
        assert code == 1
        assert "hostile.pt: not a readable file of tensors" in err
        assert not (tmp_path / "made").exists()

    def test_json_with_values_of_the_wrong_kind(self, rmpe, small, tmp_path):
        rmpe("convert", *small, tmp_path / "net.safetensors", "--no-verify")
        text = (tmp_path / "net.json").read_text()
        (tmp_path / "net.json").write_text(text.replace('"num_output": 5', '"num_output": "five"'))
        code, _, err = rmpe("hash", tmp_path / "net.json")
        assert code == 1
        assert "num_output: expected uint32, got \"five\"" in err


@pytest.mark.parametrize("name", ["det1", "det2"])
@pytest.mark.parametrize("kind", ["onnx", "safetensors", "py", "caffemodel.h5", "caffemodel"])
def test_other_peoples_networks(rmpe, tmp_path, name, kind):
    files = shared("mtcnn", f"{name}.prototxt"), shared("mtcnn", f"{name}.caffemodel")
    code, out, _ = rmpe("convert", *files, tmp_path / f"net.{kind}")
    assert code == 0
    assert "\nthe same: " in out
