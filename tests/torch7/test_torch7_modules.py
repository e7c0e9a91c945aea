"""Torch7's modules on PyTorch: outputs and gradients beside those of the real Torch7."""

import json
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from difference import Difference, beyond
from packed import unpacked
from paths import TESTS
from shared import shared
from t7_cases import convolution, flat, linear, long_storage, torch7_gave, values
from t7_writer import module, table, tensor, write
from torch.testing import assert_close

from rmpe_legacy import load_torch7, read_torch7
from rmpe_legacy.errors import FileError, NetError, RmpeError
from rmpe_legacy.torch7.modules import spatial, stn
from rmpe_legacy.torch7.modules.base import known_classes
from rmpe_legacy.torch7.modules.graph import GModule
from rmpe_legacy.torch7.modules.norm import BatchNormalization
from rmpe_legacy.torch7.objects import Function, Storage, Table, Tensor, Torch7Object

GOLDEN = TESTS / "golden" / "torch7"
MODELS = unpacked("torch7/models")

# Five times the largest error, relative to the largest value, that was measured on the machine that wrote the
# goldens between Torch7 and an interpreter on PyTorch (both in single precision).
TOLERANCE = {"hourglass": 3e-6, "hourglass8": 6e-6, "rmpe": 8.5e-6, "sstn": 8.5e-6, "spanet": 2.9e-5}
MODULE_TOLERANCE = 6.5e-6

FILES = [*sorted((GOLDEN / "modules").glob("*.t7")), *sorted(MODELS.glob("*.t7"))]
REAL = ["cpp_linear", "face_new", "u1net", "unsup_cl30"]


def load(path: Path) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*saved in training mode")
        return load_torch7(path).float()


def differences(path: Path) -> Iterator[Difference]:
    """Each output and gradient of the cases that belong to a file."""
    folder = path.parent
    case_file = json.loads((folder / f"{path.name.partition('.')[0]}.json").read_text())
    for number, case in enumerate(case_file["cases"], 1):
        network = load(path)
        x = values(folder, case["input"])
        for item in flat(x):
            item.requires_grad_("gradInput" in case)
        outputs = flat(network(x))
        wanted = flat(values(folder, case["output"]))
        assert len(outputs) == len(wanted)
        for i, (want, got) in enumerate(zip(wanted, outputs, strict=True), 1):
            yield torch7_gave(f"output {number}.{i}", want, got, path)
        if "gradInput" in case:
            torch.autograd.backward(outputs, flat(values(folder, case["gradOutput"])))
            for i, (want, item) in enumerate(zip(flat(values(folder, case["gradInput"])), flat(x), strict=True), 1):
                got = torch.zeros_like(item) if item.grad is None else item.grad
                # Torch7 leaves the batch axis that it added to a single theta or grid on its gradient
                yield torch7_gave(f"gradient {number}.{i}", want.view(got.shape), got, path)


def check(path: Path, tolerance: float) -> None:
    wrong = beyond(differences(path), tolerance)
    assert not wrong, "\n".join(wrong)


class TestGolden:
    def test_no_file_got_lost(self):
        assert len(FILES) == 190

    @pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
    @pytest.mark.slow
    def test_gives_what_torch7_gave(self, path: Path):
        check(path, TOLERANCE.get(path.name.partition(".")[0], MODULE_TOLERANCE))

    @pytest.mark.parametrize("name", REAL)
    def test_other_peoples_networks(self, name: str):
        check(shared("torch7", "real", f"{name}.t7"), MODULE_TOLERANCE)

    @pytest.mark.parametrize("name", ["bn_v1", "conv_old"])
    def test_old_files(self, name: str):
        check(GOLDEN / "zoo" / f"{name}.t7", MODULE_TOLERANCE)

    def test_old_batch_norm_has_the_variance_that_torch7_worked_out(self):
        want = np.fromfile(GOLDEN / "zoo" / "bn_v1.running_var.f32", "<f4")
        assert_close(load(GOLDEN / "zoo" / "bn_v1.t7").running_var, torch.from_numpy(want), rtol=1e-6, atol=0)

    @pytest.mark.parametrize("name", ["rmpe", "hourglass.cuda"])
    def test_graph_is_wired_as_torch7_says(self, name: str):
        want = json.loads((MODELS / f"{name.partition('.')[0]}.json").read_text())["graph"]
        same_graph(want, load_torch7(MODELS / f"{name}.t7"))

    def test_every_class_with_a_golden_is_known(self):
        names = {json.loads(path.read_text())["graph"]["class"] for path in (GOLDEN / "modules").glob("*.json")}
        assert names <= set(known_classes())


