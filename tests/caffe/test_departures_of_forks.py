"""Where layers of forks depart from the published code: the rows of docs/fidelity.md that name these."""

from pathlib import Path

import numpy as np
import pytest
import torch
from paths import GOLDEN
from torch import Tensor
from torch.testing import assert_close

from rmpe_legacy import load_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.compare.verify import verify
from rmpe_legacy.errors import LayerError
from rmpe_legacy.export.onnx import to_onnx, write_onnx
from rmpe_legacy.export.python_source import to_python, write_state
from rmpe_legacy.formats.base import NetRunner
from rmpe_legacy.formats.onnx import OnnxRunner
from rmpe_legacy.formats.python import PythonRunner


@pytest.fixture
def load(tmp_path: Path):
    def load(layer: str, phase: str = "TEST", **inputs: tuple[int, ...]) -> Net:
        text = "".join(f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
                       f'{" ".join(f"dim: {n}" for n in shape)} }} }} }}\n' for name, shape in inputs.items())
        bottoms = " ".join(f'bottom: "{name}"' for name in inputs)
        path = tmp_path / "net.prototxt"
        path.write_text(f'force_backward: true\n{text}layer {{ name: "l" {bottoms} {layer} }}\n')
        return load_net(path, phase=phase)

    return load


def layer_of(net: Net) -> object:
    return net.steps[-1].layer


