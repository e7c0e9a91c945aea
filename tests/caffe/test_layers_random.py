"""What draws random numbers: its distribution, and that torch's seed repeats it."""

import math

import numpy as np
import pytest
import torch
from exported import by_onnx, by_python
from one_layer import layer, net_of, normal
from torch.testing import assert_close

from rmpe_legacy import RmpeError
from rmpe_legacy.caffe.layers.fillers import fill
from rmpe_legacy.caffe.proto.text import parse_text
from rmpe_legacy.compare.verify import verify
from rmpe_legacy.formats.base import NetRunner


def filled(shape: tuple[int, ...], text: str, dialect: str = "rmpe") -> torch.Tensor:
    torch.manual_seed(1701)
    blob = torch.empty(shape)
    fill(blob, parse_text(text, "FillerParameter", dialect))
    return blob


SHAPE = (40, 30, 5, 7)  # fan in 1050, fan out 1400
N = math.prod(SHAPE)


class TestFillers:
    """Means within 5 standard errors, deviations within 2 %."""

    @pytest.mark.parametrize(("text", "mean", "std"), [
        ('type: "gaussian"', 0, 1),
        ('type: "gaussian" mean: -3 std: 0.25', -3, 0.25),
        ('type: "uniform" min: -1 max: 3', 1, 4 / math.sqrt(12)),
        ('type: "xavier"', 0, math.sqrt(1 / 1050)),
        ('type: "xavier" variance_norm: FAN_OUT', 0, math.sqrt(1 / 1400)),
        ('type: "xavier" variance_norm: AVERAGE', 0, math.sqrt(1 / 1225)),
        ('type: "msra"', 0, math.sqrt(2 / 1050)),
        ('type: "msra" variance_norm: FAN_OUT', 0, math.sqrt(2 / 1400)),
        ('type: "msra" variance_norm: AVERAGE', 0, math.sqrt(2 / 1225)),
    ])
    def test_mean_and_deviation(self, text: str, mean: float, std: float):
        blob = filled(SHAPE, text).double()
        assert abs(blob.mean() - mean) < 5 * std / math.sqrt(N)
        assert abs(blob.std() / std - 1) < 0.02

    @pytest.mark.parametrize(("text", "low", "high"), [
        ('type: "uniform" min: -1 max: 3', -1, 3),
        ('type: "xavier"', -math.sqrt(3 / 1050), math.sqrt(3 / 1050)),
    ])
    def test_range(self, text: str, low: float, high: float):
        blob = filled(SHAPE, text).double()
        assert low <= blob.min() < low + 1e-3 * (high - low)
        assert high - 1e-3 * (high - low) < blob.max() <= high + 1e-7

    def test_sparse_keeps_a_share_of_the_first_axis(self):
        blob = filled((40, 5000), 'type: "gaussian" sparse: 10')
        assert abs((blob != 0).double().mean() - 10 / 40) < 5 * math.sqrt(0.25 * 0.75 / blob.numel())
        assert abs(blob[blob != 0].std() - 1) < 0.02

    def test_positive_unitball_rows_sum_to_1(self):
        blob = filled((4, 3, 5), 'type: "positive_unitball"')
        assert_close(blob.flatten(1).sum(1), torch.ones(4))
        assert (blob > 0).all()

    def test_one_axis_counts_as_num(self):
        """A bias of 600: num 600, channels 1; fan in 1, fan out 600."""
        assert abs(filled((600_000,), 'type: "msra"').std() / math.sqrt(2) - 1) < 0.02
        assert abs(filled((600,), 'type: "msra" variance_norm: FAN_OUT').std() / math.sqrt(2 / 600) - 1) < 0.1

    def test_five_axes_only_in_bvlc(self):
        assert filled((2, 3, 4, 5, 6), 'type: "xavier"', "bvlc").abs().max() <= math.sqrt(3 / 360)
        with pytest.raises(RmpeError, match="at most 4 axes; only dialect 'bvlc' takes more"):
            filled((2, 3, 4, 5, 6), 'type: "xavier"', "ssd")

    def test_constant_and_nearest(self):
        assert (filled((2, 3), 'type: "constant" value: 0.7') == torch.tensor(0.7)).all()
        assert (filled((2, 1, 3, 3), 'type: "nearest"') == 1).all()

    def test_diagonal_of_flownet(self):
        """filler.hpp:268 of lmb-freiburg/flownet2@b92e198, by hand."""
        blob = filled((3, 2, 2, 2), 'type: "diagonal" diag_val: 8', "flownet2")
        assert blob.flatten(2)[..., 0].tolist() == [[2, 0], [0, 0.25], [0, 0]]
        assert (blob == blob[..., :1, :1]).all()
        with pytest.raises(RmpeError, match="unknown filler 'diagonal'"):
            filled((3, 2, 2, 2), 'type: "diagonal"', "bvlc")

    def test_masks_of_hidden_two_stream(self):
        """filler.hpp of bryanyzhu/Hidden-Two-Stream@f7f684a: a border of a tenth of 7 pixels, rounded, is 1 wide."""
        mask = filled((2, 3, 7, 9), 'type: "borderMask" border_ratio: 0.1', "hidden-two-stream")
        assert mask[:, :, 1:-1, 1:-1].eq(1).all()
        assert mask.sum() == 2 * 3 * 5 * 7
        assert filled((1, 1, 3, 4), 'type: "borderMask" border_ratio: 0.5', "hidden-two-stream").sum() == 0
        flow = filled((1, 2, 3, 4), 'type: "flowBorderMask"', "hidden-two-stream")
        assert flow.sum() == 24 - 3 - 4
        assert not flow[0, 0, :, -1].any()
        assert not flow[0, 1, -1].any()
        with pytest.raises(RmpeError, match="needs border_ratio and a blob"):
            filled((1, 1, 3, 4), 'type: "borderMask"', "hidden-two-stream")
        with pytest.raises(RmpeError, match=r"needs a blob \(N, 2, H, W\), not \(1, 3, 3, 4\)"):
            filled((1, 3, 3, 4), 'type: "flowBorderMask"', "hidden-two-stream")

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
    def test_bilinear(self, size: int):
        """The published loop, in numpy scalars of single precision."""
        blob, f = filled((2, 1, size, size), 'type: "bilinear"'), math.ceil(size / 2)
        c = np.float32((2 * f - 1 - f % 2) / (2 * f))
        for y in range(size):
            for x in range(size):
                at = [np.float32(1) - abs(np.float32(v) / np.float32(f) - c) for v in (x, y)]
                assert blob[1, 0, y, x] == torch.tensor(at[0] * at[1])

    def test_file_that_is_too_short_repeats_its_last_number(self, tmp_path):
        (tmp_path / "w.txt").write_text("1 2\n3.5")
        with pytest.warns(UserWarning, match="has 3 numbers for a blob of 6; the last one is repeated"):
            blob = filled((2, 3), f'type: "file" file: "{tmp_path}/w.txt"')
        assert blob.flatten().tolist() == [1, 2, 3.5, 3.5, 3.5, 3.5]

    @pytest.mark.parametrize("range_", ["min: 0 max: 1e39", "min: -inf max: 0", "min: -3e38 max: 3e38", "max: nan"])
    def test_uniform_differs_in_refusing_an_infinite_range(self, range_):
        with pytest.raises(RmpeError, match=r"filler 'uniform' from .* the range must be finite"):
            filled((2, 3), f'type: "uniform" {range_}')

    def test_file_that_is_none(self):
        with pytest.raises(RmpeError, match="filler 'file': /dev/zero: is not a file"):
            filled((3,), 'type: "file" file: "/dev/zero"')

    def test_file_differs_in_refusing_what_is_no_number(self, tmp_path):
        (tmp_path / "w.txt").write_text("1,2,3")
        with pytest.raises(RmpeError, match="numbers are expected"):
            filled((3,), f'type: "file" file: "{tmp_path}/w.txt"')


