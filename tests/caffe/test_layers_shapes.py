"""Inputs of odd shapes, to every layer that the golden cases have: each is computed, or refused in one sentence."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from one_layer import layer, net_of
from paths import GOLDEN

from rmpe_legacy import RmpeError, load_net
from rmpe_legacy.caffe.layers.prior_box import _aspect_ratios

CASES = sorted(path for kind in ("layers", "variants", "detection") for path in GOLDEN.glob(f"{kind}/*/net.prototxt"))
TYPES = sorted({path.parent.name.partition("__")[0] for path in CASES})
Shape = tuple[int, ...]


def odd_shapes(shape: Shape) -> Iterator[Shape]:
    """Shapes that differ from one in their axes, or that are empty somewhere."""
    yield from [(), (0,), (3,), (1,) * 8, (*shape, 2), shape[:-1], tuple(size + 1 for size in shape)]
    yield from ((*shape[:i], 0, *shape[i + 1 :]) for i in range(len(shape)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("type", TYPES)
def test_an_odd_shape_is_computed_or_refused_by_the_layer(type, monkeypatch, tmp_path):
    """Torch's own words come through only where a layer has not looked, and a refusal is always an RmpeError."""
    for path in CASES:
        if path.parent.name.partition("__")[0] != type:
            continue
        monkeypatch.chdir(tmp_path if type == "HDF5Output" else path.parent)  # which writes where it runs
        for phase in ("TEST", "TRAIN"):
            try:
                net = load_net(path, strict=False, phase=phase)
            except RmpeError:
                continue  # a case of another dialect
            for name, shape in net.inputs.items():
                for odd in odd_shapes(shape):
                    said = refusal(net, {**net.inputs, name: odd}, backward=phase == "TRAIN")
                    assert "torch cannot compute" not in said
                    assert "\n" not in said


def refusal(net, shapes: dict[str, Shape], backward: bool) -> str:
    """What a forward, and a backward, of random inputs is refused with; "" if it is computed."""
    if sum(map(np.prod, shapes.values())) > 200_000:
        return ""
    try:
        tops = net({name: torch.rand(shape) for name, shape in shapes.items()})
        total = sum(top.sum() for top in tops.values() if top.requires_grad)
        if backward and isinstance(total, torch.Tensor):
            total.backward()
    except RmpeError as error:
        return str(error)
    return ""


def test_a_refused_shape_does_not_spoil_the_next_forward():
    net = net_of(layer("InfogainLoss", "x l h"), {"x": (3, 4), "l": (3,), "h": (1, 1, 4, 4)})
    values = {"x": torch.rand(3, 4), "l": torch.zeros(3), "h": torch.rand(1, 1, 4, 4)}
    right = net(values)["y"]
    with pytest.raises(RmpeError, match="needs a matrix of"):
        net({**values, "x": torch.rand(3, 0)})
    assert torch.equal(net(values)["y"], right)


class TestValuesAtTheEdge:
    """Numbers that a prototxt can hold and torch, or a list, cannot."""

    def test_a_window_of_lrn_that_is_wider_than_its_bottom(self):
        x = torch.randn(2, 3, 4, 5)
        for region in ("ACROSS_CHANNELS", "WITHIN_CHANNEL"):
            def net(size: int, alpha: float, region: str = region):
                param = f"lrn_param {{ local_size: {size} alpha: {alpha} norm_region: {region} }}"
                return net_of(layer("LRN", rest=param), (2, 3, 4, 5))

            n = 4294967295 if region == "ACROSS_CHANNELS" else 4294967295**2
            small = 11 if region == "ACROSS_CHANNELS" else 121
            torch.testing.assert_close(net(4294967295, 7.0)(x)["y"], net(11, 7.0 * small / n)(x)["y"])

    @pytest.mark.parametrize("eps", [0.0, -1e-6])
    def test_batch_norm_without_a_positive_eps(self, eps):
        text = layer("BatchNorm", rest=f"batch_norm_param {{ eps: {eps} }}")
        net = net_of(text, (4, 3, 2, 2), phase="TRAIN").double()
        x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
        torch.testing.assert_close(net(x)["y"], (x - mean) / (variance + np.float32(eps)).sqrt())
        torch.testing.assert_close(net.params["layer"][1].data, x.var((0, 2, 3)))

    def test_a_fixed_theta_beyond_single_precision_is_infinite(self):
        net = net_of(layer("SpatialTransformer", "x t", rest="st_param { theta_1_1: 1e39 theta_1_2: 0 theta_1_3: 0.1 "
                           "theta_2_1: 0 theta_2_2: 0.7 }"), {"x": (2, 1, 5, 5), "t": (2, 1)})
        assert net(x=torch.ones(2, 1, 5, 5), t=torch.ones(2, 1))["y"].shape == (2, 1, 5, 5)
        theta = net.layer._full(torch.zeros(2, 1))
        assert theta[0].tolist() == [float("inf"), 0, np.float32(0.1), 0, np.float32(0.7), 0]

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize(("type", "param"), [
        ("Power", "power_param { power: 1e38 scale: 1e38 }"), ("Exp", "exp_param { base: 2 scale: 3e38 shift: 1e38 }"),
        ("Exp", "exp_param { shift: 1e38 }"), ("Log", "log_param { base: 1.0000001 scale: 3e38 }"),
        ("Reduction", "reduction_param { operation: MEAN axis: 1 }"),
    ])
    def test_numpy_does_not_warn(self, type, param):
        shape = (2, 0) if type == "Reduction" else (2, 3)
        net_of(layer(type, rest=param), shape)(torch.ones(shape))

    @pytest.mark.parametrize("flip", [True, False])
    def test_aspect_ratios_are_told_apart_as_published(self, flip):
        def one_by_one(given):
            ratios = [np.float32(1)]
            for value in np.array(given, np.float32):
                if any(abs(value - ratio) < 1e-6 for ratio in ratios):
                    continue
                ratios += [value, np.float32(1 / np.float64(value))][: 1 + flip]
            return [float(ratio) for ratio in ratios]

        random = np.random.default_rng(5)
        near = 1 + random.integers(-40, 40, 300) * 1e-7
        given = [*near, *random.uniform(0.2, 5, 200), 2, 3, 2, 0.5, 1 / 3, 1, float("inf"), 1e-30]
        random.shuffle(given)
        assert _aspect_ratios(given, flip) == one_by_one(given)
        assert np.isnan(_aspect_ratios([float("nan")] * 2, flip)[1:]).all()

    def test_twenty_thousand_aspect_ratios(self):
        ratios = " ".join(f"aspect_ratio: {1 + i / 97}" for i in range(20_000))
        text = layer("PriorBox", "x x", rest=f"prior_box_param {{ min_size: 1 {ratios} }}")
        assert net_of(text, (1, 1, 1, 1)).steps[-1].layer.per_cell == 39_999
