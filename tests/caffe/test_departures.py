"""Where the port departs from Caffe and no golden case can show it: the rows of docs/fidelity.md that name these."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from harness import GOLDEN, Case
from one_layer import layer, net_of, normal
from torch.testing import assert_close

from rmpe_legacy import RmpeError, load_net, ops
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import LayerError
from rmpe_legacy.export.onnx import to_onnx
from rmpe_legacy.export.python_source import to_python

TURNED = (0.8, -0.6, 0.1, 0.6, 0.8, -0.2)
CONVOLUTION = "convolution_param {{ num_output: 2 {} weight_filler {{ type: \"gaussian\" }} }}"


def python_layer(folder: Path, forward: str, backward: str) -> Net:
    """A network of one layer written in Python; its module is named after its folder."""
    name = f"layer_{folder.name}"
    (folder / f"{name}.py").write_text(
        "import caffe\nclass L(caffe.Layer):\n"
        "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)\n"
        f"    def forward(self, bottom, top): {forward}\n"
        f"    def backward(self, top, propagate_down, bottom): {backward}\n")
    (folder / "net.prototxt").write_text(
        "force_backward: true\n" + layer("Input", "", "x", "input_param { shape { dim: 2 dim: 3 } }", "x")
        + layer("Python", rest=f'python_param {{ module: "{name}" layer: "L" }}'))
    return load_net(folder / "net.prototxt", allow_python=True)


class TestBackward:
    def test_parameter_gradients_of_eltwise_affine_add_up(self):
        net, x = net_of(layer("EltwiseAffine"), (2, 3, 4, 5)), normal(2, 3, 4, 5)
        net(x=x)["y"].sum().backward()
        once = [p.grad.clone() for p in net.params["layer"]]
        net(x=x)["y"].sum().backward()
        for parameter, grad in zip(net.params["layer"], once, strict=True):
            assert grad.any()
            assert_close(parameter.grad, 2 * grad)

    def test_a_python_layers_diff_is_zero_before_each_backward(self, tmp_path):
        net = python_layer(tmp_path, "top[0].data[...] = bottom[0].data", "bottom[0].diff[...] += 3 * top[0].diff")
        for _ in range(2):
            x = normal(2, 3).requires_grad_()
            net(x=x)["y"].sum().backward()
            assert x.grad.tolist() == [[3.0] * 3] * 2
        sys.modules.pop(f"layer_{tmp_path.name}")

    def test_a_python_layers_bottom_cannot_be_written(self, tmp_path):
        net, x = python_layer(tmp_path, "bottom[0].data[...] = 0", "pass"), normal(2, 3)
        before = x.clone()
        with pytest.raises((RmpeError, ValueError), match="read-only"):
            net(x=x)
        assert torch.equal(x, before)
        sys.modules.pop(f"layer_{tmp_path.name}")


class TestSpatialTransformer:
    def net(self, rest: str = "") -> Net:
        return net_of(layer("SpatialTransformer", "x theta", "y", rest), {"x": (2, 1, 5, 6), "theta": (2, 6)})

    def inputs(self, n: int) -> dict[str, torch.Tensor]:
        return {"x": normal(n, 1, 5, 6).requires_grad_(), "theta": torch.tensor([TURNED] * n).requires_grad_()}

    @pytest.mark.parametrize("propagate", [True, False])
    def test_propagate_down_false_gives_the_image_no_gradient(self, propagate: bool):
        rest = f"propagate_down: {str(propagate).lower()} propagate_down: true"
        fc = "inner_product_param { num_output: 6 weight_filler { value: 0.01 } }"  # all cells near the middle
        net = net_of(layer("EltwiseAffine", "x", "image", name="affine") + layer("InnerProduct", "x", "theta", fc, "fc")
                     + layer("SpatialTransformer", "image theta", "y", rest), (2, 1, 5, 6))
        net.force_backward = False  # which overrules propagate_down
        net(x=normal(2, 1, 5, 6))["y"].sum().backward()
        reached = [p.grad is not None and bool(p.grad.any()) for p in net.params["affine"]]
        assert reached == [propagate] * 2
        assert net.params["fc"][0].grad.any()

    def test_a_larger_batch_than_the_first(self):
        net = self.net()
        few, many = self.inputs(2), self.inputs(7)
        first = net(**few)["y"]
        later = net(**many)["y"]
        assert later.shape == (7, 1, 5, 6)
        assert_close(later, ops.spatial_transformer(many["x"], many["theta"], 5, 6), rtol=0, atol=0)
        assert_close(net(**few)["y"], first, rtol=0, atol=0)

    def test_subnormal_gradients_are_kept(self):
        image, theta = torch.zeros(1, 1, 4, 4).requires_grad_(), torch.tensor([[1.0, 0, 0, 0, 1, 0]])
        tiny = 2.0 ** -140  # below the smallest normal float
        ops.spatial_transformer(image, theta, 4, 4).backward(torch.full((1, 1, 4, 4), tiny))
        assert (image.grad == tiny).all()


def test_a_segmentation_that_nobody_has_is_a_sentence(tmp_path, monkeypatch):
    folder = tmp_path / "case"
    shutil.copytree(GOLDEN / "data" / "DataHeatmap__bbox", folder)
    monkeypatch.chdir(folder)
    path = Path("net.prototxt")
    path.write_text(path.read_text().replace("data_augment: false", "data_augment: false segmentation: true"))
    with pytest.raises(RmpeError, match=r"no segmentation for any image of .*anno\.txt"):
        load_net(path, phase="TRAIN")()


def test_a_prior_boxs_further_bottoms_are_not_read():
    inputs = {"x": (1, 2, 3, 4), "data": (1, 3, 30, 40), "more": (5,)}
    rest = "prior_box_param { min_size: 4 aspect_ratio: 2 }"
    two = net_of(layer("PriorBox", "x data", rest=rest), inputs)
    three = net_of(layer("PriorBox", "x data more", rest=rest), inputs)
    values = {name: normal(*shape) for name, shape in inputs.items()}
    assert torch.equal(two(**values)["y"], three(**values)["y"])


@pytest.mark.parametrize("type", ["RNN", "LSTM"])
def test_debug_info_prints_nothing(type, capfd):
    inputs = {"x": (3, 2, 4), "cont": (3, 2)}
    values = {"x": normal(3, 2, 4), "cont": torch.ones(3, 2)}
    outputs = []
    for debug in ("false", "true"):
        torch.manual_seed(1701)
        net = net_of(layer(type, "x cont", rest="recurrent_param { num_output: 5 weight_filler { type: \"xavier\" } "
                                                f"debug_info: {debug} }}"), inputs, dialect="bvlc")
        outputs.append(net(**values)["y"])
    assert torch.equal(*outputs)
    assert capfd.readouterr() == ("", "")


class TestConversion:
    def refused(self, convert, net: Net) -> str:
        with pytest.raises(LayerError) as error:
            convert(net)
        return str(error.value)

    def test_eta_has_no_counterpart_in_onnx(self):
        assert "eta" in self.refused(to_onnx, Case(GOLDEN / "detection" / "DetectionOutput__eta__ssd").load())

    def test_a_window_that_sticks_out_has_no_counterpart_in_torch(self):
        net = net_of(layer("Convolution", rest=CONVOLUTION.format("kernel_size: 3 stride: 4")), (1, 1, 2, 2))
        assert "sticks out" in self.refused(lambda net: to_python(net, "a test", "net.pt"), net)
        to_onnx(net)

    @pytest.mark.parametrize("settings", ["kernel_size: 1 axis: 2", "kernel_size: 1 axis: 0",
                                          "kernel_size: 2 dilation: 0"])
    def test_rare_convolutions_have_no_counterpart(self, settings):
        net = net_of(layer("Convolution", rest=CONVOLUTION.format(settings)), (3, 3, 4, 5, 6))
        assert net(x=normal(3, 3, 4, 5, 6))["y"].isfinite().all()
        for convert in (to_onnx, lambda net: to_python(net, "a test", "net.pt")):
            assert re.search("its channels are axis|spatial axes with dilation", self.refused(convert, net))