class TestDropout:
    X = (20, 30, 40)

    UNSCALED = "dropout_param { dropout_ratio: 0.3 scale_train: false }"
    SAMPLED = "dropout_param { dropout_ratio: 0.3 sample_weights_test: true }"

    def run(self, seed: int, rest: str = "dropout_param { dropout_ratio: 0.3 }", phase: str = "TRAIN", **options):
        net = net_of(layer("Dropout", rest=rest), self.X, phase=phase, **options)
        torch.manual_seed(seed)
        x = normal(*self.X).requires_grad_()
        y = net(x=x)["y"]
        y.backward(torch.ones_like(y))
        return x.detach(), y.detach(), x.grad

    def test_keeps_a_share_and_scales_it(self):
        x, y, dx = self.run(0)
        kept = y != 0
        assert abs(kept.double().mean() - 0.7) < 5 * math.sqrt(0.21 / x.numel())
        scale = torch.tensor(1 / (1 - 0.3), dtype=torch.float32)
        assert_close(y, torch.where(kept, x * scale, 0), rtol=1e-7, atol=0)
        assert_close(dx, torch.where(kept, scale, 0), rtol=0, atol=0)

    def test_follows_torchs_seed(self):
        assert torch.equal(self.run(1)[1], self.run(1)[1])
        assert not torch.equal(self.run(1)[1], self.run(2)[1])

    def test_does_nothing_in_test_phase(self):
        x, y, dx = self.run(0, phase="TEST")
        assert torch.equal(x, y)
        assert (dx == 1).all()

    def test_ratio_0_keeps_all(self):
        x, y, _ = self.run(0, "dropout_param { dropout_ratio: 0 }")
        assert torch.equal(x, y)

    def test_differs_in_refusing_ratio_1(self):
        with pytest.raises(RmpeError, match=r"dropout_ratio is 1\.0; it must be at least 0"):
            self.run(0, "dropout_param { dropout_ratio: 1 }")

    @pytest.mark.parametrize("dialect", ["rcnn", "rfcn", "ctpn", "textboxes", "microsoft"])
    def test_without_scale_train_training_keeps_values_as_they_are(self, dialect):
        x, y, dx = self.run(0, self.UNSCALED, dialect=dialect)
        kept = y != 0
        assert abs(kept.double().mean() - 0.7) < 5 * math.sqrt(0.21 / x.numel())
        assert torch.equal(y[kept], x[kept])
        assert torch.equal(dx, kept.float())

    @pytest.mark.parametrize("dialect", ["rcnn", "rfcn", "ctpn", "textboxes", "microsoft"])
    def test_without_scale_train_test_phase_multiplies(self, dialect):
        x, y, dx = self.run(0, self.UNSCALED, phase="TEST", dialect=dialect)
        assert_close(y, x * 0.7, rtol=2e-7, atol=0)
        assert_close(dx, torch.full_like(x, 0.7), rtol=2e-7, atol=0)

    def test_scale_train_true_is_the_default(self):
        explicit = self.run(3, "dropout_param { dropout_ratio: 0.3 scale_train: true }", dialect="rcnn")
        assert torch.equal(explicit[1], self.run(3)[1])

    def test_without_scale_train_ratio_1_is_refused_in_test_too(self):
        with pytest.raises(RmpeError, match=r"dropout_ratio is 1\.0; it must be at least 0"):
            self.run(0, "dropout_param { dropout_ratio: 1 scale_train: false }", phase="TEST", dialect="rcnn")

    def test_without_scale_train_it_is_exported(self, tmp_path):
        net = net_of(layer("Dropout", rest=self.UNSCALED) + layer("Power", "y", "z"), (2, 3), dialect="rcnn")
        x = normal(2, 3)
        for make in (by_onnx, by_python):
            top = make(net, tmp_path).run({"x": x.numpy()}, ["z"]).blobs["z"]
            assert_close(torch.as_tensor(top), x * 0.7, rtol=2e-7, atol=0)

    @pytest.mark.parametrize("make", [by_onnx, by_python])
    @pytest.mark.parametrize("rest", [SAMPLED, SAMPLED.replace("}", "scale_train: false }")])
    def test_random_values_in_test_phase_are_exported(self, make, rest, tmp_path):
        net = net_of(layer("Dropout", rest=rest) + layer("Power", "y", "z", "power_param { scale: 3 shift: 1 }"),
                     (20, 50), dialect="mixed")
        runner = make(net, tmp_path)
        x = normal(20, 50).numpy()
        first, again = (runner.run({"x": x}, ["z"]).blobs["z"] for _ in range(2))
        kept = first != 1
        assert 0.6 < kept.mean() < 0.8
        assert (kept != (again != 1)).any()
        scale = 1 if "scale_train" in rest else 1 / 0.7
        np.testing.assert_allclose(first[kept], x[kept] * 3 * scale + 1, rtol=1e-5, atol=1e-5)
        verdict = verify(NetRunner(net, "net"), runner)
        assert verdict.same
        assert "layers that read y were given A's values" in verdict.sentence
        assert not verify(NetRunner(net, "net"), make(net_of(
            layer("Dropout") + layer("Power", "y", "z", "power_param { scale: 3 shift: 1 }"), (20, 50)), tmp_path)).same

    def test_of_few_values_those_that_both_keep_are_compared(self):
        after = layer("Power", "y", "z", "power_param { scale: 3 shift: 1 }")
        net = net_of(layer("Dropout", rest=self.SAMPLED.replace("0.3", "0.7")) + after, (1, 6), dialect="mixed")
        none, others = (net_of(layer("Power", rest=f"power_param {{ scale: {scale} }}") + after, (1, 6))
                        for scale in (0, 4))
        for seed in range(5):
            torch.manual_seed(seed)
            assert verify(NetRunner(net, "net"), NetRunner(net, "again")).same
            assert not verify(NetRunner(net, "net"), NetRunner(none, "zeros")).same
            assert not verify(NetRunner(net, "net"), NetRunner(others, "other values")).same