def test_unpooling_begins_with_zeros_in_each_forward(load):
    net = load('type: "Unpooling" top: "y" unpooling_param { unpool: TILE kernel_size: 2 stride: 2 unpool_size: 4 }',
               x=(1, 1, 2, 2))
    x = torch.arange(1.0, 5).view(1, 1, 2, 2)
    net(x=x)
    assert_close(net(x=x)["y"], x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_contrastive_loss_differs_in_refusing_too_few_labels(load):
    with pytest.raises(LayerError, match=r"needs a label for each of the 3 rows in its last bottom; it is 2$"):
        load('type: "ContrastiveLoss" top: "loss"', "TRAIN", a=(3, 4), b=(3, 4), label_a=(3,), label_b=(2,))


def test_crop_differs_in_cutting_at_0_what_cannot_be_aligned(load):
    with pytest.warns(UserWarning, match=".") as caught:
        net = load('type: "Crop" top: "y"', x=(1, 2, 5, 4), like=(1, 1, 3, 2))
    assert any("the same blob, so they cannot be aligned; HED's Caffe refuses that" in str(w.message) for w in caught)
    x = torch.arange(40.0).view(1, 2, 5, 4)
    assert_close(net(x=x, like=torch.zeros(1, 1, 3, 2))["y"], x[:, :, :3, :2])


def test_of_equal_scores_the_later_anchor_goes_first(load):
    net = load('type: "Python" top: "rois" python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" '
               "param_str: \"{'feat_stride': 16, 'scales': [1]}\" }", s=(1, 6, 1, 3), m=(1, 12, 1, 3), i=(1, 3))
    rois = net(s=torch.full((1, 6, 1, 3), 0.5), m=torch.zeros(1, 12, 1, 3), i=torch.tensor([[64.0, 64, 1]]))["rois"]
    anchors = torch.from_numpy(layer_of(net).shifted(1, 3)).float().clamp(0, 63)
    large = [box for box in anchors if (box[2:] - box[:2] + 1 >= 16).all()]
    assert_close(rois[0, 1:3], large[-1][:2])  # the code's moves make a box one pixel larger


def test_of_equal_probabilities_the_first_place_is_the_smaller(load):
    net = load('type: "Python" top: "y" python_param { module: "pylayers" layer: "ExpandLossLayer" }', phase="TRAIN",
               p=(1, 21, 41, 41), labels=(1, 1, 1, 21))
    p, labels = torch.full((1, 21, 41, 41), 1 / 21, requires_grad=True), torch.eye(21)[3].view(1, 1, 1, 21)
    net(p=p, labels=labels)["y"].sum().backward()
    of_label = p.grad[0, 3].flatten()
    assert (of_label.diff() < 0).all()  # the largest probability counts most


def test_labels_of_regions_do_not_change_the_scores(load):
    net = load('type: "Python" top: "l" top: "w" python_param { module: "oicr_layer.layer" layer: "OICRLayer" '
               "param_str: \"{'num_classes': 3}\" }", rois=(2, 5), p=(2, 3), labels=(1, 2))
    p = torch.tensor([[0.1, 0.2, 0.9], [0.3, 0.4, 0.5]])
    out = net(rois=torch.tensor([[0.0, 0, 0, 9, 9], [0, 20, 20, 29, 29]]), p=p, labels=torch.ones(1, 2))
    assert p[1].tolist() == pytest.approx([0.3, 0.4, 0.5])
    assert out["l"].tolist() == [2, 1]
    assert out["w"].tolist() == pytest.approx([0.9, 0.4])


def test_of_equal_losses_the_earlier_region_goes_first(load):
    sizes = dict.fromkeys(("t", "wi", "wo"), (2, 8))
    net = load('type: "Python" top: "r" top: "l" top: "a" top: "b" top: "c" python_param { '
               "module: \"roi_data_layer.layer\" layer: \"OHEMDataLayer\" param_str: \"{'num_classes': 2}\" }",
               p=(2, 2), m=(2, 8), rois=(2, 5), labels=(2,), **sizes)
    rois = torch.tensor([[0.0, 0, 0, 9, 9], [0, 20, 20, 29, 29]])
    zeros = dict.fromkeys(("m", "t", "wi", "wo"), torch.zeros(2, 8))
    assert_close(net(p=torch.full((2, 2), 0.5), rois=rois, labels=torch.zeros(2), **zeros)["r"], rois)


def test_a_sequence_too_short_for_its_labels_has_a_gradient_of_0(load):
    net = load('type: "CtcLoss" top: "l"', phase="TRAIN", x=(2, 2, 3), label=(2, 2))
    x = torch.randn(2, 2, 3, requires_grad=True)
    net(x=x, label=torch.tensor([[1.0, 1], [1, 2]]))["l"].backward()  # 1, 1 needs a blank between
    assert (x.grad[:, 0] == 0).all()
    assert (x.grad[:, 1] != 0).any()


def test_the_gradient_of_crops_is_their_mean(load):
    net = load('type: "CornerCrop" top: "a" top: "b" corner_crop_param { crop_size: 2 position: "upperleft" '
               'position: "center" }', x=(1, 1, 4, 4))
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    out = net(x=x)
    (out["a"].sum() + 3 * out["b"].sum()).backward()
    assert x.grad[0, 0, :3, :3].tolist() == [[1, 1, 0], [1, 2, 3], [0, 3, 3]]


def test_of_equal_scores_the_first_yolo_box_goes_first(load):
    net = load('type: "YoloDetectionOutput" top: "y" yolo_detection_output_param { num_classes: 2 num_box: 1 '
               "confidence_threshold: 0.1 nms_threshold: 0.9 biases: 1 biases: 1 }", x=(1, 7, 3, 3))
    rows = net(x=torch.zeros(1, 7, 3, 3))["y"].view(-1, 7)
    middles = (rows[:, 3:5] + rows[:, 5:]) / 2 * 3 - 0.5
    assert_close(middles, torch.tensor([[float(x), float(y)] for y in range(3) for x in range(3)]))


def test_of_equal_losses_the_first_region_is_kept(load):
    net = load('type: "BoxAnnotatorOHEM" top: "label" top: "weight" box_annotator_ohem_param { roi_per_img: 2 '
               "ignore_label: -1 }", rois=(5, 5), loss=(5, 1), kind=(5, 1), w=(5, 4))
    labels = net(rois=torch.zeros(5, 5), loss=torch.ones(5, 1), kind=torch.full((5, 1), 3.0), w=torch.ones(5, 4))
    assert labels["label"].flatten().tolist() == [3, 3, -1, -1, -1]


def test_insanity_in_test_has_the_gradient_of_its_forward(load):
    net = load('type: "Insanity" top: "y" insanity_param { lb: 3 ub: 8 }', x=(2, 5))
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
    y = net(x=x)["y"]
    y.sum().backward()
    assert isinstance(x.grad, Tensor)
    assert_close(x.grad, y.detach() / x.detach())


def test_a_depthwise_convolution_without_stride_and_pad_has_1_and_0(load):
    net = load('type: "ConvolutionDepthwise" top: "y" convolution_param { num_output: 2 kernel_size: 3 }',
               x=(1, 2, 5, 6))
    assert net.steps[-1].top_shapes == ((1, 2, 3, 4),)


def test_a_shift_file_that_is_not_there_is_said_and_counts_as_zeros(load):
    with pytest.warns(UserWarning, match="shift_file 'none.txt' gives 0 of 3 numbers; the others are set to 0"):
        net = load('type: "PowerFile" top: "y" power_file_param { shift_file: "none.txt" }', x=(2, 3))
    x = torch.ones(2, 3)
    assert_close(net(x=x)["y"], x)


def test_more_than_one_fixed_ratio_is_refused(load):
    with pytest.raises(LayerError, match="takes either one fixed_ratio or aspect_ratio: with more, the published"):
        load('type: "PriorBox" top: "y" prior_box_param { fixed_size: 8 density: 2 fixed_ratio: 1 fixed_ratio: 2 }',
             x=(1, 2, 3, 4), data=(1, 3, 30, 40))


@pytest.mark.parametrize(("layer", "shape"), [
    ('type: "STLoss" top: "y" st_loss_param { output_H: 5 output_W: 4 }', (3, 6)),
    ('type: "LocLoss" top: "y" loc_loss_param { threshold: 0.4 }', (2, 3)),
    ('type: "PowerFile" top: "y"', (2, 3)),
])
def test_layers_of_spatial_transformers_can_be_exported(load, tmp_path: Path, layer: str, shape: tuple):
    net = load(layer, x=shape)
    write_onnx(tmp_path / "net.onnx", to_onnx(net)[0])
    model = to_python(net, "a case", "net.pt")
    (tmp_path / "net.py").write_text(model.text)
    write_state(tmp_path / "net.pt", model.state)
    x = {"x": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    for runner in (OnnxRunner(tmp_path / "net.onnx", "onnx"), PythonRunner(tmp_path / "net.py", "model.py")):
        verdict = verify(NetRunner(net, "net"), runner, x)
        assert verdict.same, str(verdict)


def test_bilinear_interpolation_to_a_single_row_is_refused(load):
    with pytest.raises(LayerError, match="the second with"):
        load('type: "BilinearInterpolation" top: "y"', x=(1, 1, 3, 3), like=(1, 1, 1, 4))


def test_a_negative_label_of_a_voxel_is_refused(load):
    net = load('type: "VoxelSoftmaxLoss" top: "y"', x=(1, 2, 1, 1, 2), label=(1, 1, 1, 1, 2))
    with pytest.raises(LayerError, match="label -1 is negative"):
        net(x=torch.zeros(1, 2, 1, 1, 2), label=torch.tensor([0.0, -1]).view(1, 1, 1, 1, 2))


def test_cudnn_batch_norm_in_test_has_the_gradient_of_its_forward(load):
    net = load('type: "CuDNNBatchNorm" top: "y"', x=(2, 3))
    scale, _, mean, variance = net.params["l"]
    with torch.no_grad():
        scale.copy_(torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1))
        mean.fill_(5)
        variance.fill_(0.25 - 1e-5)
    x = torch.randn(2, 3, requires_grad=True)
    net(x=x)["y"].sum().backward()
    assert_close(x.grad, torch.tensor([[2.0, 4, 6]] * 2))


@pytest.mark.parametrize("box", [
    (0, 1, 0, 0.2, 0.2, 0.2, 0.4, 0), (0, 1, 0, 0.9, 0.1, 1.3, 0.4, 0), (7, 1, 0, 0.1, 0.1, 0.4, 0.4, 0),
], ids=["no area", "outside", "another batch's"])
def test_region_loss_refuses_a_box_that_has_no_cell(load, box):
    net = load('type: "RegionLoss" top: "y" region_loss_param { side: 2 num_class: 1 num: 1 biases: 1 biases: 1 }',
               x=(1, 6, 2, 2), label=(1, 1, 1, 8))
    with pytest.raises(LayerError, match="a box has no area"):
        net(x=torch.zeros(1, 6, 2, 2), label=torch.tensor(box).view(1, 1, 1, 8))


def test_meanfield_without_weights_begins_with_filters_of_0(load):
    net = load('type: "MultiStageMeanfield" top: "y" multi_stage_meanfield_param { num_iterations: 2 theta_alpha: 8 '
               'theta_beta: 3 theta_gamma: 3 }', scores=(1, 2, 3, 4), start=(1, 2, 3, 4), image=(1, 3, 3, 4))
    spatial, bilateral, compatibility = net.params["l"]
    assert not spatial.any()
    assert not bilateral.any()
    assert_close(compatibility[0, 0], -torch.eye(2))
    scores = torch.randn(1, 2, 3, 4)
    assert_close(net(scores=scores, start=scores, image=torch.zeros(1, 3, 3, 4))["y"], scores)


@pytest.mark.parametrize("value", [float("nan"), 1e9])
def test_meanfield_refuses_an_image_beyond_its_lattice(load, value: float):
    net = load('type: "MultiStageMeanfield" top: "y" multi_stage_meanfield_param { num_iterations: 2 theta_alpha: 8 '
               'theta_beta: 3 theta_gamma: 3 }', scores=(1, 2, 2, 2), start=(1, 2, 2, 2), image=(1, 3, 2, 2))
    scores = torch.zeros(1, 2, 2, 2)
    with pytest.raises(LayerError, match=r"l \(MultiStageMeanfield\): filters points that are not numbers, or beyond"):
        net(scores=scores, start=scores, image=torch.full((1, 3, 2, 2), value))


@pytest.mark.parametrize("case", ["ROIAlign__cascade_pad_ratio", "ROIAlign__synopsys_fine_bins_and_flat",
                                  "ROIAlignment__inside", "MultiROIPooling__three_points",
                                  "DeformablePSROIPooling__class_agnostic"])
def test_a_region_that_is_not_a_number_is_read_nowhere_else(case: str):
    folder = GOLDEN / "forks" / case
    net = load_net(folder / "net.prototxt", phase="TRAIN")
    arrays = np.load(folder / "case.npz")
    given = {name: torch.from_numpy(arrays[f"in_{name}"]) for name in net.inputs}
    expected = net(given)
    regions = next(name for name in given if name in ("rois", "p"))
    given[regions][0, 1:] = float("nan")  # the image of a region stays
    for name, top in net(given).items():
        assert torch.equal(top[1:], expected[name][1:])
        some = top[0][top[0] != -torch.finfo().max]  # a bin without points in one ROIAlign
        assert not (some.abs() > given["data" if "data" in given else "x"].abs().max()).any()


def test_segmentation_evaluate_refuses_masks_of_another_size(load):
    with pytest.raises(LayerError, match="of the same size, not 1 x 2 x 4 x 4 and 1 x 2 x 8 x 8"):
        load('type: "SegmentationEvaluate" top: "y" segmentation_evaluate_param { num_classes: 2 }', x=(1, 2, 4, 4),
             mask=(1, 2, 8, 8))


def test_more_than_50_boxes_of_a_class_are_an_error(load):
    net = load('type: "Python" top: "list" python_param { module: "caffe.layers.detectnet.clustering" '
               'layer: "ClusterDetections" param_str: "128, 128, 16, 0.5, 0, 0.1, 1" }', cover=(1, 1, 8, 8),
               boxes=(1, 4, 8, 8))
    boxes = torch.tensor([0.0, 0, 9, 9]).view(1, 4, 1, 1).expand(1, 4, 8, 8)
    with pytest.raises(LayerError, match="finds 64 boxes of one class in one image; at most 50 are possible"):
        net(cover=torch.ones(1, 1, 8, 8), boxes=boxes)


@pytest.mark.parametrize("param_str", ["1, 2, 3", "128, 128, 0, 0.5, 1, 0.1, 1", "a, b, c, d, e, f, g"])
def test_cluster_detections_says_which_numbers_it_needs(load, param_str: str):
    with pytest.raises(LayerError, match="its param_str needs numbers: size_x, size_y, stride"):
        load('type: "Python" top: "list" python_param { module: "caffe.layers.detectnet.clustering" '
             f'layer: "ClusterDetections" param_str: "{param_str}" }}', cover=(1, 1, 8, 8), boxes=(1, 4, 8, 8))


def test_selu_dropout_keeps_a_value_or_sets_it_to_alpha(load):
    net = load('type: "SeLuDropout" top: "y" selu_dropout_param { dropout_ratio: 0.25 alpha: -2 }', phase="TRAIN",
               x=(4, 500))
    x = torch.randn(4, 500)
    y = net(x=x)["y"]
    scale = (0.75 * (1 + 4 * 0.25)) ** -0.5  # a and b of the paper, for q = 0.75
    shift = scale * 0.25 * 2
    kept = (y - (scale * x + shift)).abs() < 1e-5
    assert_close(y[~kept], torch.full_like(y[~kept], scale * -2 + shift))
    assert 0.7 < kept.float().mean() < 0.8


def test_a_detection_loss_without_negatives_has_a_gradient(load):
    net = load('type: "DetectionLoss" top: "y" detection_loss_param { cls_num: 2 field_h: 8 field_w: 8 '
               'downsample_rate: 4 sample_mode: "all" pos_neg_weighted: true }', "TRAIN", x=(1, 6, 2, 2),
               t=(1, 6, 2, 2))
    truth = torch.full((1, 6, 2, 2), 4.0)
    truth[:, 0], truth[:, 5] = torch.tensor([[1.0, 0], [0, 0]]), 0.9  # one box, and places that overlap it too much
    x = torch.randn(1, 6, 2, 2, requires_grad=True)
    net(x=x, t=truth)["y"].flatten()[0].backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[0, :, 0, 0] != 0).any()
    assert (x.grad[0, :, 1] == 0).all()