def same_graph(want: dict, network: GModule) -> None:
    assert (want["innode"] - 1, want["outnode"] - 1) == (network.in_node, network.out_node)
    for node, ours in zip(want["nodes"], network.nodes, strict=True):
        assert [i - 1 for i in node["inputs"]] == ours.sources
        assert node.get("selectindex", 0) - 1 == (-1 if ours.select is None else ours.select)
        if "nodes" in node.get("module", {}):
            same_graph(node["module"], network._modules[ours.module])
        elif "module" in node:
            assert network._modules[ours.module].class_name.partition(".")[2] == \
                node["module"]["class"].partition(".")[2]


def build(tmp_path: Path, root: object) -> torch.nn.Module:
    return load_torch7(write(tmp_path / "network.t7", root))


NAN = torch.tensor([[-1.0, float("nan"), 2.0]])


class TestNaN:
    """What becomes of NaN, and where that depends on a flag or on the library."""

    @pytest.mark.parametrize(("class_name", "in_place", "want"), [
        ("nn.ReLU", False, 0.0), ("nn.ReLU", True, float("nan")), ("cudnn.ReLU", True, float("nan")),
        ("cudnn.ReLU", False, float("nan"))])
    def test_relu(self, tmp_path: Path, class_name: str, in_place: bool, want: float):
        network = build(tmp_path, module(class_name, inplace=in_place))
        assert_close(network(NAN), torch.tensor([[0.0, want, 2.0]]), equal_nan=True)

    def test_hard_tanh_takes_nan_for_its_upper_bound(self, tmp_path: Path):
        assert build(tmp_path, module("nn.HardTanh", min_val=-3, max_val=5))(NAN).tolist() == [[-1, 5, 2]]
        network = build(tmp_path, module("nn.HardTanh", min_val=-3, max_val=5, inplace=True))
        assert network(NAN).isnan().tolist() == [[False, True, False]]

    def test_max_pooling_passes_over_nan(self, tmp_path: Path):
        fields = {"kW": 3, "kH": 1, "dW": 3, "dH": 1}
        image = NAN.view(1, 1, 1, 3)
        assert build(tmp_path, module("nn.SpatialMaxPooling", **fields))(image).item() == 2
        assert build(tmp_path, module("cudnn.SpatialMaxPooling", **fields))(image).isnan().all()


