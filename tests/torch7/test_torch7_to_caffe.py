"""Torch7 networks as Caffe files, run by our Net, beside what Torch7 gave."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from difference import beyond
from packed import unpacked
from paths import TESTS
from shared import shared
from t7_cases import convolution, flat, linear, long_storage, torch7_gave, values
from t7_network import Network
from t7_writer import module, table, tensor, write

import rmpe_legacy
from rmpe_legacy import load_torch7, torch7_to_caffe
from rmpe_legacy.caffe.layers import known_types
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
from rmpe_legacy.errors import FileError, NetError
from rmpe_legacy.torch7.to_caffe import theta
from rmpe_legacy.torch7.to_caffe.caffe_graph import CaffeNetwork

GOLDEN = TESTS / "golden" / "torch7"
MODELS = unpacked("torch7/models")

# module -> types of the layers behind the inputs; all cases with a batch axis are run
CONVERTED = {
    "addconstant": "Power", "avgpool": "Pooling", "avgpool_ceil": "Pooling", "avgpool_nodivide": "Pooling Power",
    "avgpool_old": "Pooling", "avgpool_p": "Pooling Slice Silence", "bn": "BatchNorm Scale", "bn1d": "BatchNorm Scale",
    "bn_noaffine": "BatchNorm", "caddtable": "Eltwise", "cdivtable": "Power Eltwise", "cmultable": "Eltwise",
    "concat": "Power Convolution Concat", "concattable": "Split TanH", "contiguous": "Split", "conv": "Convolution",
    "conv_cudnn": "Convolution", "conv_mm": "Convolution", "conv_nobias": "Convolution", "csubtable": "Eltwise",
    "dilated": "Convolution", "dropout_eval": "Split", "dropout_v1_eval": "Power",
    "flat_params": "InnerProduct TanH InnerProduct", "fullconv": "Deconvolution",
    "g_multi": "InnerProduct InnerProduct Eltwise Split Sigmoid", "g_nested": "InnerProduct Split TanH Eltwise Eltwise",
    "g_order": "TanH Sigmoid Concat Sigmoid Concat", "g_simple": "InnerProduct TanH",
    "g_split": "InnerProduct TanH InnerProduct Eltwise", "g_split1": "InnerProduct", "identity": "Split",
    "jointable": "Concat", "jointable_neg": "Concat", "jointable_nid": "Concat", "leakyrelu": "ReLU",
    "linear": "InnerProduct", "linear_nobias": "InnerProduct", "logsoftmax": "Softmax Log", "lrn": "LRN",
    "mapback": "InnerProduct SpatialTransformer", "maxpool_2": "Pooling", "maxpool_ceil": "Pooling",
    "maxpool_ceil0": "Pooling", "maxpool_p": "Pooling Slice Silence Slice Silence", "mulconstant": "Power",
    "narrow": "Slice Silence", "paralleltable": "Split TanH", "prelu": "PReLU", "relu": "ReLU",
    "relu_inplace": "ReLU", "reshape": "Reshape", "select": "Slice Silence Reshape", "selecttable": "Silence Split",
    "sequential": "InnerProduct TanH InnerProduct", "shared": "InnerProduct TanH InnerProduct",
    "shared_clone": "InnerProduct TanH InnerProduct", "sigmoid": "Sigmoid", "softmax": "Softmax",
    "spatialdropout_eval": "Power", "squeeze": "Reshape", "tanh": "TanH", "transpose": "Permute",
    "transpose_back": "Permute", "transpose_nid": "Permute", "unsqueeze": "Reshape", "upsample2": "Deconvolution",
    "upsample3": "Deconvolution", "view_b": "Reshape", "view_m1n": "Reshape", "view_nid": "Reshape",
}


def run(network: CaffeNetwork, folder: Path, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """Write the two files, load them as any other Caffe network, run it."""
    if not {layer.type for layer in network.net.layer} <= set(known_types()):
        pytest.skip("this network needs a layer that is not written yet: SpatialTransformer")
    (folder / "net.prototxt").write_text(network.prototxt)
    write_caffemodel(folder / "net.caffemodel", network.layers, network.net)
    net = rmpe_legacy.load_net(folder / "net.prototxt", folder / "net.caffemodel" if network.layers else None)
    with torch.no_grad():
        blobs = net(dict(zip(network.inputs, inputs, strict=True)))
    assert sorted(blobs) == sorted(network.outputs)
    return [blobs[name] for name in network.outputs]


def cases(path: Path) -> list[dict]:
    return json.loads((path.parent / f"{path.name.partition('.')[0]}.json").read_text())["cases"]


class TestModules:
    @pytest.mark.parametrize("name", CONVERTED)
    def test_gives_what_torch7_gave(self, name: str, tmp_path: Path):
        path = GOLDEN / "modules" / f"{name}.t7"
        ran = 0
        for case in cases(path):
            inputs, wanted = flat(values(path.parent, case["input"])), flat(values(path.parent, case["output"]))
            if inputs[0].dim() < 2 or inputs[0].dim() < max(len(c["input"]["shape"]) if isinstance(
                    c["input"], dict) else 2 for c in cases(path)):
                continue  # without a batch axis, which Caffe always has
            network = torch7_to_caffe(path, [tuple(x.shape[1:]) for x in inputs], batch=len(inputs[0]))
            for want, got in zip(wanted, run(network, tmp_path, *inputs), strict=True):
                wrong = beyond([torch7_gave("output", want, got.view(want.shape), path)], 6.5e-6)
                assert not wrong, wrong[0]
            ran += 1
            if ran == 1:
                types = [layer.type for layer in network.net.layer if layer.type != "Input"]
                assert types == CONVERTED[name].split()
        assert ran


class TestModels:
    @pytest.mark.parametrize("name", ["hourglass.cuda.t7", "hourglass.t7", "hourglass8.t7", "rmpe.t7", "sstn.t7",
                                      "sstn.cuda.t7"])
    def test_heat_maps_are_torch7s(self, name: str, tmp_path: Path):
        path = MODELS / name
        for case in cases(path):
            x = values(path.parent, case["input"])
            network = torch7_to_caffe(path, x.shape[1:], batch=len(x))
            for want, got in zip(values(path.parent, case["output"]), run(network, tmp_path, x), strict=True):
                span = float(want.max() - want.min())
                wrong = beyond([torch7_gave("heat maps", want, got, path)], 1e-5 * span, relative=False)  # seen: 1.7e-6
                assert not wrong, wrong[0]

    def test_the_transformed_image_is_torch7s(self, tmp_path: Path):
        path = MODELS / "spanet.t7"
        case = cases(path)[0]
        x = values(path.parent, case["input"])
        image, matrix = run(torch7_to_caffe(path, batch=2), tmp_path, x)
        want_image, want_matrix = values(path.parent, case["output"])
        span = float(want_image.max() - want_image.min())
        wrong = [*beyond([torch7_gave("image", want_image, image, path)], 2.9e-5 * span, relative=False),
                 *beyond([torch7_gave("theta", want_matrix, matrix, path)], 1e-6, relative=False)]
        assert not wrong, "\n".join(wrong)

    def test_outputs_are_named_for_what_they_are(self):
        network = torch7_to_caffe(MODELS / "rmpe.t7")
        assert network.outputs == ["heatmaps_1", "heatmaps_2", "parallel_1", "parallel_2"]
        assert network.kind.startswith("RMPE with STN, SPPE (stacked hourglass, 2 stacks) and SDTN, and the parallel")

    def test_the_parallel_branch_can_be_dropped(self, tmp_path: Path):
        path = MODELS / "rmpe.t7"
        network = torch7_to_caffe(path, parallel=False)
        assert network.outputs == ["heatmaps_1", "heatmaps_2"]
        assert not [layer.name for layer in network.net.layer if layer.name.startswith("parallel")]
        assert len(network.layers) < len(torch7_to_caffe(path).layers)
        case = cases(path)[1]
        got = run(network, tmp_path, values(path.parent, case["input"]))
        for want, heatmaps in zip(values(path.parent, case["output"])[:2], got, strict=True):
            assert (heatmaps - want).abs().max() <= 1e-5 * (want.max() - want.min())

    def test_only_stock_layers_make_the_sdtn(self):
        layers = torch7_to_caffe(MODELS / "rmpe.t7").net.layer
        assert {layer.type for layer in layers} == {
            "Input", "Convolution", "BatchNorm", "Scale", "ReLU", "Pooling", "Slice", "Silence", "Eltwise", "Split",
            "InnerProduct", "SpatialTransformer", "Deconvolution", "Power", "Concat"}
        assert not any(layer.st_param.has("de_transform") for layer in layers)

    def test_a_loaded_module_converts_as_its_file_does(self):
        path = MODELS / "hourglass.cuda.t7"
        a, b = torch7_to_caffe(path, name="x"), torch7_to_caffe(load_torch7(path), name="x")
        assert a.prototxt == b.prototxt
        for one, other in zip(a.layers, b.layers, strict=True):
            assert one.name == other.name
            assert all(np.array_equal(p.data, q.data) for p, q in zip(one.blobs, other.blobs, strict=True))

    def test_the_size_comes_from_the_stn(self):
        assert list(torch7_to_caffe(MODELS / "rmpe.t7").net.layer[0].input_param.shape[0].dim) == [
            1, 3, 64, 64]
        assert list(torch7_to_caffe(MODELS / "hourglass.cuda.t7").net.layer[0].input_param.shape[0].dim) == [
            1, 3, 256, 256]

    def test_training_mode_is_warned_of(self):
        with pytest.warns(UserWarning, match="are in training mode; the Caffe network has their evaluation mode"):
            torch7_to_caffe(MODELS / "uncleared_train.t7", (3, 10, 10))

    def test_the_prototxt_reads_as_one_written_by_hand(self):
        text = torch7_to_caffe(MODELS / "rmpe.t7").prototxt
        assert 'name: "stn_4_2_bn"\n  type: "BatchNorm"\n  bottom: "stn_4_1_conv"\n  top: "stn_4_1_conv"\n' in text
        assert 'name: "alpha"\n  type: "Concat"' in text
        assert 'bottom: "alpha_caffe_16"\n  top: "heatmaps_2"\n  st_param {\n    output_H: 16\n' in text


class TestTheta:
    @pytest.mark.parametrize(("image", "output"), [((64, 64), (64, 64)), ((7, 5), (4, 9)), ((256, 192), (64, 48))])
    def test_both_look_at_the_same_place(self, image: tuple[int, int], output: tuple[int, int]):
        """Where output cell (i, j) reads the image, in pixels, as each of the two computes it."""
        chance = np.random.default_rng(1701)
        ours = np.array([0.9, 0.15, 0.1, -0.2, 1.1, -0.07]) + chance.normal(0, 0.1, 6)
        matrix, shift = theta.to_caffe(image, output)
        caffes = (matrix @ ours + shift).reshape(2, 3)
        i, j = np.meshgrid(*map(np.arange, output), indexing="ij")
        torch7 = np.stack([-1 + 2 * i / (output[0] - 1), -1 + 2 * j / (output[1] - 1), np.ones_like(i)])
        caffe = np.stack([2 * i / output[0] - 1, 2 * j / output[1] - 1, np.ones_like(i)])
        for axis, n in enumerate(image):
            at_torch7 = (np.tensordot(ours.reshape(2, 3)[axis], torch7, 1) + 1) * (n - 1) / 2
            at_caffe = (np.tensordot(caffes[axis], caffe, 1) + 1) / 2 * n
            np.testing.assert_allclose(at_caffe, at_torch7, rtol=0, atol=1e-11)


def one(root: object, tmp_path: Path, shape: object = (3, 8, 8)) -> CaffeNetwork:
    return torch7_to_caffe(write(tmp_path / "network.t7", root), shape)


def sequence(*parts: object) -> object:
    return module("nn.Sequential", *parts)


REFUSED = {
    "a class without a layer": (module("nn.SpatialZeroPadding", pad_l=1, pad_r=1, pad_t=1, pad_b=1), "no layer for it"),
    "a threshold": (module("nn.Threshold", threshold=0.5, val=0), "threshold 0.5, value 0"),
    "an average without its padding": (module("nn.SpatialAveragePooling", kW=2, kH=2, padW=1, padH=1, divide=True,
                                              ceil_mode=False, count_include_pad=False), "counts the padding"),
    "an input of other channels": (convolution(nInputPlane=3), "takes 3 planes"),
    "a table of one branch": (sequence(module("nn.ConcatTable", module("nn.Identity")), module("nn.ReLU")),
                              "is given a table instead of a tensor"),
    "a tensor as a table": (module("nn.CAddTable"), "is given a tensor instead of a table"),
    "branches of two sizes": (sequence(module("nn.ConcatTable", module("nn.Identity"), module(
        "nn.SpatialUpSamplingNearest", scale_factor=2)), module("nn.CAddTable")),
                              "cannot combine N x 4 x 8 x 8, N x 4 x 16 x 16"),
    "a difference of one": (sequence(module("nn.ConcatTable", module("nn.Identity")), module("nn.CSubTable")),
                            "cannot combine N x 4 x 8 x 8"),
    "a sum of nothing": (sequence(module("nn.ConcatTable", modules=table()), module("nn.CAddTable")),
                         "is given an empty table"),
    "nothing joined": (module("nn.Concat", modules=table(), dimension=2), "cannot join"),
    "a smallest of tables": (sequence(module("nn.ConcatTable", module("nn.Identity"), module("nn.Identity")),
                                      module("nn.CMinTable")), "no layer for it"),
    "an upsampling by 1000": (module("nn.SpatialUpSamplingNearest", scale_factor=1000), "its factor is 1000"),
    "an even normalisation": (module("nn.SpatialCrossMapLRN", size=4), "Caffe's LRN takes only odd sizes"),
    "a view without a batch": (module("nn.View", size=long_storage(-1)), "loses the batch axis"),
    "a view of another count": (module("nn.View", size=long_storage(7)), "does not fit"),
    "a linear layer on images": (linear(), "takes N x 3"),
    "a slice of the batch": (module("nn.Select", dimension=1, index=1), "batch axis"),
    "a grid as output": (sequence(module("nn.View", size=long_storage(2, 3)), module(
        "nn.AffineGridGeneratorBHWD", height=4, width=5)), "sampling grid was found where a tensor"),
    "batches joined": (sequence(module("nn.ConcatTable", module("nn.Identity"), module("nn.Identity")), module(
        "nn.JoinTable", dimension=1)), "Caffe can join samples, but not batches"),
    "a random output": (module("nn.Dropout", p=0.5, stochastic_inference=True), "random in evaluation"),
    "an entry that is not there": (sequence(module("nn.ConcatTable", module("nn.Identity")), module(
        "nn.SelectTable", index=4)), "picks from a table of 1"),
    "too few for its branches": (sequence(module("nn.ConcatTable", module("nn.Identity")), module(
        "nn.ParallelTable", module("nn.Identity"), module("nn.Identity"))), "is given 1 values for 2 modules"),
    "axes that are not there": (module("nn.Transpose", permutations=table(table(2, 9))), "swaps axes"),
    "axes before the first": (module("nn.Transpose", permutations=table(table(1, 2)), numInputDims=9), "swaps axes"),
}


class TestRefused:
    @pytest.mark.parametrize("name", REFUSED)
    def test_is_a_sentence(self, name: str, tmp_path: Path):
        root, reason = REFUSED[name]
        with pytest.raises(NetError) as caught:
            one(root, tmp_path, (6,) if "grid" in name else (4, 8, 8))
        assert reason in str(caught.value)

    def test_modules_used_a_billion_times_are_refused(self, tmp_path: Path):
        network = module("nn.Identity")
        for _ in range(30):
            network = sequence(network, network)
        with pytest.raises(FileError, match="more than 100000 modules, counted where they are used"):
            one(network, tmp_path)

    @pytest.mark.parametrize("shape", [(), (3, 0, 4), (3.0, 4, 4), [(3, 4, 4), (3, 4, 4)]])
    def test_a_shape_that_is_none(self, shape: object):
        with pytest.raises(NetError, match="positive whole numbers"):
            torch7_to_caffe(MODELS / "hourglass.cuda.t7", shape)

    def test_a_size_that_the_locnet_does_not_take(self):
        with pytest.raises(NetError, match=r"stn_4_10 \(nn\.View\): turns N x 24 x 2 x 2 into .*is input_shape right"):
            torch7_to_caffe(MODELS / "rmpe.t7", (3, 80, 80))

    def test_a_network_that_does_not_say_its_input(self, tmp_path: Path):
        with pytest.raises(NetError, match="give input_shape"):
            one(module("nn.Identity"), tmp_path, None)

    def test_no_batch(self, tmp_path: Path):
        with pytest.raises(NetError, match="batch 0"):
            torch7_to_caffe(GOLDEN / "modules" / "linear.t7", batch=0)


class TestDetails:
    def test_frozen_modules_get_lr_mult_0(self, tmp_path: Path):
        network = load_torch7(write(tmp_path / "a.t7", convolution()))
        network.requires_grad_(False)
        layer, = [one for one in torch7_to_caffe(network).net.layer if one.type == "Convolution"]
        assert [param.lr_mult for param in layer.param] == [0]

    def test_double_weights_become_single(self, tmp_path: Path):
        weight = tensor(np.arange(6.0).reshape(2, 3), "torch.DoubleTensor")
        layer, = one(module("nn.Linear", weight=weight), tmp_path, (3,)).layers
        assert layer.blobs[0].data.dtype == np.float32

    def test_views_before_linear_are_not_written(self, tmp_path: Path):
        linear192 = module("nn.Linear", weight=tensor(np.ones((5, 192), np.float32)))
        network = one(sequence(module("nn.View", size=long_storage(192)), linear192), tmp_path)
        assert [layer.type for layer in network.net.layer] == ["Input", "InnerProduct"]

    def test_an_output_that_others_read_is_still_an_output(self, tmp_path: Path):
        both = sequence(module("nn.Tanh"), module("nn.ConcatTable", module("nn.Identity"), module("nn.Sigmoid")))
        network = one(both, tmp_path)
        x = torch.randn(1, 3, 8, 8)
        first, second = run(network, tmp_path, x)
        assert torch.equal(first, x.tanh())
        assert torch.equal(second, x.tanh().sigmoid())

    def test_relu_is_not_in_place_where_its_input_is_read_again(self, tmp_path: Path):
        network = one(sequence(module("nn.Tanh"), module("nn.ConcatTable", module("nn.ReLU", inplace=True), module(
            "nn.Identity")), module("nn.CAddTable")), tmp_path)
        relu, = [layer for layer in network.net.layer if layer.type == "ReLU"]
        assert list(relu.bottom) != list(relu.top)

    def test_other_peoples_networks(self, tmp_path: Path):
        path = shared("torch7", "real", "u1net.t7")
        case = cases(path)[0]
        x = values(path.parent, case["input"])
        got, = run(torch7_to_caffe(path, x.shape), tmp_path, x.unsqueeze(0))
        wrong = beyond([torch7_gave("output", values(path.parent, case["output"]), got[0], path)], 6.5e-6)
        assert not wrong, wrong[0]


CONVERT = """
import pathlib, re, sys
from rmpe_legacy import torch7_to_caffe
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
network = torch7_to_caffe(sys.argv[1])
write_caffemodel(sys.argv[2], network.layers, network.net)
status = pathlib.Path("/proc/self/status").read_text()
peak = re.search(r"VmHWM:\\s*(\\d+) kB", status)  # ru_maxrss would be the parent's too
print(int(peak[1]) // 1024, len(network.outputs),
      sum(blob.data.size for layer in network.layers for blob in layer.blobs))
"""


def test_the_full_network_converts_in_less_than_a_gigabyte(tmp_path: Path):
    graph = json.loads((MODELS / "fullsize_rmpe_graph.json").read_text())
    network = Network(graph)
    assert network.parameters == 49_475_014
    path = write(tmp_path / "full.t7", network.root)
    done = subprocess.run([sys.executable, "-c", CONVERT, path, tmp_path / "full.caffemodel"], check=True,
                          capture_output=True, text=True)
    megabytes, outputs, count = map(int, done.stdout.split())
    assert outputs == 12
    assert count > network.parameters  # and the statistics, the kernels of ones, theta's matrices
    assert megabytes < 1000