def test_mmd_loss_follows_numpys_seed(load):
    net = load('type: "MMDLoss" top: "y"', "TRAIN", s=(5, 3), t=(4, 3))
    source, target = torch.randn(5, 3), torch.randn(4, 3)
    losses = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        losses.append(float(net(s=source, t=target)["y"]))
    assert losses[0] == losses[1] != losses[2]


def test_of_equal_scores_the_first_proposal_goes_first(load):
    net = load('type: "Proposal" top: "y" proposal_param { ratio: 1 scale: 1 min_size: 0 }', s=(1, 2, 1, 3),
               m=(1, 4, 1, 3), i=(1, 4))
    rows = net(s=torch.full((1, 2, 1, 3), 0.5), m=torch.zeros(1, 4, 1, 3), i=torch.tensor([[64.0, 64, 1, 1]]))["y"]
    assert rows[:, 1].tolist() == [0, 16, 32]


def test_true_boxes_are_in_the_order_of_their_cells(load):
    net = load('type: "Python" top: "y" python_param { module: "caffe.layers.detectnet.clustering" '
               'layer: "ClusterGroundtruth" param_str: "64,32,16" }', c=(1, 1, 2, 4), b=(1, 4, 2, 4))
    boxes = torch.tensor([9.0, 3, 40, 30]).view(1, 4, 1, 1).expand(1, 4, 2, 4)
    rows = net(c=torch.ones(1, 1, 2, 4), b=boxes)["y"]
    assert rows[0, :8, :2].tolist() == [[9 + 16 * x, 3 + 16 * y] for y in range(2) for x in range(4)]
    assert not rows[0, 8:].any()


