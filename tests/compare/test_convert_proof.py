"""A conversion succeeds only if its result was run and found the same, and it overwrites nothing of anybody else's."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from packed import unpacked

from rmpe_legacy import RmpeError, load_net, load_torch7
from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
from rmpe_legacy.caffe.weights import trained_layers
from rmpe_legacy.compare.verify import verify
from rmpe_legacy.errors import NetError
from rmpe_legacy.export.onnx import to_onnx, write_onnx
from rmpe_legacy.formats.base import NetRunner, RunResult
from rmpe_legacy.formats.npz import StoredRunner
from rmpe_legacy.formats.onnx import OnnxRunner

MODELS = unpacked("torch7/models")
DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }\n'
SLASHES = DATA + """
layer { name: "c1/3x3" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 3
  weight_filler { type: "xavier" } } }
layer { name: "c1/3x3/bn" type: "BatchNorm" bottom: "c" top: "bn" }
layer { name: "c1/3x3/scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
"""
"""A layer inside a layer's name."""
TRAIN_VAL = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  data_param { source: "train_lmdb" batch_size: 5 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST } transform_param { crop_size: 4 }
  data_param { source: "nowhere_lmdb" batch_size: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3
  weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def network(text: str, name: str = "net") -> tuple[str, ...]:
    """A prototxt and, if it has parameters, a caffemodel of what its fillers make; both in the working directory."""
    torch.manual_seed(1701)
    Path(f"{name}.prototxt").write_bytes(text.encode("utf-8", "surrogateescape"))
    layers = trained_layers(load_net(f"{name}.prototxt"))
    if not layers:
        return (f"{name}.prototxt",)
    write_caffemodel(f"{name}.caffemodel", layers)
    return f"{name}.prototxt", f"{name}.caffemodel"


def run_onnx(path: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


class TestWeights:
    def test_a_layer_inside_a_layers_name_survives_hdf5(self, rmpe):
        files = network(SLASHES)
        names = ["c1/3x3", "c1/3x3/bn", "c1/3x3/scale"]
        assert [layer.name for layer in read_weights(files[1]) if layer.blobs] == names
        for source in (files, files[1:]):
            code, out, _ = rmpe("convert", *source, "out.caffemodel.h5", "--force")
            assert code == 0
            assert "the same: " in out
            assert sorted(layer.name for layer in read_weights("out.caffemodel.h5")) == names
        assert rmpe("convert", "out.caffemodel.h5", "back.caffemodel")[0] == 0
        before, after = ({layer.name: [blob.data.tobytes() for blob in layer.blobs]
                          for layer in read_weights(file) if layer.blobs} for file in (files[1], "back.caffemodel"))
        assert before == after

    def test_hdf5_of_others_with_datasets_and_groups_in_one_group(self):
        with h5py.File("own.h5", "w") as file:
            for name, count in (("a", 2), ("a/b", 3), ("a/b/c/d", 1), ("z/y", 1)):
                for i in range(count):
                    file.require_group(f"data/{name}").create_dataset(str(i), data=np.full(2, i, np.float32))
        assert {layer.name: len(layer.blobs) for layer in read_weights("own.h5")} == {
            "a": 2, "a/b": 3, "a/b/c/d": 1, "z/y": 1}

    @pytest.mark.parametrize("target", ["out.onnx", "out.caffemodel", "out.safetensors", "out.pt", "out.py", "out.h5"])
    @pytest.mark.parametrize("kept", [(), ("c1/3x3",)], ids=["none of the weights fit", "some of the weights fit"])
    def test_that_do_not_cover_the_network_are_refused(self, rmpe, kept, target):
        files = network(SLASHES)
        layers = [layer for layer in read_weights(files[1]) if layer.name in kept]
        write_caffemodel("part.caffemodel", [*layers, TrainedLayer("other", "", (StoredBlob((1,), np.ones(1, "f4")),))])
        before = sorted(os.listdir())
        code, out, err = rmpe("convert", files[0], "part.caffemodel", target)
        assert (code, out) == (1, "")
        missing = [name for name in ("c1/3x3", "c1/3x3/bn", "c1/3x3/scale") if name not in kept]
        assert f"no weights for {', '.join(missing)}, whose parameters would be random" in err
        assert sorted(os.listdir()) == before
        code, _, err = rmpe("convert", files[0], "part.caffemodel", target, "--lenient")
        assert code == 0
        assert "nothing for" in err
        assert "the network has no layer other: these weights are not used" in err

    def test_that_do_not_cover_the_network_are_refused_by_verify(self, rmpe):
        files = network(SLASHES)
        write_caffemodel("part.caffemodel", [layer for layer in read_weights(files[1]) if layer.name != "c1/3x3"])
        code, _, err = rmpe("verify", ",".join(files), f"{files[0]},part.caffemodel")
        assert code == 2
        assert "no weights for c1/3x3, whose parameters" in err
        assert rmpe("verify", ",".join(files), f"{files[0]},part.caffemodel", "--lenient")[0] == 1

    @pytest.mark.parametrize("name", ["a\\000b", "\\000"])
    def test_a_null_character_is_refused_for_hdf5(self, rmpe, name):
        files = network(DATA + f'layer {{ name: "{name}" type: "InnerProduct" bottom: "data" top: "y"\n'
                        '  inner_product_param { num_output: 2 } }\n')
        code, out, err = rmpe("convert", *files, "out.h5")
        assert (code, out) == (1, "")
        assert "has a name that HDF5 cannot hold; write another format, or rename the layer" in err

    def test_two_layers_of_one_name_keep_their_own_in_onnx(self, rmpe):
        layer = 'layer {{ name: "fc" type: "InnerProduct" bottom: "{}" top: "{}" inner_product_param ' \
                '{{ num_output: 4 weight_filler {{ type: "xavier" }} bias_filler {{ type: "uniform" }} }} }}\n'
        Path("net.prototxt").write_text(DATA.replace("dim: 3 dim: 4 dim: 4", "dim: 4") + layer.format("data", "a")
                                        + layer.format("a", "b"))
        net = load_net("net.prototxt")
        write_onnx("out.onnx", to_onnx(net)[0])
        assert verify(NetRunner(net, "net"), OnnxRunner(Path("out.onnx"), "onnx")).same


class TestNotProven:
    def test_a_network_without_outputs(self, rmpe):
        files = network(DATA + 'layer { name: "quiet" type: "Silence" bottom: "data" }\n')
        for target in ("out.onnx", "out.py"):
            code, _, err = rmpe("convert", *files, target)
            assert code == 1
            assert "has no outputs" in err
            assert "--until BLOB" in err
            assert not Path(target).exists()

    def test_a_comparison_that_cannot_be_made_is_no_success(self, rmpe, monkeypatch):
        def broken(*_):
            raise NetError("onnxruntime is not installed")

        monkeypatch.setattr("rmpe_legacy.formats.onnx.OnnxRunner", broken)
        code, out, err = rmpe("convert", *network(SLASHES), "out.onnx")
        assert code == 1
        assert "written to out.onnx" in out
        assert "not compared, so it may compute something else: onnxruntime is not installed" in err

    def test_a_result_that_differs_is_no_success(self, rmpe, monkeypatch):
        monkeypatch.setattr("rmpe_legacy.formats.safetensors.load_converted", lambda *_, **__: planted)
        files = network(SLASHES)
        planted = load_net(*files)
        planted.params["c1/3x3"][0].data[0, 0, 0, 0] += 0.1
        code, out, err = rmpe("convert", *files, "out.safetensors")
        assert code == 1
        assert "the same" not in out
        assert "not the same: " in err
        assert "the first is c" in err

    def test_a_prototxt_is_read_back(self, rmpe):
        code, out, _ = rmpe("convert", *network(SLASHES)[:1], "out.prototxt")
        assert code == 0
        assert "the same: 4 layers, every field" in out

    @pytest.mark.parametrize(("options", "words"), [
        (("--drop-parallel",), "--drop-parallel and --key apply only to .t7 files"),
        (("--key", "model"), "--drop-parallel and --key apply only to .t7 files"),
        (("--input-shape", "none=3,4,4"), "no input is called 'none'; the inputs are 'data'"),
        (("--input-shape", "3,4"), "its input has 4 axes (1 x 3 x 4 x 4)"),
        (("--input-shape", "3,5,5", "--input-shape", "3,6,6"), "gives two shapes for 'data'"),
        (("--input", "data=x.npy"), "add --input-shape data=1,3,5,7"),
    ])
    def test_an_option_without_effect_is_an_error(self, rmpe, options, words):
        files = network(SLASHES)
        np.save("x.npy", np.ones((1, 3, 5, 7), np.float32))
        before = sorted(os.listdir())
        code, out, err = rmpe("convert", *files, "out.onnx", *options)
        assert (code, out) == (1, "")
        assert words in err
        assert sorted(os.listdir()) == before

    def test_options_that_exclude_each_other(self, rmpe):
        code, out, err = rmpe("convert", *network(SLASHES), "out.onnx", "--no-verify", "--input", "data=x.npy")
        assert (code, out) == (2, "")
        assert "leave out one of them" in err

    def test_options_for_a_network_without_effect_on_others(self, rmpe):
        files = network(SLASHES)
        rmpe("convert", *files, "out.safetensors")
        for argv in (("out.safetensors", "x.onnx", "--phase", "TRAIN"),
                     (MODELS / "hourglass.cuda.t7", "x.onnx", "--dialect", "bvlc"),
                     (files[1], "x.caffemodel", "--until", "c"), (files[1], "x.caffemodel", "--input-shape", "3,4,4")):
            code, _, err = rmpe("convert", *argv)
            assert code == 1
            assert "no effect" in err or "need the prototxt too" in err
            assert not list(Path().glob("x.*"))


class TestInputShape:
    @pytest.mark.parametrize("shape", ["data=1,3,6,9", "data=3,6,9", "3,6,9", "1,3,6,9"])
    @pytest.mark.parametrize("target", ["out.onnx", "out.py", "out.prototxt", "out.safetensors"])
    def test_is_honoured(self, rmpe, shape, target):
        code, out, err = rmpe("convert", *network(SLASHES), target, "--input-shape", shape)
        assert (code, err) == (0, "")
        assert "the same" in out
        if target == "out.onnx":
            assert run_onnx(target, data=np.ones((1, 3, 6, 9), np.float32))["scale"].shape == (1, 2, 4, 7)
        elif target == "out.prototxt":
            assert load_net(target).inputs == {"data": (1, 3, 6, 9)}

    def test_of_the_old_input_fields(self, rmpe):
        text = SLASHES.replace(DATA, 'input: "data" input_dim: 1 input_dim: 3 input_dim: 1 input_dim: 1\n')
        Path("old.prototxt").write_text(text.replace("kernel_size: 3", "kernel_size: 1"))
        code, _, err = rmpe("convert", "old.prototxt", "out.prototxt", "--input-shape", "3,16,24")
        assert (code, err) == (0, "")
        assert load_net("out.prototxt").inputs == {"data": (1, 3, 16, 24)}


class TestTrainVal:
    @pytest.mark.parametrize("target", ["out.onnx", "out.py", "out.safetensors", "out.caffemodel", "out.prototxt"])
    @pytest.mark.parametrize("option", [("--until", "fc"), ()])
    def test_the_data_layer_becomes_an_input(self, rmpe, target, option):
        Path("train_val.prototxt").write_text(TRAIN_VAL)
        torch.manual_seed(2)
        torch.save(load_net("train_val.prototxt").state_dict(), "w.pt")
        code, out, err = rmpe("convert", "train_val.prototxt", "w.pt", target, *option)
        assert code == 0
        assert "the same" in out
        if target in ("out.onnx", "out.py") or option:
            assert "note: data (Data) became the input data (2 x 3 x 4 x 4)" in err
        if not option and target in ("out.onnx", "out.py"):
            assert "note: accuracy (Accuracy) is left out: it compares with labels" in err
            assert "note: loss (SoftmaxWithLoss) is left out: it compares with labels" in err
        if target == "out.onnx":
            x = np.random.default_rng(1).random((2, 3, 4, 4), np.float32)
            want = load_net("train_val.prototxt", "w.pt", keep_blobs=True)
            want(data=torch.from_numpy(x), label=torch.zeros(2))
            np.testing.assert_allclose(run_onnx(target, data=x)["fc"], want.blobs["fc"].detach().numpy(), rtol=1e-5)

    def test_a_shape_that_nothing_tells_can_be_given(self, rmpe):
        Path("train_val.prototxt").write_text(TRAIN_VAL.replace("transform_param { crop_size: 4 }", ""))
        torch.save({"fc.weight": torch.ones(3, 108), "fc.bias": torch.ones(3)}, "w.pt")
        code, _, err = rmpe("convert", "train_val.prototxt", "w.pt", "out.onnx", "--until", "fc")
        assert code == 1
        assert "add --input-shape data=CHANNELS,HEIGHT,WIDTH" in err
        code, out, err = rmpe("convert", "train_val.prototxt", "w.pt", "out.onnx", "--until", "fc", "--input-shape",
                            "data=2,3,6,6")
        assert code == 0, (out, err)
        assert run_onnx("out.onnx", data=np.ones((2, 3, 6, 6), np.float32))["fc"].tolist() == [[109] * 3] * 2


class TestWhatBecomesAnInput:
    FC = """layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3
      weight_filler { type: "xavier" } } }
    """
    DUMMY = """layer { name: "made" type: "DummyData" top: "data" top: "info"
      dummy_data_param { shape { dim: [1, 3, 4, 4] } shape { dim: [1, 3] } } }
    """

    def test_a_python_layer_that_is_fed(self, rmpe):
        files = network("""layer { name: "input" type: "Python" top: "data" top: "rois" top: "labels"
          python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer" param_str: "'num_classes': 3" } }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2
          kernel_size: 8 stride: 40 weight_filler { type: "xavier" } } }
        layer { name: "pool" type: "ROIPooling" bottom: "conv" bottom: "rois" top: "pool"
          roi_pooling_param { pooled_w: 2 pooled_h: 2 spatial_scale: 0.025 } }
        layer { name: "score" type: "InnerProduct" bottom: "pool" top: "score" inner_product_param { num_output: 3
          weight_filler { type: "xavier" } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "labels" top: "loss" }""")
        code, out, err = rmpe("convert", *files, "out.onnx")
        assert code == 0, err
        assert "the same: 3 blobs " in out
        assert ("note: input (Python) became the input data (2 x 3 x 600 x 1000) and the input rois (1 x 5) and the "
                "input labels (1)") in err

    def test_dummy_data_where_nothing_else_is_an_input(self, rmpe):
        code, out, err = rmpe("convert", *network(self.DUMMY + self.FC), "out.onnx")
        assert code == 0, err
        assert "the same: 2 blobs " in out
        assert "note: made (DummyData) became the input data (1 x 3 x 4 x 4) and the input info (1 x 3)" in err

    def test_dummy_data_beside_an_input_stays(self, rmpe):
        text = DATA + self.DUMMY.replace('top: "data" ', "").replace("shape { dim: [1, 3, 4, 4] } ", "") + self.FC
        sums = 'layer { name: "sum" type: "Eltwise" bottom: "fc" bottom: "info" top: "sum" }'
        code, _, err = rmpe("convert", *network(text + sums), "out.onnx")
        assert code == 1
        assert "made (DummyData): produces its values itself, from files or fillers" in err

    def test_layers_that_write_files_are_left_out(self, rmpe):
        Path("list.txt").write_text("one\n")
        files = network(DATA + self.FC + """layer { name: "written" type: "MatWrite" bottom: "fc"
          mat_write_param { prefix: "out/" source: "list.txt" } }""")
        code, out, err = rmpe("convert", *files, "out.onnx")
        assert code == 0, err
        assert "the same: 1 blob " in out
        assert "note: written (MatWrite) is left out: it writes files" in err


class TestOverwriting:
    def test_a_second_run_replaces_what_the_first_wrote_and_says_so(self, rmpe):
        files = network(SLASHES)
        for target in ("out.onnx", "out.py", "out.safetensors", "out.pt", "out/", "out.prototxt"):
            first = rmpe("convert", *files, target)
            assert first[0] == 0
            code, _, err = rmpe("convert", *files, target)
            assert code == 0
            for line in first[1].splitlines()[:-1]:
                file = line.removeprefix("written to ")
                assert file.endswith(".verify.html") or f"{file} already existed and is replaced" in err
            for path in Path().glob("out*"):
                if path.is_file():
                    path.unlink()

    @pytest.mark.parametrize(("target", "victim"), [
        ("d1.py", "d1.pt"), ("d1.py", "d1.py"), ("d1.safetensors", "d1.json"), ("d1.onnx", "d1.onnx"),
        ("d1.prototxt", "d1.prototxt"), ("d1.onnx", "d1.onnx.verify.html")])
    def test_a_file_of_somebody_else_is_kept(self, rmpe, target, victim):
        files = network(SLASHES)
        Path(victim).write_text("<html>mine</html>" if victim.endswith("html") else "mine")
        before = Path(victim).read_bytes()
        code, _, err = rmpe("convert", *files, target)
        assert code == 1
        assert f"{victim}: already exists" in err
        assert Path(victim).read_bytes() == before

    def test_the_weights_of_another_conversion_are_kept(self, rmpe):
        files = network(SLASHES)
        assert rmpe("convert", *files, "d1.pt")[0] == 0
        before = Path("d1.pt").read_bytes()
        code, _, err = rmpe("convert", *files, "d1.py")
        assert code == 1
        assert "d1.pt: already exists, and no earlier conversion to d1.py wrote it" in err
        assert Path("d1.pt").read_bytes() == before
        assert not Path("d1.py").exists()
        code, _, err = rmpe("convert", *files, "d1.py", "--force")
        assert code == 0
        assert "d1.pt already existed and is replaced" in err

    def test_not_even_by_force_if_it_is_of_another_kind(self, rmpe):
        Path("d1.onnx").write_bytes(b"\xff\xd8\xff\xe0 a photograph")
        code, _, err = rmpe("convert", *network(SLASHES), "d1.onnx", "--force")
        assert code == 1
        assert "holds a JPEG image, not binary data" in err


class TestVerify:
    PAIR = DATA + """
layer { name: "a-b" type: "InnerProduct" bottom: "data" top: "a-b" inner_product_param { num_output: 3
  weight_filler { type: "xavier" } } }
layer { name: "a_b" type: "InnerProduct" bottom: "data" top: "a_b" inner_product_param { num_output: 3
  weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "a_b" bottom: "a-b" top: "float" eltwise_param { coeff: 1 coeff: -2 } }
layer { name: "len" type: "Power" bottom: "float" top: "len" power_param { power: 3 } }
"""

    @pytest.mark.parametrize("target", ["out.onnx", "out.py", "out.safetensors"])
    def test_names_that_differ_in_punctuation_or_are_pythons(self, rmpe, target):
        files = network(self.PAIR)
        code, out, err = rmpe("convert", *files, target)
        assert (code, err) == (0, "")
        assert "the same: 4 blobs" in out or "the same: 5 blobs" in out
        exchanged = [TrainedLayer({"a-b": "a_b", "a_b": "a-b"}[layer.name], layer.type, layer.blobs)
                     for layer in read_weights(files[1]) if layer.blobs]
        write_caffemodel("exchanged.caffemodel", exchanged)
        assert rmpe("verify", f"{files[0]},exchanged.caffemodel", target)[0] == 1

    def test_a_sigmoids_lower_end_is_caffes(self, rmpe):
        files = network(DATA + 'layer { name: "p" type: "Power" bottom: "data" top: "x" power_param { scale: 30 } }\n'
                        'layer { name: "s" type: "Sigmoid" bottom: "x" top: "s" }\n')
        code, out, err = rmpe("convert", *files, "out.onnx")
        assert code == 0, (out, err)
        x = np.linspace(-3, 1, 48, dtype=np.float32).reshape(1, 3, 4, 4)
        want = 1 / (1 + np.exp(-30 * x.astype(np.float64)))
        np.testing.assert_allclose(run_onnx("out.onnx", data=x)["s"], want, rtol=1e-5, atol=1e-38)

    ROWS = np.array([[0, 1, 0.9, 1, 1, 2, 2], [0, 1, 0.5, 3, 3, 4, 4], [0, 1, 0.5, 5, 5, 6, 6], [0, 1, 0.5, 7, 7, 8, 8],
                     [0, 1, 0.2, 1, 2, 3, 4], [0, 2, 0.5, 9, 9, 9, 9], [1, 2, 0.5, 8, 8, 8, 8]], np.float32)

    @pytest.mark.parametrize(("order", "same"), [
        ((0, 1, 2, 3, 4, 5, 6), True), ((0, 3, 1, 2, 4, 5, 6), True), ((0, 2, 1, 3, 4, 5, 6), True),
        ((1, 0, 2, 3, 4, 5, 6), False), ((0, 1, 2, 4, 3, 5, 6), False), ((0, 1, 2, 3, 4, 6, 5), False),
        ((0, 1, 1, 3, 4, 5, 6), False)])
    def test_equal_scores_may_come_in_any_order_and_nothing_else(self, order, same):
        Path("net.prototxt").write_text(DATA)
        detections = NetRunner(load_net("net.prototxt"), "a")
        a, b = self.ROWS.reshape(1, 1, -1, 7), self.ROWS[list(order)].reshape(1, 1, -1, 7)

        def gives(rows):
            def run(*_):
                return RunResult({"found": rows}, ("found",), {"found": "found (DetectionOutput)"}, frozenset(),
                                 frozenset({"found"}))
            return run

        other = NetRunner(load_net("net.prototxt"), "b")
        detections.run, other.run = gives(a), gives(b)
        assert verify(detections, other).same is same

    def test_stored_blobs_beside_a_network(self):
        files = network(SLASHES)
        net = load_net(*files)
        x = torch.rand(1, 3, 4, 4)
        out = net(data=x)["scale"].detach().numpy()
        np.savez("right.npz", data=x, scale=out)
        np.savez("wrong.npz", data=x, scale=out * 1.01)
        for name, same in (("right", True), ("wrong", False)):
            assert verify(NetRunner(net, "net"), StoredRunner(Path(f"{name}.npz"), name)).same is same


class TestSplit:
    TEXT = DATA + """
layer { name: "own" type: "Split" bottom: "data" top: "left" top: "right" }
layer { name: "relu" type: "ReLU" bottom: "left" top: "left" }
"""

    def test_of_the_prototxt_is_a_layer_like_others(self, rmpe):
        files = network(self.TEXT)
        code, out, _ = rmpe("show", files[0])
        assert code == 0
        assert "own" in out
        assert "outputs: left, right" in out
        np.save("x.npy", np.ones((1, 3, 4, 4), np.float32))
        assert rmpe("forward", files[0], "--input", "data=x.npy", "--blobs", "all")[0] == 0
        assert sorted(np.load("blobs.npz")) == ["data", "left", "right"]
        assert rmpe("convert", *files, "out.onnx")[0] == 0

    def test_of_our_own_is_not(self, rmpe):
        text = self.TEXT.replace('"own" type: "Split"', '"own" type: "Power"').replace(' top: "right"', "")
        files = network(text + 'layer { name: "b" type: "Power" bottom: "left" top: "b" }\n'
                        'layer { name: "c" type: "Power" bottom: "left" top: "c" }\n')
        out = rmpe("show", files[0])[1]
        assert "split" not in out
        assert "outputs: b, c" in out


class TestHostileNames:
    NAMES = ('x"""\n    __import__("os").system("touch RAN")\n    """', '"""', "'''", "\\", 'a\\"', "\x1b[31m", "a\nb",
             "{x}", "%s", "\udcff\udcfe", "", "__conv1", "__init__", "__class__", "forward", "self", "torch", "None",
             "import", "2stack", "lambda", "float", "BLOBS", "é", "\u2028", "../up", "a/b/../c", "x" * 3000)

    @pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
    def test_nothing_of_a_name_is_run_or_lost(self, rmpe, name):
        quoted = "".join(f"\\{byte:03o}" for byte in name.encode("utf-8", "surrogateescape"))
        files = network(f'name: "{quoted}"\n{DATA}'
                        f'layer {{ name: "{quoted}" type: "InnerProduct" bottom: "data" top: "{quoted}"\n'
                        f'  inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}\n'
                        f'layer {{ name: "end" type: "Power" bottom: "{quoted}" top: "{quoted}2" }}\n')
        for target in ("out.py", "out.onnx", "out.safetensors", "state.pt", "out.caffemodel", "out.prototxt"):
            code, out, err = rmpe("convert", *files, target)
            assert (code, err) == (0, ""), target
            assert "the same" in out
        assert not Path("RAN").exists()
        tree = ast.parse(Path("out.py").read_text())
        assert {type(node) for node in tree.body} <= {ast.Expr, ast.Import, ast.ImportFrom, ast.ClassDef,
                                                      ast.FunctionDef, ast.Assign}
        assert all(isinstance(node.value, ast.Constant) for node in tree.body if isinstance(node, ast.Expr))
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Name) or node.id != "__import__"
        code = "import out, torch; print(out.load()(torch.ones(1, 3, 4, 4)).shape)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout == "torch.Size([1, 2])\n", done.stderr

    @pytest.mark.parametrize("names", [("卷积", "池化"), ("_", "__"), ("+", "-")])
    def test_names_without_a_latin_letter(self, rmpe, names):
        """A name with two leading underscores would be another one inside a class."""
        files = network(DATA + "".join(
            f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}"\n'
            '  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }\n'
            for bottom, name in zip(("data", names[0]), names, strict=True)))
        code, out, err = rmpe("convert", *files, "out.py")
        assert (code, err) == (0, "")
        assert "the same" in out

    def test_a_comparison_shows_names_as_text(self, rmpe):
        files = network(DATA + 'layer { name: "a" type: "Power" bottom: "data" top: "<i>\\033[31m\\342\\200\\256" }\n')
        assert rmpe("convert", *files, "out.onnx")[0] == 0
        assert "&lt;i&gt;\\x1b[31m\\u202e<" in Path("out.onnx.verify.html").read_text("utf-8")

    def test_a_file_name_cannot_end_the_docstring(self, rmpe):
        name = 'a"""\nopen("RAN", "w")\n"""'
        code, out, err = rmpe("convert", *network(SLASHES, name), "out.py")
        assert code == 0, (out, err)
        runpy = subprocess.run([sys.executable, "out.py"], check=False)
        assert runpy.returncode == 0
        assert not Path("RAN").exists()

    def test_of_a_json_network(self, rmpe):
        rmpe("convert", *network(SLASHES), "out.safetensors")
        document = json.loads(Path("out.json").read_text())
        document["net"]["layer"][-1]["top"] = ['"""\nopen("RAN", "w")\n"""']
        document["net"]["name"] = '"""\nopen("RAN", "w")\n"""'
        Path("out.json").write_text(json.dumps(document))
        assert rmpe("convert", "out.json", "other.py")[0] == 0
        subprocess.run([sys.executable, "other.py"], check=True)
        assert not Path("RAN").exists()


class TestTorch7Table:
    MODEL = MODELS / "hourglass.cuda.t7"

    def test_says_which_entries_are_networks(self):
        from rmpe_legacy.errors import FileError
        from rmpe_legacy.torch7.load import build_module
        from rmpe_legacy.torch7.objects import Table
        from rmpe_legacy.torch7.reader import read_torch7

        file = read_torch7(self.MODEL)
        network, table = file.root, Table()
        table[b"model"], table[1.0], table[b"epoch"] = network, network, 3.0
        file = replace(file, objects=(table,))
        networks = r"'model' \(nn.gModule\), '1' \(nn.gModule\)"
        with pytest.raises(FileError, match=f"holds a table, not a network; its networks are {networks}"):
            build_module(file)
        with pytest.raises(FileError, match="has no network under 'epoch'"):
            build_module(file, key="epoch")
        assert type(build_module(file, key="model")) is type(build_module(file, key="1"))

    def test_a_key_for_a_file_without_a_table(self):
        with pytest.raises(RmpeError, match=r"holds a network .*, not a table; leave out the key"):
            load_torch7(self.MODEL, key="model")


def test_every_value_of_an_onnx_file_is_utf8(rmpe):
    files = network(DATA + 'layer { name: "\\377" type: "Power" bottom: "data" top: "\\376" }\n')
    assert rmpe("convert", *files, "out.onnx")[0] == 0
    model = onnx.load("out.onnx")
    assert model.graph.output[0].name == "\\xfe"


class TestANetworkThatOverflows:
    """On ordinary inputs, as untrained BatchNorms do: a variance of 0 multiplies by 316."""

    LAYER = """
layer {{ name: "c{i}" type: "Convolution" bottom: "{bottom}" top: "c{i}" convolution_param {{ num_output: 4
  kernel_size: 3 pad: 1 bias_term: false weight_filler {{ type: "msra" }} }} }}
layer {{ name: "b{i}" type: "BatchNorm" bottom: "c{i}" top: "b{i}" batch_norm_param {{ use_global_stats: true }} }}
layer {{ name: "r{i}" type: "ReLU" bottom: "b{i}" top: "b{i}" }}"""

    @pytest.fixture
    def deep(self):
        layers = (self.LAYER.format(i=i, bottom=f"b{i - 1}" if i else "data") for i in range(60))
        return network(DATA + "".join(layers))

    def test_is_compared_with_scaled_blobs(self, rmpe, deep):
        code, out, err = rmpe("convert", *deep, "net.onnx")
        assert code == 0, err
        assert "the same: 60 blobs" in out
        assert "the network overflows, so b2, " in out
        assert "were scaled to a range of 1" in Path("net.onnx.verify.html").read_text()

    def test_is_still_told_from_another(self, rmpe, deep):
        rmpe("convert", *deep, "net.onnx")
        model = onnx.load("net.onnx")
        weight = [each for each in model.graph.initializer if len(each.dims) == 4][-1]
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.001, weight.name))
        onnx.save(model, "other.onnx")
        code, out, _ = rmpe("verify", ",".join(deep), "other.onnx")
        assert code == 1
        assert "not the same: 1 of 60 blobs" in out