class TestModules:
    def test_theta_of_one_image_loses_its_batch_axis(self, tmp_path: Path):
        network = build(tmp_path, module("nn.View", size=long_storage(2, 3), numElements=6))
        assert network(torch.zeros(1, 6)).shape == (2, 3)
        assert network(torch.zeros(5, 6)).shape == (5, 2, 3)

    def test_a_view_that_does_not_fit_is_a_sentence(self, tmp_path: Path):
        network = build(tmp_path, module("nn.View", size=long_storage(2, 3)))
        with pytest.raises(NetError, match=r"nn\.View\(2, 3\): an input of \[2, 5\] does not fit"):
            network(torch.zeros(2, 5))

    def test_a_singular_theta_is_a_sentence(self):
        with pytest.raises(NetError, match="theta cannot be inverted"):
            load(GOLDEN / "modules" / "get_alpha.t7")(torch.tensor([[[1.0, 2, 0], [2, 4, 1]]]))

    def test_exported_get_alpha_inverts_theta_too(self):
        case = json.loads((GOLDEN / "modules" / "get_alpha.json").read_text())["cases"][0]
        x, want = (values(GOLDEN / "modules", case[name]) for name in ("input", "output"))
        exported = torch.export.export(load(GOLDEN / "modules" / "get_alpha.t7"), (x,)).module()
        assert_close(exported(x), want, rtol=0, atol=MODULE_TOLERANCE * float(want.abs().max()))

    def test_published_gradient_of_get_alpha_is_the_derivative(self):
        theta = torch.tensor([[[0.9, 0.15, 0.1], [-0.2, 1.1, -0.07]], [[1.2, -0.3, 0.4], [0.5, 0.8, -0.6]]],
                             dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(load(GOLDEN / "modules" / "get_alpha.t7").double(), theta)

    def test_sampler_has_the_gradient_of_its_output(self):
        torch.manual_seed(1701)
        image = torch.randn(2, 5, 4, 3, dtype=torch.float64, requires_grad=True)
        grid = (torch.rand(2, 3, 6, 2, dtype=torch.float64) * 2.6 - 1.3).requires_grad_()
        sampler = load(GOLDEN / "modules" / "sampler.t7")
        assert torch.autograd.gradcheck(lambda *x: sampler(list(x)), (image, grid))

    def test_sampler_reads_nothing_beyond_the_border(self):
        sampler = load(GOLDEN / "modules" / "sampler.t7")
        image = torch.full((1, 3, 4, 2), float("inf"))
        far = torch.tensor([1e30, -1e30, 2.5, -7.0]).view(1, 1, 4, 1).expand(1, 1, 4, 2)
        assert sampler([image, far]).isfinite().all()

    def test_base_grid_is_that_of_stnbhwd(self):
        grid = load(GOLDEN / "modules" / "grid.t7")
        assert torch.equal(grid.base_grid, stn.base_grid(5, 6))

    @pytest.mark.parametrize("name", ["conv", "conv_mm", "dilated", "maxpool_p", "maxpool_ceil", "avgpool_ceil",
                                      "upsample2", "bn", "view_b", "view_nid", "view_m1n", "grid", "get_alpha"])
    def test_output_shape_is_that_of_the_output(self, name: str):
        cases = json.loads((GOLDEN / "modules" / f"{name}.json").read_text())["cases"]
        network = load(GOLDEN / "modules" / f"{name}.t7")
        for case in cases:
            assert list(network.output_shape(tuple(case["input"]["shape"]))) == case["output"]["shape"]

    def test_batch_norm_learns_the_running_statistics(self, tmp_path: Path):
        network = module("nn.SpatialBatchNormalization", train=True, momentum=0.3, version=2,
                         running_mean=tensor(np.zeros(3, np.float32)), running_var=tensor(np.ones(3, np.float32)))
        with pytest.warns(UserWarning, match="saved in training mode"):
            network = build(tmp_path, network)
        x = torch.randn(4, 3, 5, 2)
        y = network(x)
        assert_close(y.mean((0, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
        assert_close(network.running_mean, 0.3 * x.mean((0, 2, 3)))
        assert_close(network.running_var, 0.7 + 0.3 * x.var((0, 2, 3)))

    def test_a_batch_of_one_in_training_mode_takes_the_running_statistics(self):
        network = load(GOLDEN / "modules" / "bn_train_b1.t7")
        before = network.running_mean.clone()
        network(torch.randn(1, 5, 4, 4))
        assert torch.equal(network.running_mean, before)

    def test_evaluate_puts_all_in_evaluation_mode(self):
        network = load_torch7(MODELS / "uncleared_train.t7", evaluate=True)
        assert not any(part.training for part in network.modules())

    def test_training_mode_is_warned_of(self):
        with pytest.warns(UserWarning, match=r"nn\.SpatialBatchNormalization are saved in training mode"):
            network = load_torch7(MODELS / "uncleared_train.t7")
        assert any(isinstance(part, BatchNormalization) and part.training for part in network.modules())

    def test_average_pooling_of_old_files_has_no_padding(self, tmp_path: Path):
        old = build(tmp_path, module("nn.SpatialAveragePooling", kW=2, kH=2, dW=2, dH=2, padW=1, padH=1, divide=True))
        assert old(torch.ones(1, 2, 6, 4)).shape == (1, 2, 3, 2)

    def test_cudnn_pooling_that_would_look_outside_says_so(self, tmp_path: Path):
        network = build(tmp_path, module("cudnn.SpatialMaxPooling", kW=1, kH=1, dW=2, dH=2, ceil_mode=True))
        with pytest.raises(NetError, match="last window lies outside"):
            network(torch.zeros(1, 1, 4, 4))

    @pytest.mark.parametrize(("class_name", "fields", "x", "want"), [
        ("nn.Clamp", {"min_val": -1, "max_val": 1}, [-3.0, 0.5, 7.0], [-1.0, 0.5, 1.0]),
        ("nn.ReLU6", {}, [-3.0, 0.5, 7.0], [0.0, 0.5, 6.0]),
        ("nn.ELU", {"alpha": 2}, [-1.0, 0.0, 3.0], [2 * np.expm1(-1), 0.0, 3.0]),
        ("nn.Power", {"pow": 3}, [1.0, -2.0, 3.0], [1.0, -8.0, 27.0]),
        ("nn.Sqrt", {}, [0.0, 4.0, 9.0], [0.0, 2.0, 3.0]),
        ("nn.Square", {}, [1.0, -2.0, 3.0], [1.0, 4.0, 9.0]),
        ("nn.Abs", {}, [1.0, -2.0, 3.0], [1.0, 2.0, 3.0]),
        ("nn.SoftSign", {}, [1.0, -3.0, 0.0], [0.5, -0.75, 0.0]),
        ("nn.Padding", {"dim": 1, "pad": -2, "value": 9}, [1.0, 2.0, 3.0], [9.0, 9.0, 1.0, 2.0, 3.0]),
        ("nn.Padding", {"dim": 1, "pad": 1, "value": 9, "index": 2}, [1.0, 2.0, 3.0], [1.0, 2.0, 9.0, 3.0]),
        ("nn.Max", {"dimension": 1}, [1.0, 5.0, 3.0], [5.0]),
        ("nn.Sum", {"dimension": -1}, [1.0, 5.0, 3.0], [9.0]),
        ("nn.Mean", {"dimension": 1}, [1.0, 5.0, 3.0], [3.0]),
        ("nn.Normalize", {"p": 2, "eps": 0}, [3.0, 0.0, 4.0], [0.6, 0.0, 0.8]),
        ("nn.Narrow", {"dimension": 1, "index": 2, "length": -1}, [1.0, 2.0, 3.0], [2.0, 3.0]),
        ("nn.SoftPlus", {"beta": 1, "threshold": 20}, [0.0, 30.0, -50.0], [np.log(2), 30.0, 1.9287498e-22]),
        ("nn.Normalize", {"p": np.inf, "eps": 1}, [3.0, 0.0, -4.0], [0.6, 0.0, -0.8]),
        ("nn.Normalize", {"p": 1, "eps": 0}, [3.0, 0.0, -1.0], [0.75, 0.0, -0.25]),
        ("nn.Min", {"dimension": 1}, [[4.0, 5.0, 3.0], [1.0, 9.0, 7.0]], [1.0, 5.0, 3.0]),
        ("nn.Min", {"dimension": 2}, [[4.0, 5.0, 3.0], [1.0, 9.0, 7.0]], [3.0, 1.0]),
        ("nn.Sum", {"dimension": 1, "squeeze": False}, [[4.0, 5.0, 3.0], [1.0, 9.0, 7.0]], [[5.0, 14.0, 10.0]]),
        ("nn.Sum", {"dimension": 2, "sizeAverage": True}, [[4.0, 5.0, 3.0], [1.0, 8.0, 6.0]], [4.0, 5.0]),
        ("nn.Squeeze", {"dim": 2}, [[[1.0]], [[2.0]]], [[1.0], [2.0]]),
        ("nn.Squeeze", {"dim": 1}, [7.0], [7.0]),  # a vector of one value keeps its axis
        ("nn.PixelShuffle", {"upscaleFactor": 2}, [[[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]], [[7.0, 8.0]]]],
         [[[[1.0, 3.0, 2.0, 4.0], [5.0, 7.0, 6.0, 8.0]]]]),
        ("nn.SpatialReflectionPadding", {"pad_l": 1, "pad_r": 2, "pad_t": 0, "pad_b": 1}, [[[1.0, 2, 3], [4, 5, 6]]],
         [[[2.0, 1, 2, 3, 2, 1], [5, 4, 5, 6, 5, 4], [2, 1, 2, 3, 2, 1]]]),
        ("nn.SpatialReplicationPadding", {"pad_l": 1, "pad_r": 0, "pad_t": 1, "pad_b": 0}, [[[1.0, 2, 3], [4, 5, 6]]],
         [[[1.0, 1, 2, 3], [1, 1, 2, 3], [4, 4, 5, 6]]]),
        ("nn.SpatialAdaptiveMaxPooling", {"H": 1, "W": 2}, [[[1.0, 2, 3], [4, 9, 6]]], [[[9.0, 9.0]]]),
        ("nn.SpatialAdaptiveAveragePooling", {"H": 1, "W": 3}, [[[1.0, 2, 3], [4, 9, 6]]], [[[2.5, 5.5, 4.5]]]),
        ("cudnn.SoftMax", {}, [[[[0.0], [0.0]], [[0.0], [float(np.log(5))]]]],
         [[[[0.125], [0.125]], [[0.125], [0.625]]]]),
    ])
    def test_by_hand(self, tmp_path: Path, class_name: str, fields: dict, x: list, want: list):
        network = build(tmp_path, module(class_name, **fields))
        assert_close(network(torch.tensor(x)), torch.tensor(want, dtype=torch.float32))

    @pytest.mark.parametrize(("class_name", "field", "weight", "x", "want"), [
        ("nn.Mul", "weight", [3], [[1, -2], [0, 4]], [[3, -6], [0, 12]]),
        ("nn.Add", "bias", [1, 5], [[1, -2], [0, 4]], [[2, 3], [1, 9]]),
        ("nn.Add", "bias", [1, 5], [1, -2], [2, 3]),
        ("nn.CMul", "weight", [2, 5], [[1, -2], [0, 4], [3, 1]], [[2, -10], [0, 20], [6, 5]]),
        ("nn.CMul", "weight", [[[2], [5]]], [[[1, -2, 3], [0, 4, 1]]], [[[2, -4, 6], [0, 20, 5]]]),
        ("nn.CMul", "weight", [[2, 5]], [3, 4], [6, 20]),
        ("nn.CAdd", "bias", [[2], [5]], [[1, -2, 3], [0, 4, 1]], [[3, 0, 5], [5, 9, 6]]),
        ("nn.CAdd", "bias", [2, 5], [[1, -2], [0, 4], [3, 1]], [[3, 3], [2, 9], [5, 6]]),
    ])
    def test_learned_factors_and_offsets_by_hand(self, tmp_path: Path, class_name, field, weight, x, want):
        network = build(tmp_path, module(class_name, **{field: tensor(np.float32(weight))}))
        y = network(torch.tensor(x, dtype=torch.float32))
        assert torch.equal(y, torch.tensor(want, dtype=torch.float32))
        y.sum().backward()  # the factor or the offset learns
        assert next(network.parameters()).grad is not None

    def test_an_offset_that_is_one_number(self, tmp_path: Path):
        network = build(tmp_path, module("nn.Add", bias=tensor(np.float32([2.5])), scalar=True))
        assert network(torch.tensor([[1.0, -2.0, 3.0]])).tolist() == [[3.5, 0.5, 5.5]]

    def test_subsampling_by_hand(self, tmp_path: Path):
        network = build(tmp_path, module("nn.SpatialSubSampling", nInputPlane=2, kW=2, kH=1, dW=2, dH=1,
                                         weight=tensor(np.float32([1, 10])), bias=tensor(np.float32([0.5, -1]))))
        x = torch.tensor([[[1.0, 2, 3, 4], [5, 6, 7, 8]], [[1, 0, 0, 1], [2, 2, 3, 3]]])
        assert network(x).tolist() == [[[3.5, 7.5], [11.5, 15.5]], [[9.0, 9.0], [39.0, 59.0]]]

    def test_average_pooling_that_does_not_divide(self, tmp_path: Path):
        network = build(tmp_path, module("nn.SpatialAveragePooling", kW=2, kH=2, dW=2, dH=2, padW=0, padH=0,
                                         ceil_mode=False, count_include_pad=True, divide=False))
        assert network(torch.tensor([[[1.0, 2, 3, 4], [5, 6, 7, 8]]])).tolist() == [[[14.0, 22.0]]]

    def test_a_full_convolution_takes_its_output_size_from_a_second_input(self, tmp_path: Path):
        network = build(tmp_path, module(
            "nn.SpatialFullConvolution", nInputPlane=1, nOutputPlane=1, kW=2, kH=2, dW=2, dH=2, padW=0, padH=0,
            adjW=0, adjH=0, weight=tensor(np.ones((1, 1, 2, 2), np.float32)), bias=tensor(np.zeros(1, np.float32))))
        x = torch.tensor([[[[1.0, 2.0]]]])
        assert network(x).shape == (1, 1, 2, 4)
        y = network([x, torch.zeros(1, 1, 3, 5)])
        assert y.tolist() == [[[[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [0, 0, 0, 0, 0]]]]

    @pytest.mark.parametrize(("network", "shape", "words"), [
        (module("nn.SpatialMaxPooling", kW=3, kH=3, dW=1, dH=1), (1, 2, 2, 5),
         "nn.SpatialMaxPooling: an image of size 2 is smaller than the window of 3"),
        (module("nn.SpatialMaxPooling", kW=1, kH=1, dW=1, dH=1), (2, 5),
         "nn.SpatialMaxPooling: takes (N, C, H, W) or (C, H, W), not [2, 5]"),
        (module("nn.SpatialUpSamplingNearest", scale_factor=2), (2, 5),
         "nn.SpatialUpSamplingNearest: takes (N, C, H, W) or (C, H, W), not [2, 5]"),
        (module("nn.View", size=long_storage(3, 4), numElements=12), (2, 5),
         "nn.View(3, 4): an input of [2, 5] does not fit"),
        (module("nn.SpatialBatchNormalization", running_mean=tensor(np.zeros(3, np.float32)),
                running_var=tensor(np.ones(3, np.float32)), nDim=4), (1, 2, 4, 4),
         "nn.SpatialBatchNormalization: takes 4 dimensions, or one less in evaluation mode, and 3 channels, not "
         "[1, 2, 4, 4]"),
    ])
    def test_inputs_that_do_not_fit(self, tmp_path: Path, network: Torch7Object, shape: tuple[int, ...], words: str):
        with pytest.raises(NetError) as caught:
            build(tmp_path, network)(torch.zeros(shape))
        assert words in str(caught.value)

    @pytest.mark.parametrize(("network", "words"), [
        (module("nn.Linear", weight=tensor(np.zeros(3, np.float32))), "weight has 1 dimensions; expected 2"),
        (module("cudnn.SpatialAveragePooling", kW=2, kH=2, ceil_mode=False, divide=False),
         "divide is false, which cudnn does not support"),
        (module("nn.Threshold", threshold=0, val=2, inplace=True),
         "in place, its value 2 must not exceed its threshold 0"),
        (module("nn.SpatialMaxPooling", kW=2, kH=2, padW=2, padH=0),
         "pad (0, 2) is more than half of the window (2, 2)"),
    ])
    def test_settings_that_cannot_be(self, tmp_path: Path, network: Torch7Object, words: str):
        with pytest.raises(RmpeError) as caught:
            build(tmp_path, network)
        assert words in str(caught.value)

    def test_square_root_has_no_slope_at_zero(self, tmp_path: Path):
        x = torch.tensor([0.0, 4.0], requires_grad=True)
        build(tmp_path, module("nn.Sqrt"))(x).sum().backward()
        assert x.grad.tolist() == [0.0, 0.25]

    def test_tables_by_hand(self, tmp_path: Path):
        a, b = torch.tensor([1.0, 5.0]), torch.tensor([3.0, 2.0])
        assert build(tmp_path, module("nn.CMaxTable"))([a, b]).tolist() == [3, 5]
        assert build(tmp_path, module("nn.CMinTable"))([a, b]).tolist() == [1, 2]
        assert [t.tolist() for t in build(tmp_path, module("nn.SplitTable", dimension=1))(torch.stack([a, b]))] == \
            [[1, 5], [3, 2]]
        assert build(tmp_path, module("nn.NarrowTable", offset=2, length=1))([a, b])[0] is b

    def test_depth_concat_centres_what_is_smaller(self, tmp_path: Path):
        small = module("nn.SpatialZeroPadding", pad_l=-1, pad_r=-1, pad_t=-1, pad_b=-1)
        network = build(tmp_path, module("nn.DepthConcat", module("nn.Identity"), small, dimension=2))
        y = network(torch.ones(1, 1, 3, 4))
        assert y[0, 1].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]

    def test_upsampling_bilinear_keeps_the_corners(self, tmp_path: Path):
        network = build(tmp_path, module("nn.SpatialUpSamplingBilinear", scale_factor=2))
        assert network(torch.tensor([[[0.0, 3.0]]])).tolist() == [[[0, 1, 2, 3], [0, 1, 2, 3]]]

    def test_matrix_generator(self, tmp_path: Path):
        network = build(tmp_path, module("nn.AffineTransformMatrixGenerator", useRotation=True, useScale=True,
                                         useTranslation=True))
        theta = network(torch.tensor([[np.pi / 2, 2.0, 0.5, 0.25]], dtype=torch.float32))
        assert_close(theta, torch.tensor([[[0.0, -2.0, -0.5], [2.0, 0.0, 1.0]]]), atol=1e-6, rtol=0)

    def test_gpu_writes_two_tables(self, tmp_path: Path):
        """nn.GPU has a header before its fields, which no other class has."""
        path = write(tmp_path / "gpu.t7", module("nn.GPU", module("nn.Tanh")))
        data = path.read_bytes()
        at = data.index(b"nn.GPU") + len(b"nn.GPU")
        path.write_bytes(data[:at] + struct.pack("<iii", 3, 99, 1) + struct.pack("<idid", 1, 1, 1, 2) + data[at:])
        x = torch.tensor([0.5, -2.0])
        assert torch.equal(load_torch7(path)(x), x.tanh())

    def test_dropout_in_training(self, tmp_path: Path):
        torch.manual_seed(1)
        with pytest.warns(UserWarning, match="training mode"):
            new = build(tmp_path, module("nn.Dropout", p=0.25, v2=True, train=True))
        assert new(torch.ones(100)).unique().tolist() == pytest.approx([0, 4 / 3])
        with pytest.warns(UserWarning, match="training mode"):
            old = build(tmp_path, module("nn.Dropout", p=0.25, train=True))
        assert old(torch.ones(100)).unique().tolist() == pytest.approx([0, 1])

    @pytest.mark.parametrize("fields", [{"permutations": table(table(1, 3))},
                                        {"permutations": table(table(1, 2)), "numInputDims": 4}],
                             ids=["beyond the last", "before the first"])
    def test_a_transpose_of_missing_axes_is_refused(self, tmp_path: Path, fields: dict):
        with pytest.raises(NetError, match="swaps axes that an input of 2 axes does not have"):
            build(tmp_path, module("nn.Transpose", **fields))(torch.zeros(2, 3))

    def test_an_in_place_module_leaves_its_input_alone(self, tmp_path: Path):
        x = torch.tensor([-1.0, 2.0])
        build(tmp_path, module("nn.ReLU", inplace=True))(x)
        assert x.tolist() == [-1, 2]


class TestParameters:
    def test_shared_tensors_are_one_parameter(self):
        network = load_torch7(GOLDEN / "modules" / "shared_clone.t7")
        weights = [part.weight for part in network.modules() if hasattr(part, "weight")]
        assert len(weights) > len({id(weight) for weight in weights})

    def test_flattened_parameters_share_one_memory(self):
        network = load_torch7(MODELS / "rmpe.t7")
        assert len({p.untyped_storage().data_ptr() for p in network.parameters()}) == 1
        assert sum(p.numel() for p in network.parameters()) == 100_954

    def test_weights_are_our_own(self, tmp_path: Path):
        path = tmp_path / "linear.t7"
        path.write_bytes((GOLDEN / "modules" / "linear.t7").read_bytes())
        network = load_torch7(path)
        with torch.no_grad():
            network.weight.fill_(7)
        assert path.read_bytes() == (GOLDEN / "modules" / "linear.t7").read_bytes()

    def test_big_endian_weights(self, tmp_path: Path):
        root = read_torch7(GOLDEN / "modules" / "linear.t7").root
        network = load_torch7(write(tmp_path / "big.t7", root, order=">"))
        assert torch.equal(network.weight, load_torch7(GOLDEN / "modules" / "linear.t7").weight)

    def test_double_stays_double(self, tmp_path: Path):
        weight = tensor(np.arange(6.0).reshape(2, 3), "torch.DoubleTensor")
        network = build(tmp_path, module("nn.Linear", weight=weight))
        assert network(torch.ones(3, dtype=torch.float64)).tolist() == [3, 12]

    def test_frozen_modules_do_not_learn(self, tmp_path: Path):
        weight = tensor(np.ones((2, 3), np.float32))
        frozen = module("nn.Linear", weight=weight, accGradParameters=Function(b"\x1bLJ", table()))
        network = build(tmp_path, module("nn.Sequential", frozen))
        assert not next(network.parameters()).requires_grad


def deep(levels: int) -> Torch7Object:
    network = module("nn.Identity")
    for _ in range(levels):
        network = module("nn.Sequential", network)
    return network


def inside_itself() -> Torch7Object:
    network = module("nn.Sequential")
    network.fields[b"modules"] = table(network)
    return network


def repeated() -> Tensor:
    return Tensor("torch.FloatTensor", (1 << 20, 1 << 20), (0, 0), 0, Storage("torch.FloatStorage", np.ones(1, "f4")))


DAMAGED = {
    "a class that is not known": (module("nn.Quark"), "nn.Quark at byte 0: this class has no counterpart"),
    "a table": (table(1, 2), "not a network"),
    "no weight": (module("nn.Linear"), "weight is missing"),
    "a number as weight": (linear(weight=3.0), "weight is 3.0; expected a tensor"),
    "a weight of integers": (linear(weight=tensor(np.ones((2, 3), np.int64), "torch.LongTensor")), "floating-point"),
    "a weight of 2^40 by stride 0": (linear(weight=repeated()), "values, but its storage has 1"),
    "a bias of another length": (linear(bias=tensor(np.ones(5, np.float32))), "bias is 5; expected 2"),
    "a kernel of another size": (convolution(kW=3), "weight is 4x3x2x2; expected 4x3x2x3"),
    "half a window": (convolution(kW=2.5), "kW is 2.5; a whole number"),
    "an infinite window": (convolution(kW=float("inf")), "kW is inf; a whole number"),
    "a window that is NaN": (convolution(kW=float("nan")), "kW is nan"),
    "a stride of 0": (convolution(dW=0), "dW is 0; expected a whole number of at least 1"),
    "a window that is text": (convolution(kW="three"), "kW is three; expected a number"),
    "modules that are not a table": (module("nn.Sequential", modules=1.0), "modules is 1.0; a table"),
    "modules that are numbers": (module("nn.Sequential", modules=table(1.0)),
                                 "1.0 was found where a module is expected"),
    "a module in itself": (inside_itself(), "contains itself"),
    "modules 150 deep": (deep(150), "nested more than 100 deep"),
    "a view of size 0": (module("nn.View", size=long_storage(0, 3)), "must be positive"),
    "a view of two unknowns": (module("nn.View", size=long_storage(-1, -1)), "at most once"),
    "a transpose without pairs": (module("nn.Transpose"), "permutations is not a table"),
    "a transpose of one axis": (module("nn.Transpose", permutations=table(table(1))), "pairs of dimensions"),
    "a grid that is not in the file": (module("nn.AffineGridGeneratorBHWD", height=1e5, width=1e5), "does not hold"),
    "a grid of another size": (module("nn.AffineGridGeneratorBHWD", height=3, width=4,
                                      baseGrid=tensor(np.ones((4, 3, 3), np.float32))), "baseGrid is [4, 3, 3]"),
    "batch norm without statistics": (module("nn.BatchNormalization"), "two vectors of one length"),
    "a graph without nodes": (module("nn.gModule"), "forwardnodes is missing"),
    "a graph of numbers": (module("nn.gModule", forwardnodes=table(1, 2)), "something other than nodes"),
    "dropout of everything": (module("nn.Dropout", p=1), "p is 1"),
    "pad beyond the window": (module("nn.SpatialMaxPooling", kW=2, kH=2, padW=2, padH=2), "more than half"),
}


class TestDamaged:
    @pytest.mark.parametrize("name", DAMAGED)
    def test_is_a_sentence(self, tmp_path: Path, name: str):
        root, reason = DAMAGED[name]
        with pytest.raises(FileError) as caught:
            build(tmp_path, root)
        assert reason in str(caught.value)
        assert "network.t7" in str(caught.value)

    def test_one_module_used_a_billion_times(self, tmp_path: Path):
        network = module("nn.Identity")
        for _ in range(30):
            network = module("nn.Sequential", network, network)
        with pytest.raises(FileError, match="more than 100000 modules, counted where they are used"):
            build(tmp_path, network)

    @pytest.mark.parametrize(("value", "given"), [
        (torch.ones(1, 4, 4, 4), "1x4x4x4"), (torch.ones(2), "2"), ([torch.ones(1)], "a table of 1"), ("x", "str"),
    ])
    def test_an_input_that_does_not_fit_is_a_sentence(self, tmp_path: Path, value: object, given: str):
        network = build(tmp_path, module("nn.Sequential", convolution()))
        with pytest.raises(NetError, match=rf"network\.t7: nn\..* at byte \d+: cannot compute with {given}: "):
            network(value)

    @pytest.mark.parametrize("damage", ["no mapindex", "a loop", "two sources", "no data", "out-node elsewhere",
                                        "select nothing"])
    def test_a_graph_that_makes_no_sense_is_a_sentence(self, tmp_path: Path, damage: str):
        root = read_torch7(GOLDEN / "modules" / "g_split.t7").root
        nodes = root.get("forwardnodes").seq()
        data = [node.get("data") for node in nodes]
        if damage == "no mapindex":
            data[1]["mapindex"] = Table()
        elif damage == "a loop":
            nodes[-2].get("children")[1.0] = nodes[1]
            data[1]["mapindex"][data[-2]] = 2.0
        elif damage == "two sources":
            nodes[0].get("children")[2.0] = nodes[1]
        elif damage == "no data":
            nodes[1].fields[b"data"] = 3.0
        elif damage == "out-node elsewhere":
            root.fields[b"outnode"] = module("nngraph.Node", data=table())
        else:
            split = next(d for d in data if d.get("selectindex") is not None)
            split[b"selectindex"] = b"one"
        with pytest.raises(FileError):
            build(tmp_path, root)

    def test_flipped_bytes_in_a_network(self):
        import random

        from rmpe_legacy.torch7.load import build_module
        from rmpe_legacy.torch7.reader import parse_torch7

        chance, built = random.Random(1701), 0
        for name in ("g_split", "conv", "bn", "view_nid", "maxpool_p", "grid", "transpose", "sequential"):
            data = (GOLDEN / "modules" / f"{name}.t7").read_bytes()
            for _ in range(150):
                damaged = bytearray(data)
                for _ in range(chance.choice((1, 2, 5))):
                    damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 127, 255, chance.randrange(256)))
                try:
                    build_module(parse_torch7(bytes(damaged)))
                    built += 1
                except RmpeError:  # any other exception is a bug
                    continue
        assert built > 100


def test_images_without_a_batch_axis(tmp_path: Path):
    network = build(tmp_path, convolution())
    assert isinstance(network, spatial.SpatialConvolution)
    assert network(torch.ones(3, 5, 4)).shape == (4, 4, 3)