def test_more_than_50_scored_boxes_are_an_error(load):
    net = load('type: "Python" top: "y" python_param { module: "caffe.layers.detectnet.mean_ap" '
               'layer: "ScoreDetections" }', t=(1, 50, 5), f=(1, 50, 5))
    true, found = (torch.rand(1, 50, 5) + torch.tensor([low, low, low + 9, low + 9, 0]) for low in (0.0, 40.0))
    with pytest.raises(LayerError, match="has 100 boxes in one image; at most 50 are possible"):
        net(t=true, f=found)


@pytest.mark.parametrize(("layer_type", "param", "factors"), [
    ("DeformableConvolution", "deformable_convolution_param", {}),
    ("ModulatedDeformableConvolution", "modulated_deformable_convolution_param", {"m": (2, 4, 3, 3)}),
])
def test_a_moved_convolutions_gradient_is_that_of_every_image(load, layer_type, param, factors):
    shapes = {"x": (2, 3, 4, 4), "o": (2, 8, 3, 3)} | factors
    net = load(f'type: "{layer_type}" top: "y" {param} {{ num_output: 2 kernel_size: 2 deformable_group: 1 '
               'bias_term: false weight_filler { type: "xavier" } }', **shapes)
    rng = torch.Generator().manual_seed(3)
    bottoms = [torch.rand(shape, generator=rng).double() for shape in shapes.values()]
    bottoms[1] = bottoms[1] / 4 + 0.25
    layer = layer_of(net).double()
    assert torch.autograd.gradcheck(lambda *b: layer(*b), [v.requires_grad_() for v in bottoms], eps=1e-6)