CHOOSING = {
    "ArgMax": 'type: "ArgMax" argmax_param { axis: 1 }',
    "Threshold": 'type: "Threshold" threshold_param { threshold: 1 }',
    "Nms": 'type: "Nms" nms_param { num_parts: 1 max_peaks: 2 threshold: 1 }',
    "mask": 'type: "Pooling" top: "mask" pooling_param { kernel_size: 3 stride: 2 }',
}


class TestALayerThatComparesOrRounds:
    """A last bit of its bottom can change its top altogether, so it is compared on the same values."""

    TEXT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } }
layer { name: "sum" type: "Convolution" bottom: "data" top: "sum" convolution_param { num_output: 2 kernel_size: 1
  bias_term: false weight_filler { type: "constant" value: 1 } } }
layer { name: "l" bottom: "sum" top: "chosen" %s }
layer { name: "end" type: "Power" bottom: "chosen" top: "end" power_param { scale: 3 } }"""
    @pytest.fixture(params=CHOOSING)
    def made(self, request, rmpe):
        """The network, and its ONNX with a weight that is a last bit too large."""
        files = network(self.TEXT % CHOOSING[request.param])
        assert rmpe("convert", *files, "net.onnx")[0] == 0
        model = onnx.load("net.onnx")
        self.change(model, np.ones((2, 2, 1, 1), "f4"), np.array([1, 1 + 1e-6, 1, 1], "f4").reshape(2, 2, 1, 1))
        onnx.save(model, "net.onnx")
        x = np.zeros((1, 2, 5, 5), np.float32)
        x[0, 0, 2, 1] = x[0, 1, 2, 2] = 1  # two equal sums side by side
        return NetRunner(load_net(*files), "net"), {"data": x}

    @staticmethod
    def change(model, before, after):
        weight = next(each for each in model.graph.initializer
                      if np.array_equal(onnx.numpy_helper.to_array(each), before))
        weight.CopyFrom(onnx.numpy_helper.from_array(after, weight.name))

    def test_is_compared_on_the_same_values(self, made):
        net, x = made
        other = OnnxRunner(Path("net.onnx"), "net.onnx")
        a, b = net.run(x).blobs, other.run(x).blobs
        assert any(np.abs(a[blob] - b[blob]).max() >= 1 for blob in a.keys() & b.keys())
        verdict = verify(net, other, x)
        assert verdict.same, verdict
        assert "layers that read sum" in verdict.sentence

    def test_no_double_precision_where_it_cannot_explain_the_difference(self, made, monkeypatch):
        net, x = made
        exact, runs = NetRunner.exact, []
        monkeypatch.setattr(NetRunner, "exact", lambda self, *values: (runs.append(1), exact(self, *values))[1])
        assert verify(net, OnnxRunner(Path("net.onnx"), "net.onnx"), x).same
        assert not runs

    def test_what_reads_it_is_still_told_from_another(self, made):
        net, x = made
        model = onnx.load("net.onnx")
        self.change(model, np.float32(3), np.float32(3.01))
        onnx.save(model, "other.onnx")
        x["data"] *= np.float32([[[[2]], [[3]]]])
        verdict = verify(net, OnnxRunner(Path("other.onnx"), "other.onnx"), x)
        assert verdict.first.blob == "end"

    def test_rounding_explains_a_difference_of_what_it_reads(self, rmpe):
        powers = """layer { name: "up" type: "Power" bottom: "sum" top: "up" power_param { shift: 10000 } }
            layer { name: "down" type: "Power" bottom: "up" top: "down" power_param { shift: -10000 } }"""
        text = self.TEXT.replace('layer { name: "l" bottom: "sum"', powers + ' layer { name: "l" bottom: "down"')
        files = network(text % CHOOSING["ArgMax"])
        assert rmpe("convert", *files, "net.onnx")[0] == 0
        model = onnx.load("net.onnx")
        self.change(model, np.ones((2, 2, 1, 1), "f4"), np.array([1, 1 + 1e-4, 1, 1], "f4").reshape(2, 2, 1, 1))
        onnx.save(model, "net.onnx")
        x = np.ones((1, 2, 5, 5), np.float32)
        x[0, 0] = 2.0**-11 - 2e-5  # 10001 and this are rounded down, and with 1e-4 more up, by about 2^-11
        verdict = verify(NetRunner(load_net(*files), "net"), OnnxRunner(Path("net.onnx"), "net.onnx"), {"data": x})
        assert "down" in verdict.given
        down = next(each for each in verdict.differences if each.blob == "down")
        assert verdict.tolerance < down.relative < down.allowed < 1e-2
        assert verdict.same, verdict

    @pytest.mark.parametrize("chosen", ["ArgMax", "mask"])
    def test_in_a_python_module(self, rmpe, chosen):
        relu = 'layer { name: "in place" type: "ReLU" bottom: "sum" top: "sum" }\n'
        text = self.TEXT.replace('layer { name: "l"', relu + 'layer { name: "l"')
        files = network(text % CHOOSING[chosen])
        assert rmpe("convert", *files, "net.py")[0] == 0
        state = torch.load("net.pt")
        state["sum.weight"][0, 1] += 1e-6
        torch.save(state, "net.pt")
        x = np.zeros((1, 2, 5, 5), np.float32)
        x[0, 0, 2, 1] = x[0, 1, 2, 2] = 1
        np.save("x.npy", x)
        code, out, _ = rmpe("verify", ",".join(files), "net.py", "--input", "data=x.npy")
        assert code == 0, out
        assert "layers that read sum, " in out
        state["sum.weight"][0, 1] += 1e-3
        torch.save(state, "net.pt")
        code, out, _ = rmpe("verify", ",".join(files), "net.py", "--input", "data=x.npy")
        assert code == 1
        assert "the first is sum, " in out


class TestALargeNetwork:
    LAYERS = "".join(f"""