class TestStochasticPooling:
    """Differs: the published CPU code aborts; this is pooling_layer.cu:87-160."""

    NET = layer("Pooling", rest="pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }")
    SIZE = (2, 3, 7, 6)

    def windows(self, x: torch.Tensor):
        """Each window's cells in row order, as lists, by (n, c, out row, out column)."""
        for n, c in np.ndindex(2, 3):
            for i, j in np.ndindex(3, 3):
                rows, columns = range(2 * i, min(2 * i + 3, 7)), range(2 * j, min(2 * j + 3, 6))
                yield (n, c, i, j), [x[n, c, h, w].item() for h in rows for w in columns]

    def test_in_test_phase_it_is_the_mean_weighted_by_the_values(self):
        x = normal(*self.SIZE).abs()
        y = net_of(self.NET, self.SIZE)(x=x)["y"]
        for at, cells in self.windows(x):
            assert y[at].item() == pytest.approx(sum(v * v for v in cells) / sum(cells), rel=1e-5)

    def test_training_draws_cells_in_proportion_to_their_values(self):
        net, x = net_of(self.NET, self.SIZE, phase="TRAIN"), normal(*self.SIZE).abs()
        torch.manual_seed(1701)
        draws = torch.stack([net(x=x)["y"] for _ in range(2000)])
        for at, cells in self.windows(x):
            drawn = draws[(slice(None), *at)]
            for value in cells:
                share = value / sum(cells)
                seen = (drawn == value).double().mean()
                assert abs(seen - share) < 5 * math.sqrt(share * (1 - share) / 2000) + 1e-9

    def test_training_never_draws_a_zero(self):
        net = net_of(self.NET, self.SIZE, phase="TRAIN")
        x = torch.zeros(self.SIZE)
        x[:, :, 1::2, 1::2] = 1
        for _ in range(50):
            y = net(x=x)["y"]
            assert (y[:, :, :, :2] == 1).all()

    def test_training_sends_the_gradient_to_the_cell_drawn(self):
        net, x = net_of(self.NET, self.SIZE, phase="TRAIN"), normal(*self.SIZE).abs().requires_grad_()
        y = net(x=x)["y"]
        y.backward(torch.ones_like(y))
        assert x.grad.sum() == y.numel()
        assert (x.detach()[x.grad > 0][:, None] == y.detach().flatten()).any(1).all()