@pytest.mark.parametrize(("layer", "shapes"), [
    ('type: "MaskResize" top: "y" mask_resize_param { output_height: 2 output_width: 7 }', {"x": (1, 1, 5, 4)}),
    ('type: "ROIWarping" top: "y" roi_warping_param { pooled_h: 3 pooled_w: 5 }', {"x": (1, 2, 6, 6), "r": (2, 5)}),
])
def test_the_gradient_of_maps_resized_for_masks_is_complete(load, layer, shapes):
    net = load(layer, **shapes)
    x = torch.rand(shapes["x"], generator=torch.Generator().manual_seed(4)).double().requires_grad_()
    rest = [torch.tensor([[0.0, 0, 1, 4, 5], [0, 1, 1, 3, 3]]).double()] if "r" in shapes else []
    assert torch.autograd.gradcheck(lambda b: layer_of(net)(b, *rest), (x,))


def test_the_nearest_pixel_is_one_of_the_map(load):
    net = load('type: "Resample" top: "y" resample_param { height: 4 width: 2 type: NEAREST }', x=(1, 1, 2, 8))
    y = net(x=torch.arange(16.0).view(1, 1, 2, 8))["y"]
    assert y[0, 0, -1, 0] >= 8  # a value of the last row


def test_the_gradient_of_sums_of_differences_is_their_sign(load):
    net = load('type: "InnerDistance" top: "y" inner_distance_param { distance_type: "L1" }', x=(1, 2), w=(1, 2))
    x = torch.tensor([[1.0, 2]], requires_grad=True)
    (3 * layer_of(net)(x, torch.tensor([[2.0, 0]]))).sum().backward()
    assert_close(x.grad, torch.tensor([[-3.0, 3]]))