layer {{ name: "c{i}" type: "Convolution" bottom: "{f'r{i - 1}' if i else 'data'}" top: "c{i}" convolution_param {{
  num_output: 8 kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "r{i}" type: "ReLU" bottom: "c{i}" top: "r{i}" }}""" for i in range(6))

    @pytest.mark.parametrize("wrong", [None, "c1", "c5"])
    def test_is_compared_in_groups_of_blobs(self, rmpe, monkeypatch, wrong):
        files = network(DATA + self.LAYERS)
        assert rmpe("convert", *files, "net.onnx")[0] == 0
        runs = []
        run = OnnxRunner._run
        monkeypatch.setattr(OnnxRunner, "_run", lambda self, session, names, inputs: (
            runs.append(list(names)), run(self, session, names, inputs))[1])
        monkeypatch.setattr("rmpe_legacy.formats.onnx.MAX_GROUP", 3 * 8 * 4 * 4)
        if wrong:
            model = onnx.load("net.onnx")
            weight = next(each for each in model.graph.initializer if each.name == f"{wrong}.weight")
            weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.01, weight.name))
            onnx.save(model, "net.onnx")
        verdict = verify(NetRunner(load_net(*files), "net"), OnnxRunner(Path("net.onnx"), "net.onnx"))
        assert (verdict.first.blob if wrong else verdict.first) == wrong
        assert len(verdict.differences) == 12
        assert runs == [["r5"], ["c0", "r0", "c1"], ["r1", "c2", "r2"], ["c3", "r3", "c4"], ["r4", "c5"]]


    def test_a_layer_is_computed_once_if_later_ones_read_earlier_blobs(self, rmpe, monkeypatch):
        last = "c0"
        residual = ""
        for i in range(1, 6):  # each sum reads the first blob and that before
            residual += f"""
layer {{ name: "c{i}" type: "Convolution" bottom: "{last}" top: "c{i}" convolution_param {{ num_output: 8 kernel_size: 3
  pad: 1 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "t{i}" type: "TanH" bottom: "c0" top: "t{i}" }}
layer {{ name: "s{i}" type: "Eltwise" bottom: "c{i}" bottom: "t{i}" top: "s{i}" }}"""
            last = f"s{i}"
        files = network(DATA + self.LAYERS[: self.LAYERS.index("layer", 9)] + residual)
        assert rmpe("convert", *files, "net.onnx")[0] == 0
        given = []
        run = OnnxRunner._run
        monkeypatch.setattr(OnnxRunner, "_run", lambda self, session, names, inputs: (
            given.append(sorted(inputs)), run(self, session, names, inputs))[1])
        nodes = []  # of each session: onnxruntime runs nodes that no output depends on, too
        session = OnnxRunner._session
        monkeypatch.setattr(OnnxRunner, "_session", lambda self, *how: (
            nodes.append(len(self.model.graph.node)), session(self, *how))[1])
        monkeypatch.setattr("rmpe_legacy.formats.onnx.MAX_GROUP", 3 * 8 * 4 * 4)
        verdict = verify(NetRunner(load_net(*files), "net"), OnnxRunner(Path("net.onnx"), "net.onnx"))
        assert verdict.same, str(verdict)
        assert len(verdict.differences) == 16
        assert nodes == [16, 3, 3, 3, 3, 3]
        assert given[:2] == [["data"], ["data"]]
        assert given[2:] == [["data", *(f"given/{blob}{i}" for blob, i in (("c", 0), ("c", i), ("t", i)))]
                             for i in range(1, 5)]

    def test_a_blob_is_not_computed_to_learn_whether_there_is_one(self, rmpe):
        network(DATA + self.LAYERS)
        onnx.save(to_onnx(load_net("net.prototxt"))[0], "net.onnx")
        runner = OnnxRunner(Path("net.onnx"), "net.onnx")
        blobs = runner.run({"data": np.ones(runner.shapes["data"], np.float32)}).blobs
        runner.model.Clear()  # no session can be made
        assert "c0" in blobs
        assert "c9" not in blobs


@pytest.mark.parametrize("target", ["out.onnx", "out.py"])
@pytest.mark.parametrize(("batch", "rest", "seen"), [
    (8, "", 2), (2, "", 2), (1, "", 1),
    (8, 'type: "Reshape" bottom: "end" reshape_param { shape { dim: [1, 384] } }', 8),
    (8, 'type: "ROIPooling" bottom: "end" bottom: "rois" roi_pooling_param { pooled_h: 2 pooled_w: 2 }', 8)],
    ids=["many", "two", "one", "fixed", "with regions of images"])
def test_a_batch_of_any_size_is_compared_on_two_images(rmpe, target, batch, rest, seen):
    regions = f'layer {{ name: "r" type: "Input" top: "rois" input_param {{ shape {{ dim: [{batch}, 5] }} }} }}'
    network(DATA.replace("dim: 1 ", f"dim: {batch} ", 1) + (regions if "rois" in rest else "")
            + 'layer { name: "end" type: "Power" bottom: "data" top: "end" power_param { power: 2 } }\n'
            + (f'layer {{ name: "last" top: "last" {rest} }}' if rest else ""))
    torch.save({}, "net.pt")
    code, out, err = rmpe("convert", "net.prototxt", "net.pt", target)
    assert code == 0, err
    assert "the same" in out
    assert f"data {seen} x 3 x 4 x 4 random" in Path(f"{target}.verify.html").read_text()


def test_a_network_without_parameters_takes_an_empty_state_dict(rmpe):
    network(DATA + 'layer { name: "end" type: "Power" bottom: "data" top: "end" power_param { scale: 3 } }')
    torch.save(load_net("net.prototxt").state_dict(), "net.pt")
    code, out, err = rmpe("convert", "net.prototxt", "net.pt", "net.onnx")
    assert (code, err) == (0, "")
    assert "the same: 1 blob " in out


def test_a_network_with_parameters_does_not(rmpe):
    network(SLASHES)
    torch.save({}, "empty.pt")
    code, _, err = rmpe("convert", "net.prototxt", "empty.pt", "net.onnx")
    assert code == 1
    assert "no weights for c1/3x3, " in err


class TestADetectorWhoseScoresAreAllTheSame:
    """Without training they often are 0 or 1, and then what is kept is up to the order in which boxes are sorted."""

    TEXT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 12, 12] } } }
layer { name: "prior" type: "PriorBox" bottom: "data" bottom: "data" top: "prior" prior_box_param { min_size: 2
  clip: false } }
layer { name: "loc" type: "Convolution" bottom: "data" top: "loc" convolution_param { num_output: 4 kernel_size: 1
  weight_filler { type: "gaussian" std: STD } } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm" permute_param { order: [0, 2, 3, 1] } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "data" top: "conf" convolution_param { num_output: 3 kernel_size: 1
  weight_filler { type: "gaussian" std: 1e4 } } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm" permute_param { order: [0, 2, 3, 1] } }
layer { name: "rows" type: "Reshape" bottom: "conf_perm" top: "rows" reshape_param { shape { dim: [0, -1, 3] } } }
layer { name: "softmax" type: "Softmax" bottom: "rows" top: "softmax" softmax_param { axis: 2 } }
layer { name: "conf_flat" type: "Flatten" bottom: "softmax" top: "conf_flat" }
layer { name: "found" type: "DetectionOutput" bottom: "loc_flat" bottom: "conf_flat" bottom: "prior" top: "found"
  detection_output_param { num_classes: 3 keep_top_k: 20 nms_param { nms_threshold: NMS top_k: 50 }
  confidence_threshold: 0.01 code_type: CENTER_SIZE } }"""

    @pytest.mark.parametrize("std", ["1", "1e4"], ids=["equal scores", "boxes without end"])
    def test_is_compared_on_typical_scores(self, rmpe, std):
        files = network(self.TEXT.replace("NMS", "0.45").replace("STD", std))
        code, out, err = rmpe("convert", *files, "net.onnx")
        assert code == 0, err
        assert "were given typical values" in out
        other = network(self.TEXT.replace("NMS", "0.1").replace("STD", std), "other")
        rmpe("convert", *other, "other.onnx")
        code, out, _ = rmpe("verify", ",".join(files), "other.onnx")
        assert code == 1
        assert "the first is found, " in out


    SAVES = """save_output_param { output_directory: "saved" output_name_prefix: "run" output_format: "VOC"
  label_map_file: "labels.prototxt" name_size_file: "sizes.txt" }"""

    @pytest.mark.parametrize("is_there", [False, True], ids=["missing", "there"])
    @pytest.mark.parametrize("target", ["net.onnx", "net.py"])
    def test_files_of_detections_are_not_written(self, rmpe, target, is_there):
        text = self.TEXT.replace("NMS", "0.45").replace("STD", "1").replace("num_classes: 3 k",
                                                                            f"num_classes: 3 {self.SAVES} k")
        if is_there:
            Path("labels.prototxt").write_text("".join(
                f'item {{ name: "{name}" label: {i} display_name: "{name}" }}' for i, name in enumerate("abc")))
            Path("sizes.txt").write_text("one 12 12\n")
        code, _, err = rmpe("convert", *network(text), target)
        assert code == 0, err
        assert "found (DetectionOutput) writes no files of detections: its save_output_param is left out" in err
        assert not Path("saved").exists()


class TestASigmoidByTanh:
    """BVLC's Caffe computes 0.5 * tanh(0.5 * x) + 0.5, which near 0 has multiples of 2^-24 only."""

    TEXT = DATA + """layer { name: "p" type: "Sigmoid" bottom: "data" top: "p" }"""

    @pytest.mark.parametrize(("change", "same"), [
        (lambda p: p + np.float32(2.0**-24), True),
        (lambda p: np.where(p < 5e-3, p * np.float32(1.01), p), False)],  # below the tolerance, relative to 1
        ids=["last digit", "one percent"])
    def test_last_digits_of_small_values_are_no_difference(self, rmpe, change, same):
        network(self.TEXT)
        net = load_net("net.prototxt", dialect="bvlc")
        write_onnx("net.onnx", to_onnx(net)[0])

        class Changed(OnnxRunner):
            def _run(self, session, names, inputs):
                return {name: change(value) for name, value in super()._run(session, names, inputs).items()}

        data = np.linspace(-16, 3, 48, dtype=np.float32).reshape(1, 3, 4, 4)
        verdict = verify(NetRunner(net, "net"), Changed(Path("net.onnx"), "net.onnx"), {"data": data})
        assert {d.blob for d in verdict.differences} == {"p", "log(p)"}
        assert verdict.same == same, str(verdict)
        assert same or verdict.first.blob == "log(p)"
