"""ONNX with inputs of any batch, height and width: what is computed from the sizes is right for all of them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_networks import DETECTOR, write_network

from rmpe_legacy import load_net
from rmpe_legacy.caffe.layers.registry import layer_class
from rmpe_legacy.cli import main
from rmpe_legacy.compare.verify import random_input, verify
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.export.emit import pooling
from rmpe_legacy.export.emit.context import ONNX
from rmpe_legacy.export.onnx import to_onnx, write_onnx
from rmpe_legacy.formats.base import NetRunner
from rmpe_legacy.formats.network_json import load_converted
from rmpe_legacy.formats.onnx import OnnxRunner

AXES = ("batch", "height", "width")
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 18 } } }\n'
SIZES = [(1, 3, 13, 55), (3, 3, 49, 19), (1, 3, 15, 11), (2, 3, 9, 40), (3, 3, 16, 31), (1, 3, 20, 32)]


def conv(top: str, bottom: str = "data", channels: int = 6, stride: int = 1) -> str:
    return (f'layer {{ name: "{top}" type: "Convolution" bottom: "{bottom}" top: "{top}" convolution_param {{ '
            f'num_output: {channels} kernel_size: 3 pad: 1 stride: {stride} weight_filler {{ type: "xavier" }} }} }}\n')


def layer(kind: str, top: str, *bottom: str, more: str = "") -> str:
    bottoms = " ".join(f'bottom: "{name}"' for name in bottom)
    return f'layer {{ name: "{top}_layer" type: "{kind}" {bottoms} top: "{top}" {more} }}\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "net.prototxt"
    path.write_text(INPUT + text)
    return path


def differences(folder: Path, prototxt: Path, sizes: list[tuple[int, ...]]) -> list[str]:
    """Export with all axes dynamic; return what is wrong at the sizes that the network accepts, and at two others."""
    net = load_net(prototxt, keep_blobs=True)
    model, graph = to_onnx(net, dynamic=AXES)
    write_onnx(folder / "net.onnx", model)
    runner, ours = OnnxRunner(folder / "net.onnx", "onnx"), NetRunner(net, "net")
    random = np.random.default_rng(7)
    wrong, compared = [], 0
    for shape in [*(shapes["data"] for shapes in graph.compared_at), *sizes]:
        data = {"data": random_input(random, shape)}
        try:
            ours.run(data)
        except RmpeError:
            continue  # smaller than a kernel
        verdict = verify(ours, runner, data)
        compared += 1
        if not verdict.same:
            wrong.append(f"{shape}: {verdict.sentence}")
    assert compared > 2
    return wrong


UP = 'convolution_param { num_output: 6 kernel_size: 8 stride: 4 weight_filler { type: "xavier" } }'
CASES = {
    "fcn": conv("c", stride=2) + layer("Pooling", "p", "c", more="pooling_param { kernel_size: 2 stride: 2 }")
    + layer("Deconvolution", "up", "p", more=UP) + layer("Crop", "top", "up", "data",
                                                         more="crop_param { axis: 2 offset: 1 }"),
    "global": conv("c") + layer("Pooling", "p", "c", more="pooling_param { pool: AVE global_pooling: true }")
    + layer("InnerProduct", "top", "p", more='inner_product_param { num_output: 5 weight_filler { type: "xavier" } }'),
    "global_max": conv("c") + layer("Pooling", "top", "c", more="pooling_param { global_pooling: true }"),
    "interp": conv("c") + layer("Interp", "top", "c", more="interp_param { shrink_factor: 2 zoom_factor: 3 }"),
    "interp_cut": conv("c") + layer("Interp", "top", "c", more="interp_param { zoom_factor: 3 pad_beg: -1 }"),
    "flatten": conv("c") + layer("Flatten", "top", "c"),
    "flatten_plane": conv("c") + layer("Flatten", "top", "c", more="flatten_param { axis: 2 }"),
    "reshape": conv("c") + layer("Reshape", "top", "c", more="reshape_param { shape { dim: [0, 2, -1, 0] } }"),
    "reshape_channels": conv("c") + layer("Reshape", "top", "c", more="reshape_param { shape { dim: [2, -1] } axis: 1 "
                                          "num_axes: 1 }"),
    "permute": conv("c") + layer("Permute", "p", "c", more="permute_param { order: [0, 2, 3, 1] }")
    + layer("Flatten", "top", "p"),
    "lrn": conv("c") + layer("LRN", "top", "c", more="lrn_param { local_size: 3 alpha: 0.1 }"),
    "lrn_within": conv("c") + layer("LRN", "top", "c", more="lrn_param { local_size: 3 alpha: 0.1 "
                                    "norm_region: WITHIN_CHANNEL }"),
    "normalize": conv("c") + layer("Normalize", "top", "c", more="norm_param { across_spatial: true }"),
    "mvn": conv("c") + layer("MVN", "top", "c"),
    "argmax": conv("c") + layer("ArgMax", "top", "c", more="argmax_param { axis: 1 }"),
    "slice": conv("c") + 'layer { name: "s" type: "Slice" bottom: "c" top: "a" top: "b" slice_param { slice_point: 2 }'
    " }",
    "mask": conv("c") + 'layer { name: "p" type: "Pooling" bottom: "c" top: "p" top: "mask" '
    "pooling_param { kernel_size: 2 stride: 2 } }",
    "multiples": conv("c") + layer("Pooling", "p", "c", more="pooling_param { kernel_size: 2 stride: 2 }")
    + layer("Deconvolution", "up", "p", more='convolution_param { num_output: 6 kernel_size: 2 stride: 2 '
            'weight_filler { type: "xavier" } }') + layer("Eltwise", "top", "c", "up"),
}


@pytest.mark.parametrize("name", CASES)
def test_layers_at_other_sizes(tmp_path, name):
    assert not differences(tmp_path, write(tmp_path, CASES[name]), SIZES)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [
    (k, s, p) for k, s, p in product((1, 2, 3, 5), (1, 2, 3), (0, 1, 2)) if p < k])
def test_pooling_has_caffes_windows_at_every_size(tmp_path, method, kernel, stride, pad):
    param = f"pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad}"
    path = write(tmp_path, layer("Pooling", "top", "data", more=f"pooling_param {{ {param} }}"))
    if method == "AVE" and stride > kernel and not pad:
        with pytest.raises(RmpeError, match=r"top_layer \(Pooling\): cannot .* with a stride above its kernel_size"):
            to_onnx(load_net(path), dynamic=AXES)
        return
    sizes = [(1, 3, h, w) for h, w in zip(range(1, 16), [9, 4, 7, 3, 11, 2, 13, 5, 6, 8, 10, 12, 1, 14, 15],
                                          strict=True)]
    assert not differences(tmp_path, path, sizes)


@pytest.mark.parametrize("name", ["kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 0",
                                  "kernel_h: 2 kernel_w: 5 stride: 2 pad_h: 0 pad_w: 2"])
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pooling_with_windows_that_are_not_square(tmp_path, method, name):
    path = write(tmp_path, layer("Pooling", "top", "data", more=f"pooling_param {{ pool: {method} {name} }}"))
    assert not differences(tmp_path, path, [(1, 3, h, w) for h, w in product((5, 6, 7, 8, 9), (7, 8, 9, 10, 11))])


@pytest.mark.parametrize("priors", ["clip: false", "clip: false step: 3 offset: 0.25", "clip: true"])
@pytest.mark.parametrize("top_k", ["top_k: 30", "top_k: 100000"])
def test_a_detector_at_other_sizes(tmp_path, priors, top_k):
    text = DETECTOR.replace("clip: false", priors).replace("num_output: 16 k", 'weight_filler { type: "xavier" } '
                                                           "num_output: 16 k")
    text = text.replace("num_output: 8 k", 'weight_filler { type: "gaussian" std: 0.5 } num_output: 8 k')
    text = text.replace("num_output: 5 k", 'weight_filler { type: "gaussian" std: 9 } num_output: 5 k')
    text = text.replace("top_k: 400", top_k).replace("keep_top_k: 200", "keep_top_k: 12")
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    assert not differences(tmp_path, path, [(1, 3, 41, 57), (3, 3, 39, 90), (2, 3, 80, 33)])


INNER = layer("InnerProduct", "top", "c", more="inner_product_param { num_output: 5 }")
REFUSED = {
    "inner_product": (conv("c") + INNER, r"net.prototxt:3:1: top_layer \(InnerProduct\): cannot be converted with a "
                      r"dynamic height: its weight, 5 x 1296, fits only one size. .* with --until c"),
    "reshape": (conv("c") + layer("Reshape", "top", "c", more="reshape_param { shape { dim: [0, 1296] } }"),
                r"net.prototxt:3:1: top_layer \(Reshape\): .* cannot be reshaped .* height 13 in place of 12\). "
                r"Leave height out of --dynamic"),
    "spp": (conv("c") + layer("SPP", "top", "c", more="spp_param { pyramid_height: 2 }"),
            r"top_layer \(SPP\): cannot be converted to ONNX with a dynamic batch, height and width: .* --until c"),
    "slice": (conv("c") + 'layer { name: "s" type: "Slice" bottom: "c" top: "a" top: "b" slice_param { axis: 2 } }',
              r"s \(Slice\): cannot be converted to ONNX .* --until c"),
    "in_place": (conv("c") + layer("LRN", "c", "c", more="lrn_param { local_size: 3 alpha: 0.1 }"),
                 r"c_layer \(LRN\): cannot be converted to ONNX .* it is written for fixed sizes only.* --until BLOB"),
    "scale": (conv("c") + layer("Scale", "top", "c", more="scale_param { axis: 2 num_axes: 1 }"),
              r"top_layer \(Scale\): .* its scale, 12, fits only one size"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_fixes_the_size_is_refused_by_name(tmp_path, name):
    text, message = REFUSED[name]
    path = write(tmp_path, text)
    with pytest.raises(RmpeError, match=message):
        to_onnx(load_net(path), dynamic=AXES)
    to_onnx(load_net(path))  # without --dynamic all of them can be written


def test_layers_behind_until_do_not_matter(tmp_path):
    path = write(tmp_path, conv("c") + INNER)
    _, graph = to_onnx(load_net(path), ["c"], dynamic=AXES)
    assert graph.outputs[0].shape == ("N", 6, "H", "W")


def test_an_input_without_height(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text('layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 3] } } }\n'
                    + layer("ReLU", "top", "data"))
    with pytest.raises(NetError, match="--dynamic height: the network has no input with a height"):
        to_onnx(load_net(path), dynamic=("height",))


@pytest.mark.parametrize(("axes", "shape"), [
    (("batch",), ["N", 3, 12, 18]), (("height", "width"), [2, 3, "H", "W"]), (("width", "batch"), ["N", 3, 12, "W"])])
def test_only_the_axes_asked_for_are_symbols(tmp_path, axes, shape):
    model, graph = to_onnx(load_net(write(tmp_path, CASES["global"])), dynamic=axes)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == shape
    for compared in graph.compared_at:
        assert [a == b for a, b in zip(compared["data"], (2, 3, 12, 18), strict=True)] == [
            not isinstance(size, str) for size in shape]


class TestCommand:
    def files(self, folder: Path, text: str) -> list[str]:
        return list(map(str, write_network(folder, "net", INPUT + text, seed=3)))

    def test_the_result_is_compared_at_other_sizes(self, tmp_path, capsys):
        argv = ["convert", *self.files(tmp_path, CASES["fcn"]), str(tmp_path / "net.onnx")]
        assert main([*argv, "--dynamic", "batch,height,width"]) == 0
        out = capsys.readouterr().out
        assert "\nthe same: " in out
        assert "; the same with data 1 x 3 x 13 x 55, and with data 3 x 3 x 49 x 19" in out
        onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"), full_check=True)

    def test_a_file_that_is_wrong_at_other_sizes_is_found(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(pooling, "_ends", lambda windows: list(windows.pad))  # rounds down: right for 12 x 18
        pool = layer("Pooling", "top", "c", more="pooling_param { kernel_size: 2 stride: 2 }")
        files = self.files(tmp_path, conv("c") + pool)
        argv = ["convert", *files, str(tmp_path / "net.onnx")]
        assert main([*argv, "--dynamic", "batch"]) == 0
        assert main([*argv, "--dynamic", "batch,height,width"]) == 1
        assert "not the same: 1 of 2 blobs" in capsys.readouterr().err
        assert "1 x 3 x 13 x 55 random" in (tmp_path / "net.onnx.verify.html").read_text()

    def test_other_formats_need_no_such_option(self, tmp_path, capsys):
        files = self.files(tmp_path, CASES["fcn"])
        assert main(["convert", *files, str(tmp_path / "net.py"), "--dynamic", "batch"]) == 1
        assert "net.py: --dynamic is for .onnx only" in capsys.readouterr().err

    def test_an_axis_that_is_not_there(self, capsys):
        with pytest.raises(SystemExit):
            main(["convert", "a.prototxt", "b.onnx", "--dynamic", "batch,depth"])
        assert "'depth' is not an axis; give some of batch,height,width" in capsys.readouterr().err


class TestInputShape:
    """--input-shape NAME=... of any source is what the result has."""

    @pytest.fixture
    def files(self, tmp_path) -> list[str]:
        return list(map(str, write_network(tmp_path, "net", INPUT + CASES["fcn"], seed=3)))

    @pytest.mark.parametrize("target", ["out.caffemodel", "out/", "out.prototxt", "out.safetensors"])
    def test_it_is_stored_with_the_network(self, tmp_path, files, target):
        assert main(["convert", *files, f"{tmp_path}/{target}", "--input-shape", "data=3,20,31"]) == 0
        [made] = [*tmp_path.glob("out*.prototxt"), *tmp_path.glob("out/*.prototxt"), *tmp_path.glob("out*.json")]
        net = load_converted(made) if made.suffix == ".json" else load_net(made)
        assert net.inputs == {"data": (2, 3, 20, 31)}

    @pytest.mark.parametrize("source", ["net.safetensors", "net.json"])
    def test_of_a_network_that_convert_wrote(self, tmp_path, files, source, capsys):
        assert main(["convert", *files, f"{tmp_path}/net.safetensors"]) == 0
        argv = ["convert", f"{tmp_path}/{source}", f"{tmp_path}/out.onnx", "--input-shape"]
        assert main([*argv, "data=1,3,21,30"]) == 0
        dims = onnx.load(tmp_path / "out.onnx").graph.input[0].type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in dims] == ["N", 3, 21, 30]
        assert main([*argv, "image=1,3,21,30"]) == 1
        assert "no input is called 'image'; the inputs are 'data'" in capsys.readouterr().err

    @pytest.mark.parametrize("target", ["out.pt", "out.h5"])
    def test_a_file_of_weights_alone_does_not_store_it(self, tmp_path, files, target, capsys):
        assert main(["convert", *files, f"{tmp_path}/{target}", "--input-shape", "data=3,20,31"]) == 0
        assert f"{target} holds weights alone, so --input-shape is not stored" in capsys.readouterr().err


def test_an_emitter_that_takes_the_prototxts_sizes_is_found(tmp_path, monkeypatch):
    """An emitter that knows nothing of symbols: what it writes for two sizes is not the same."""

    def reshape(self, *bottom):
        self.own_shape = bottom[0]
        return [bottom[0]]

    def emit(ctx):
        ctx.output("Add", ctx.x[0], ctx.constant(np.zeros(ctx.layer.own_shape[2:])))

    monkeypatch.setattr(layer_class("ReLU"), "reshape", reshape)
    monkeypatch.setitem(ONNX._entries, "ReLU", emit)
    path = write(tmp_path, conv("c") + layer("ReLU", "top", "c"))
    with pytest.raises(RmpeError, match=r"top_layer \(ReLU\): .* depends on the sizes in the prototxt"):
        to_onnx(load_net(path), dynamic=AXES)