def test_nvcaffes_batch_norm_in_test_has_the_gradient_of_its_forward(load):
    net = load('type: "BatchNorm" top: "y" batch_norm_param { scale_bias: true }', x=(2, 3, 2, 2))
    layer = layer_of(net).double()
    with torch.no_grad():
        layer.variance.fill_(2.0)
        layer.scale.fill_(3.0)
    x = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(5)).double().requires_grad_()
    layer(x).sum().backward()
    assert_close(x.grad, torch.full_like(x, 3 / (2 + 1e-5) ** 0.5))


def test_a_pruned_convolution_keeps_images_apart(load):
    net = load('type: "DNSConvolution" top: "y" convolution_param { num_output: 1 kernel_size: 2 weight_filler { '
               'type: "constant" value: 1 } } dns_convolution_param { weight_mask_filler { value: 1 } '
               'bias_mask_filler { value: 1 } }', x=(2, 1, 2, 2))
    x = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 5.0)])
    assert_close(net(x=x)["y"].flatten(), torch.tensor([4.0, 20]))


def test_pooling_over_three_axes_pools_over_the_last(load):
    net = load('type: "Pooling" top: "y" pooling_param { kernel_size: 1 kernel_size: 1 kernel_size: 3 }',
               x=(1, 1, 1, 1, 3))
    assert_close(net(x=torch.tensor([1.0, 7, 3]).view(1, 1, 1, 1, 3))["y"].flatten(), torch.tensor([7.0]))


def test_guided_dropout_keeps_channels_by_chance(load):
    net = load('type: "GuidedDropout" top: "y" guided_dropout_param { type: "stochastic" sigmoid_scaler: 2 }', "TRAIN",
               x=(400, 3, 2), g=(400, 3))
    guidance = torch.tensor([-1.0, 0, 1]).repeat(400, 1)
    share = torch.sigmoid(2 * guidance[0])
    torch.manual_seed(5)
    y = net(x=torch.ones(400, 3, 2), g=guidance)["y"]
    assert torch.equal(y[..., 0], y[..., 1])
    kept = y[..., 0] > 0
    assert_close(y[..., 0][kept], (3 / share.sum()).expand(int(kept.sum())))
    assert ((kept.float().mean(0) - share).abs() < 0.1).all()


