"""Layers of the fork, HDF5Output and the recurrent state: what the goldens leave out."""

import dataclasses
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from one_layer import layer, net_of, normal
from torch.testing import assert_close

from rmpe_legacy import RmpeError, load_net
from rmpe_legacy.caffe.layers.pooling import maximum


class TestAccuracyHeatmap:
    NET = layer("AccuracyHeatmap", "x label", rest="accuracy_heatmap_param { threshold: 1.5 }")

    def by_loops(self, predicted: np.ndarray, label: np.ndarray, threshold: float) -> float:
        """accuracy_heatmap_layer.cpp:33-83, joint by joint."""
        points = correct = 0
        n, c, height, width = label.shape
        for i in range(n):
            for j in range(c):
                best, at = -np.inf, (0, 0)
                for y in range(height):
                    for x in range(width):
                        if label[i, j, y, x] > best:
                            best, at = label[i, j, y, x], (x, y)
                if at[0] > 1 and at[1] > 1:
                    points += 1
                    px, py = (int(v) for v in predicted[i, j, :2])
                    correct += math.hypot(at[0] - px, at[1] - py) / (height // 10) < threshold
        return correct / points

    def test_as_the_published_loops(self):
        label = normal(5, 4, 23, 17).round()  # rounded: ties, of which the first in row order counts
        place = label.flatten(2).argmax(2)
        predicted = torch.stack((place % 17, place // 17, place), 2) + normal(5, 4, 3, seed=3) * 3
        net = net_of(self.NET, {"x": (5, 4, 3), "label": (5, 4, 23, 17)})
        got = net(x=predicted, label=label)["y"].item()
        assert got == pytest.approx(self.by_loops(predicted.numpy(), label.numpy(), 1.5), abs=1e-7)
        assert 0 < got < 1

    def test_the_threshold_is_that_of_the_layer_set_up_last(self):
        net = net_of(self.NET, {"x": (5, 4, 3), "label": (5, 4, 23, 17)})
        net_of(self.NET.replace("1.5", "1000"), {"x": (5, 4, 3), "label": (5, 4, 23, 17)})
        assert net(x=normal(5, 4, 3), label=normal(5, 4, 23, 17))["y"] == 1

    def test_too_few_predictions(self):
        with pytest.raises(RmpeError, match="needs 3 values for each of 5 x 4 joints"):
            net_of(self.NET, {"x": (5, 4, 2), "label": (5, 4, 23, 17)})


class TestBatchNorm:
    NET = layer("BatchNorm", rest="batch_norm_param { moving_average_fraction: 0.5 }")

    @pytest.mark.parametrize("shape", [(3, 2, 4, 5), (7, 2), (1, 2, 1, 3)])
    def test_statistics_of_a_batch_are_added_to_half_of_those_before(self, shape: tuple[int, ...]):
        net = net_of(self.NET, shape, phase="TRAIN")
        axes = [i for i in range(len(shape)) if i != 1]
        stored = np.zeros(2), np.zeros(2), 0
        for seed in (1, 2):
            x = normal(*shape, seed=seed)
            net(x=x)
            now = x.numpy().mean(tuple(axes)), x.numpy().var(tuple(axes), ddof=1), 1
            stored = [old / 2 + new for old, new in zip(stored, now, strict=True)]
        for blob, want in zip(net.params["layer"], stored, strict=True):
            assert_close(blob.detach().numpy().reshape(np.shape(want)), np.asarray(want, np.float32))

    def test_one_value_a_channel(self):
        net = net_of(self.NET, (1, 3, 1, 1), phase="TRAIN")
        x = normal(1, 3, 1, 1)
        assert (net(x=x)["y"] == 0).all()
        mean, variance, factor = net.params["layer"]
        assert mean.tolist() == x.flatten().tolist()
        assert variance.tolist() == [0, 0, 0]
        assert factor.item() == 1


class TestEuclideanLossHeatmap:
    NET = layer("EuclideanLossHeatmap", "x z w", rest="loss_weight: 3")

    @pytest.mark.parametrize(("values", "factor"), [(1, 2), (2, 1), (3, 0), (12, 0)])
    def test_gradient_has_a_whole_number_for_a_factor_and_no_weight(self, values: int, factor: int):
        shape = (4, 1, 1, values)
        net = net_of(self.NET, {"x": shape, "z": shape, "w": shape})
        x, z = normal(*shape).requires_grad_(), normal(*shape, seed=2).requires_grad_()
        loss = net(x=x, z=z, w=x.detach())["y"]
        assert_close(loss, ((x - z) ** 2).mean())
        net.loss().backward()
        assert_close(x.grad, factor * (x - z).detach())
        assert z.grad is None or not z.grad.any()

    def test_windows_are_not_supported(self):
        with pytest.raises(RmpeError, match="visualise: true opens windows"):
            net_of(self.NET.replace("loss_weight: 3", "visualise: true"), dict.fromkeys("xzw", (4, 1, 2, 3)))


def test_losses_add_up_in_single_precision_term_by_term():
    """A hundred thousand terms: the exact sum is another number than the published loop's."""
    x, z = normal(4, 25_000), (normal(4, 25_000, seed=2) > 0).float()
    loss = net_of(layer("SigmoidCrossEntropyLoss", "x z"), {"x": (4, 25_000), "z": (4, 25_000)})(x=x, z=z)["y"]
    terms = torch.log(1 + torch.exp(-x.abs())) - x * (z - (x >= 0).float())
    total = np.float32(0)
    for term in terms.flatten().numpy():
        total += term
    assert loss.item() == total / np.float32(4)
    assert loss.item() != pytest.approx(terms.double().sum().item() / 4, rel=1e-7)


class TestAccuracy:
    def test_a_label_outside_the_classes_is_wrong(self):
        net = net_of(layer("Accuracy", "x label"), {"x": (4, 3), "label": (4,)})
        assert net(x=torch.eye(4, 3), label=torch.tensor([0.0, 1, 3, -1]))["y"] == 0.5


@pytest.mark.parametrize(("dialect", "tops"), [("rmpe", 2), ("bvlc", 2), ("rfcn", 3)])
def test_further_tops_of_softmax_with_loss(dialect: str, tops: int, tmp_path: Path):
    """softmax_loss_layer.cpp: the probabilities, and in R-FCN's Caffe the loss of each place; they get no gradient."""
    path = tmp_path / "net.prototxt"
    path.write_text("""force_backward: true
layer { name: "d" type: "Input" top: "x" top: "l"
  input_param { shape { dim: 2 dim: 3 dim: 2 } shape { dim: 2 dim: 2 } } }
layer { name: "s" type: "SoftmaxWithLoss" bottom: "x" bottom: "l" loss_param { ignore_label: 1 }
""" + "".join(f'top: "y{i}" loss_weight: {int(i == 0)} ' for i in range(tops)) + "}")
    net = load_net(path, dialect=dialect)
    x, labels = torch.randn(2, 3, 2, requires_grad=True), torch.tensor([[0, 2], [1, 2.0]])
    y = net(x=x, l=labels)
    each = torch.nn.functional.cross_entropy(x, labels.long(), reduction="none", ignore_index=1)
    assert_close(y["y0"], each.sum() / 3)
    assert_close(y["y1"], x.softmax(1))
    assert tops == 2 or torch.allclose(y["y2"], each)
    assert not y["y1"].requires_grad


class TestHDF5Output:
    def net(self, path):
        return net_of(layer("HDF5Output", "x label", "", f'hdf5_output_param {{ file_name: "{path}" }}'),
                      {"x": (4, 3, 2), "label": (4,)})

    def test_writes_four_axes_each(self, tmp_path):
        x, label = normal(4, 3, 2), torch.arange(4.0)
        self.net(tmp_path / "out.h5")(x=x, label=label)
        with h5py.File(tmp_path / "out.h5") as file:
            assert sorted(file) == ["data", "label"]
            assert file["data"].dtype == file["label"].dtype == np.float32
            assert np.array_equal(file["data"], x.numpy().reshape(4, 3, 2, 1))
            assert np.array_equal(file["label"], label.numpy().reshape(4, 1, 1, 1))

    def test_a_second_forward_is_refused(self, tmp_path):
        net = self.net(tmp_path / "out.h5")
        net(x=normal(4, 3, 2), label=torch.zeros(4))
        with pytest.raises(RmpeError, match="Caffe writes one batch per file"):
            net(x=normal(4, 3, 2), label=torch.zeros(4))

    def test_differs_in_that_loading_writes_nothing(self, tmp_path):
        self.net(tmp_path / "out.h5")
        assert not (tmp_path / "out.h5").exists()

    def test_a_folder_that_is_not_there(self, tmp_path):
        net = self.net(tmp_path / "no" / "out.h5")
        with pytest.raises(RmpeError, match=r"cannot write .*out\.h5"):
            net(x=normal(4, 3, 2), label=torch.zeros(4))


class TestRecurrentState:
    NET = layer("LSTM", "x cont", rest="recurrent_param { num_output: 5 weight_filler { type: \"xavier\" } }")

    def net(self):
        torch.manual_seed(1)
        return net_of(self.NET, {"x": (3, 2, 4), "cont": (3, 2)})

    def test_two_halves_are_one_sequence(self):
        torch.manual_seed(1)
        whole = net_of(self.NET, {"x": (6, 2, 4), "cont": (6, 2)})
        x, cont, net = normal(6, 2, 4), torch.ones(6, 2), self.net()
        halves = [net(x=x[i : i + 3], cont=cont[:3])["y"] for i in (0, 3)]
        assert_close(torch.cat(halves), whole(x=x, cont=cont)["y"])

    def test_cont_0_begins_anew(self):
        net, x = self.net(), normal(3, 2, 4)
        cont = torch.tensor([[0.0, 0], [1, 1], [1, 1]])
        assert_close(net(x=x, cont=cont)["y"], net(x=x, cont=cont)["y"])

    def test_reset(self):
        net, x = self.net(), normal(3, 2, 4)
        first = net(x=x, cont=torch.ones(3, 2))["y"]
        assert not torch.equal(first, net(x=x, cont=torch.ones(3, 2))["y"])
        net.layer.reset()
        assert_close(net(x=x, cont=torch.ones(3, 2))["y"], first)

    def test_is_no_part_of_the_weights(self):
        assert set(self.net().state_dict()) == {"layer.W_xc", "layer.b_c", "layer.W_hc"}

    def test_other_steps_are_refused(self):
        with pytest.raises(RmpeError, match="was set up for 3 time steps; its bottom has 4"):
            self.net()(x=normal(4, 2, 4), cont=torch.ones(4, 2))


class TestEdges:
    """Where the published code is defined and torch is not."""

    def test_relu_differs_for_minus_infinity(self):
        assert net_of(layer("ReLU"), (1,))(x=torch.tensor([-math.inf]))["y"] == 0

    def test_pooling_differs_in_keeping_nan(self):
        net = net_of(layer("Pooling", rest="pooling_param { kernel_size: 2 }"), (1, 1, 2, 2))
        assert net(x=torch.tensor([[[[1.0, math.nan], [2, 3]]]]))["y"].isnan()

    def test_pooling_differs_in_keeping_minus_infinity(self):
        """Also at the edge, where windows reach beyond the bottom."""
        net = net_of(layer("Pooling", rest="pooling_param { kernel_size: 2 stride: 2 }"), (1, 1, 3, 3))
        x = torch.full((1, 1, 3, 3), -math.inf)
        x[..., 0, 0] = 5
        assert net(x=x)["y"].flatten().tolist() == [5, -math.inf, -math.inf, -math.inf]

    @pytest.mark.parametrize("rest", ["kernel_size: 3 stride: 2", "kernel_size: 2 stride: 2 pad: 1",
                                      "kernel_h: 3 kernel_w: 4 stride_h: 2 stride_w: 3 pad_h: 1 pad_w: 0",
                                      "kernel_size: 3 stride: 2 pad: 2", "kernel_size: 2 stride: 3"])
    @pytest.mark.parametrize("size", [(7, 5), (8, 6), (10, 13)])
    def test_pooling_is_the_same_by_torch_and_by_padding(self, rest, size):
        net = net_of(layer("Pooling", rest=f"pooling_param {{ {rest} }}"), (2, 3, *size))
        windows = net.layer.windows
        assert windows.are_torchs == (rest[-6:] not in ("pad: 2", "ide: 3"))
        x = normal(2, 3, *size)
        by_padding = dataclasses.replace(windows)
        object.__setattr__(by_padding, "are_torchs", False)
        assert torch.equal(net(x=x)["y"], maximum(x, by_padding))

    def test_bnll_does_not_overflow(self):
        assert net_of(layer("BNLL"), (2,))(x=torch.tensor([200.0, -200]))["y"].tolist() == [200, 0]

    def test_power_of_an_infinite_bottom_that_does_not_count(self):
        net = net_of(layer("Power", rest="power_param { scale: 0 shift: 2 power: 3 }"), (2,))
        assert net(x=torch.tensor([math.inf, math.nan]))["y"].tolist() == [8, 8]

    def test_scale_differs_in_adding_up_its_gradient(self):
        net = net_of(layer("Scale", rest="scale_param { axis: 0 num_axes: -1 }"), (2, 3))
        for _ in range(2):
            net(x=torch.ones(2, 3))["y"].sum().backward()
        assert (net.params["layer"][0].grad == 2).all()

    def test_shared_memory_differs_for_who_read_it_before(self):
        """Split, a fully connected layer on one half, then a ReLU in place on the other."""
        weighted = layer("InnerProduct", "a", "y", "inner_product_param { num_output: 1 bias_term: false }", "ip")
        net = net_of(layer("Split", "x", "a b") + weighted + layer("ReLU", "b", "b", name="relu"), (1, 2))
        net(x=torch.tensor([[-3.0, 2]]))["y"].sum().backward()
        assert net.params["ip"][0].grad.tolist() == [[-3, 2]]


class TestReversedGradient:
    NET = layer("GradientScaler", rest="gradient_scaler_param { upper_bound: 2 alpha: 4 max_iter: 10 }")

    @pytest.mark.parametrize("iteration", [None, 0, 3, 10, 50])
    def test_grows_with_the_iteration(self, iteration: int | None):
        """gradient_scaler_layer.cpp:21-28 of ddtm/caffe@25fddca; 1 before a solver tells the iteration."""
        net = net_of(self.NET, (2, 3), dialect="grl")
        coefficient = 1.0
        if iteration is not None:
            net.steps[-1].layer.begin_iteration(iteration)
            coefficient = 4 / (1 + math.exp(-4 * min(1, iteration / 10))) - 2
        x = normal(2, 3).requires_grad_()
        net(x=x)["y"].sum().backward()
        assert_close(x.grad, torch.full((2, 3), -coefficient))

    def test_refuses_bounds_in_the_wrong_order(self):
        rest = "gradient_scaler_param { lower_bound: 2 upper_bound: 1 }"
        with pytest.raises(RmpeError, match="lower_bound no larger than upper_bound"):
            net_of(layer("GradientScaler", rest=rest), (2, 3), dialect="grl")


def test_interp_takes_labels_of_one_axis_as_pixels():
    net = net_of(layer("Interp", rest="interp_param { height: 2 width: 3 }"), (2,), dialect="pspnet")
    assert_close(net(x=torch.tensor([1.0, 2.0]))["y"], torch.tensor([1.0, 2]).view(2, 1, 1, 1).expand(2, 1, 2, 3))


def test_the_mean_over_three_axes_is_that_of_whole_windows():
    net = net_of(layer("Pooling", rest="pooling_param { pool: AVE kernel_size: [1, 2, 2] stride: [1, 2, 1] }"),
                 (1, 2, 3, 4, 5), dialect="tsn-3d")
    x = normal(1, 2, 3, 4, 5)
    assert_close(net(x=x)["y"], torch.nn.functional.avg_pool3d(x, (1, 2, 2), (1, 2, 1)))


class TestLargeConvolution:
    """A large top is computed in bands of rows, which must not show."""

    @pytest.mark.parametrize("shape", [(1, 32, 361, 370), (2, 16, 400, 330), (1, 64, 1100, 120)])
    def test_bands_have_the_bits_of_the_whole(self, shape: tuple[int, ...]):
        net = net_of(layer("Convolution", rest="convolution_param { num_output: 64 kernel_size: 3 pad: 1 "
                           "weight_filler { type: 'gaussian' } bias_filler { type: 'gaussian' } }"), {"x": shape})
        whole = [net(x=image[None])["y"].detach() for image in normal(*shape)]  # with gradients: all rows at once
        with torch.no_grad():
            banded = net(x=normal(*shape))["y"]
        assert 0 < net.steps[-1].layer.band_rows < shape[2]
        assert torch.equal(banded, torch.cat(whole))