def test_hypercolumns_of_random_places_have_a_shape_alone(load):
    net = load('type: "HyperColumns" top: "y" top: "v" hypercolumns_param { sample_num: 5 }',
               n=(2, 3, 4, 4), a=(2, 6, 2, 2))
    assert net.steps[-1].top_shapes == ((10, 6, 1, 1), (10, 3))
    with pytest.raises(LayerError, match="is_train: true picks random places"):
        net(n=torch.zeros(2, 3, 4, 4), a=torch.zeros(2, 6, 2, 2))


def test_each_bottom_of_a_weighted_sum_has_its_gradient(load):
    net = load('type: "Eltwise" top: "y" eltwise_param { coeff_blob: true }', "TRAIN", a=(2, 3), b=(2, 3), c=(2, 2))
    a, b = (torch.zeros(2, 3, requires_grad=True) for _ in range(2))
    net(a=a, b=b, c=torch.tensor([[1.0, 2], [3, 4]]))["y"].sum().backward()
    assert a.grad.tolist() == [[1] * 3, [2] * 3]
    assert b.grad.tolist() == [[3] * 3, [4] * 3]


def test_a_product_of_bottoms_refuses_a_bias(load):
    with pytest.raises(LayerError, match="cannot add a bias to a product of bottoms; set bias_term: false"):
        load('type: "InnerProduct" top: "y" inner_product_param { num_output: 2 }', x=(1, 3), w=(2, 3))


def test_proposals_ask_for_the_anchors_of_the_networks_own_settings(load):
    net = load('type: "FrcnnProposal" top: "rois"', s=(1, 4, 2, 2), m=(1, 8, 2, 2), i=(1, 3))
    bottoms = {"s": torch.rand(1, 4, 2, 2), "m": torch.zeros(1, 8, 2, 2), "i": torch.tensor([[64.0, 64, 1]])}
    with pytest.raises(LayerError, match=r"has moves of 2 anchors, but settings of 9; assign .* to layer.settings"):
        net(**bottoms)
    layer_of(net).settings["anchors"] = [0, 0, 15, 15, 0, 0, 31, 31]
    assert net(**bottoms)["rois"].shape[1:] == (5, 1, 1)
    bottoms["i"][0, 2] = 1000  # a scale at which no region is large enough
    assert net(**bottoms)["rois"].shape == (0, 5, 1, 1)


def test_without_a_detection_the_embedding_is_0(load):
    maps = dict.fromkeys("pqrs", (1, 13, 2, 2))
    net = load('type: "AnchorEmbeddingExtractor" top: "y" top: "l" embedding_extractor_param { num_anchors: 4 '
               "label_src_pos: 7 }", d=(1, 1, 1, 11), **maps)
    out = net(d=torch.full((1, 1, 1, 11), -1.0), **{name: torch.ones(shape) for name, shape in maps.items()})
    assert (out["y"] == 0).all()
    assert out["l"].tolist() == [-1]


def test_a_point_of_region_pooling_outside_the_map_raises(load):
    net = load('type: "RegionPooling" top: "y" region_pooling_param { num_features: 2 num_regions: 1 num_samples: 1 }',
               x=(1, 2, 4, 5), p=(1, 2), o=(1, 1, 1, 2), w=(1, 1, 1, 1))
    bottoms = {"x": torch.ones(1, 2, 4, 5), "p": torch.tensor([[4.0, 3.0]]), "w": torch.ones(1, 1, 1, 1)}
    assert net(**bottoms, o=torch.zeros(1, 1, 1, 2))["y"].tolist() == [[[[1, 1]]]]
    with pytest.raises(LayerError, match="has points outside its map of 4 x 5"):
        net(**bottoms, o=torch.ones(1, 1, 1, 2))


def test_what_no_part_covers_is_0(load):
    net = load('type: "Combination" top: "y" combination_param { xcoord: 0 ycoord: 0 xcoord: 2 ycoord: 1 }',
               a=(1, 1, 2, 2), b=(1, 1, 1, 2))
    out = net(a=torch.ones(1, 1, 2, 2), b=torch.ones(1, 1, 1, 2))["y"]
    assert out[0, 0].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_noise_is_as_wide_as_the_values_and_only_in_training(load):
    text = 'type: "Noise" top: "y" noise_param { gaussian_std: 0.1 bias: 2 }'
    x = torch.full((50, 40), 3.0)
    assert_close(load(text, x=(50, 40))(x=x)["y"], x)
    net = load(text, "TRAIN", x=(50, 40))
    torch.manual_seed(0)
    widths = {round(float((net(x=x)["y"] - x).std()), 1) for _ in range(20)}
    assert widths == {0, 0.3, 0.6, 0.9}
    assert abs(float((net(x=x)["y"] - x).mean()) - 2) < 0.1
    uniform = load('type: "Noise" top: "y" noise_param { uniform_range: 0.5 }', "TRAIN", x=(50, 40))(x=x)["y"] - x
    assert 0.45 < float(uniform.abs().max()) <= 0.5
    assert abs(float(uniform.mean())) < 0.05


def test_means_move_their_gradient_by_the_left_pad(load):
    net = load('type: "Pooling" top: "y" pooling_param { pool: AVE kernel_size: 2 stride: 2 pad_l: 1 }', "TRAIN",
               x=(1, 1, 4, 4))
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    net(x=x)["y"].sum().backward()
    assert x.grad[0, 0].tolist() == [[0.25, 0.25, 0.25, 0.5]] * 4  # the last window has a column behind the plane


def test_each_image_has_its_own_predictions_of_maps(load):
    net = load('type: "DetectionOutput" top: "y" detection_output_param { num_classes: 2 nbottom: 1 no_permute: true '
               "confidence_threshold: 0.5 nms_param { nms_threshold: 0.5 } }", c=(2, 2, 1, 2), p=(2, 4, 1, 2),
               b=(1, 2, 8))
    conf = torch.tensor([[[[0.9, 0.9]], [[0.1, 0.1]]], [[[0.9, 0.2]], [[0.1, 0.8]]]])
    boxes = torch.tensor([[[0.0, 0, 0.4, 0.4, 0.5, 0.5, 1, 1], [0.1] * 8]])
    rows = net(c=conf, p=torch.zeros(2, 4, 1, 2), b=boxes)["y"][0, 0]
    assert_close(rows, torch.tensor([[1, 1, 0.8, 0.5, 0.5, 1, 1]]))


def test_a_cross_entropy_without_weights_above_0_is_0(load):
    net = load('type: "SigmoidCrossEntropyLoss" top: "loss"', "TRAIN", x=(2, 3), t=(2, 3), w=(2, 3))
    net(x=torch.ones(2, 3), t=torch.zeros(2, 3), w=torch.ones(2, 3))
    assert net(x=torch.ones(2, 3), t=torch.zeros(2, 3), w=torch.zeros(2, 3))["loss"] == 0


def test_a_batchs_own_variance_counts_in_test_too(load):
    net = load('type: "BatchNorm" top: "y" batch_norm_param { use_global_stats: false add_eps_before_sqrt: false '
               "eps: 0.5 }", x=(2, 1, 1, 2))
    x = torch.tensor([1.0, 3, 1, 3]).view(2, 1, 1, 2)
    assert_close(net(x=x)["y"], (x - 2) / 1.5)


@pytest.mark.parametrize(("needed", "gradient"), [(1, 1), (0, 0)])
def test_gradient_silent_reads_its_second_bottom(load, needed: int, gradient: int):
    net = load('type: "GradientSilent" top: "y"', x=(2, 3), needed=(1, 1))
    x = torch.randn(2, 3, requires_grad=True)
    net(x=x, needed=torch.full((1, 1), float(needed)))["y"].sum().backward()
    assert x.grad is not None
    assert (x.grad == gradient).all()


def test_a_region_without_extent_has_its_points_in_its_middle(load):
    net = load('type: "ROIAlign" top: "y" roi_align_param { pooled_h: 1 pooled_w: 1 spatial_scale: 1 }', x=(1, 1, 3, 3),
               rois=(1, 5))
    x = torch.arange(1.0, 10).view(1, 1, 3, 3)
    out = net(x=x, rois=torch.tensor([[0.0, 1, 1, 1, 1]]))["y"]  # its bin has the points 5, 6, 8 and 9
    assert_close(out, torch.full((1, 1, 1, 1), (5.0 + 6 + 8 + 9) / 4))
