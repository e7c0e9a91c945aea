"""Parameters and bottoms that no network has: a layer refuses them in a sentence, and runs where it takes them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from one_layer import Shape, layer, net_of

from rmpe_legacy.caffe.layers.base import count
from rmpe_legacy.caffe.layers.registry import classes_of, known_types
from rmpe_legacy.caffe.proto.schema import Field, MessageType, load_schema
from rmpe_legacy.errors import LayerError, RmpeError

FOUND = {
    "no axes for a window": (layer("NdConvolution", rest="convolution_param { num_output: 3 }"), {"x": (2, 3)},
                             "works on 1 to 3 axes after the channels; its bottom is 2 x 3"),
    "no channels": (layer("NdConvolution", rest="convolution_param { num_output: 1 kernel_shape { dim: 1 } }"),
                    {"x": (2,)}, "works on 1 to 3 axes after the channels; its bottom is 2"),
    "a whole plane of no axes": (layer("NdPooling", rest="pooling_param { global_pooling: true kernel_shape {} }"),
                                 {"x": (2, 3)}, "works on 1 to 3 axes after the channels; its bottom is 2 x 3"),
    "regions of no axes": (layer("ROIPooling", "x z", rest="roi_pooling_param { pooled_size: 2 }"),
                           {"x": (1, 5), "z": (1, 5)}, "needs features with 4 or 5 axes; its first bottom is 1 x 5"),
    "a field that divides": (layer("BoxGroupOutput", "x z", rest="box_group_output_param { field_whr: 0 nms_type: 'IOU'"
                                   " box_group_param { field_h: 3 field_w: 1 stride: 2 } }"),
                             {"x": (2, 3, 4, 5), "z": (2, 4, 4, 5)}, "field_xyr and field_whr must be above 0"),
    "a factor that is no number": (layer("ImResize", rest="imresize_param { factor: nan }"), {"x": (2, 3, 4, 5)},
                                   "factor is nan, which is no size"),
    "a factor beyond any size": (layer("MaskResize", rest="mask_resize_param { output_height: 2 output_width: 3 "
                                       "factor_height: 1e38 }"), {"x": (2, 3, 40, 5)},
                                 "its factors are too large for a bottom of 2 x 3 x 40 x 5"),
    "a scale that is no number": (layer("ResizeBilinear", rest="resize_bilinear_param { scale_height: nan }"),
                                  {"x": (2, 3, 4, 5)}, "its top would have height nan"),
    "a scale without end": (layer("ResizeBilinear", rest="resize_bilinear_param { scale_width: 3e38 }"),
                            {"x": (2, 3, 4, 5)}, "its top would have width inf"),
    "an image of all memory": (layer("ResizeNearestNeighbor", rest="resize_nearest_neighbor_param { "
                                     "output_height: 2147483647 output_width: 1 }"), {"x": (1, 3, 4, 5)},
                               "its top would be 1 x 2147483647 x 1 x 5; Caffe's blobs have up to 2147483647 values"),
    "means of padding": (layer("Pooling", rest="pooling_param { kernel_size: 3 pool: AVE_EXC_PAD pad_t: 3 }"),
                         {"x": (2, 3, 4, 5)}, "a window of pool AVE_EXC_PAD lies in the padding"),
    "means far outside": (layer("Pooling", rest="pooling_param { kernel_size: 3 pool: AVE_TF pad_b: 4294967295 }"),
                          {"x": (2, 3, 4, 5)}, "a window of pool AVE_TF lies in the padding"),
    "images of no axes": (layer("GenerateAugmentationParameters"), {"x": ()}, "needs a bottom with images"),
    "more tops than it fills": (layer("CPMData", "", "a b c", "cpm_transform_param { stride: 8 }"), {},
                                "takes 1 to 2 tops"),
    "a top that nothing is said about": (layer("ImageGtData", "", "a b c", "image_gt_data_param {}"), {},
                                         "has 3 tops, but gives 2"),
    "a ratio that is no number": (layer("Proposal", "x y z", "r", "proposal_param { ratio: nan scale: 8 }"),
                                  {"x": (1, 2, 4, 5), "y": (1, 4, 4, 5), "z": (1, 4)}, "above 0"),
    "anchors beyond all numbers": (layer("Proposal", "x y z", "r", "proposal_param { ratio: 1e-45 scale: 8 "
                                         "feat_stride: 8 post_nms_topn: 9 }"),
                                   {"x": (1, 2, 4, 5), "y": (1, 4, 4, 5), "z": (1, 4)}, "anchors of infinite size"),
    "a size that is no number": (layer("AUMaskBasedLand", "x", " ".join(f"m{i}" for i in range(13)),
                                       "au_mask_based_land_param { img_size: 64 spatial_scale: nan }"), {"x": (1, 98)},
                                 "its sizes cannot be computed (cannot convert float NaN to integer); check its "
                                 "parameters"),
    "maps without images": (layer("DetectionOutput", "a b c d e f", rest="detection_output_param { num_classes: 3 "
                                  "nbottom: 2 }"),
                            {"a": (1, 36), "b": (1, 6), "c": (48,), "d": (1, 8), "e": (1, 2, 48), "f": (1, 2, 8)},
                            "needs confidences and predictions (N, ...); its bottoms are 1 x 36, 1 x 6, 48"),
    "boxes beyond all images": (layer("PriorBox", "x z", rest="prior_box_param { fixed_size: 1e38 density: 1 }"),
                                {"x": (1, 2, 3, 3), "z": (1, 3, 9, 9)}, "needs a fixed_size above 0 and up to"),
    "a delay below 0": (layer("CTCLoss", "x y z", "l", "ctc_loss_param { output_delay: -1 }"),
                        {"x": (8, 2, 5), "y": (8, 2), "z": (8, 2)}, "output_delay is -1; it must not be negative"),
    "a blank that is no label": (layer("CTCLoss", "x y z", "l", "ctc_loss_param { blank_index: 5 }"),
                                 {"x": (8, 2, 5), "y": (8, 2), "z": (8, 2)}, "blank_index 5 is none of its 5 labels"),
    "a threshold without end": (layer("Sparsify", rest="sparsify_param { thre: inf }"), {"x": (2, 3)}, "without end"),
    "a grid without end": (layer("STLoss", rest="st_loss_param { output_H: 100000000 output_W: 3 }"), {"x": (4, 6)},
                           "its grid of 100000000 x 3 points is too large"),
    "anchors without number": (layer("Proposal", "x y z", "r", f"proposal_param {{ {'ratio: 1 scale: 2 ' * 101} }}"),
                               {"x": (1, 2, 4, 5), "y": (1, 4, 4, 5), "z": (1, 4)}, "give more than 10000 anchors"),
    "lists of anchors without number": (layer("Python", "x y z", "r", "python_param { module: 'rpn.proposal_layer' "
                                              "layer: 'ProposalLayer' param_str: \"'feat_stride': 16\\n'scales': "
                                              f"{[8] * 101}\\n'ratios': {[1] * 101}\" }}"),
                                        {"x": (1, 2, 4, 5), "y": (1, 4, 4, 5), "z": (1, 3)}, "more than 10000 anchors"),
    "a matrix without end": (layer("InfogainLoss", "x z", rest="infogain_loss_param { source: '/dev/zero' }"),
                             {"x": (2, 3), "z": (2,)}, "/dev/zero: is a device; give a file"),
    "data layers without number": ("".join(layer("Data", "", f"d{i}", "data_param { batch_size: 1 } "
                                                 "transform_param { crop_size: 8 }", name=f"d{i}")
                                           for i in range(101)), {"x": (1,)}, "d100 (Data): comes after 100 other"),
    "targets of other images": (layer("SmoothL1Loss", "x z", "l", "smooth_l1_loss_param { sigma: 1 }"),
                                {"x": (3, 4), "z": (5, 4)}, "needs bottoms of the same size; they are 3 x 4, 5 x 4"),
}
INTEGERS = [0, 0, 1, 1, 2, 3, 4, 5, -1, -2, 100, 1 << 16, 2**31 - 1, -(2**31), 2**32 - 1, 1 << 40]
MEMORY = 1 << 27  # bytes: what the test lets a layer take
RANGES = {"uint32": (0, 2**32 - 1), "int32": (-(2**31), 2**31 - 1)}
FLOATS = ["0", "1", "-1", "0.5", "2", "3", "1e38", "-1e38", "1e-45", "inf", "nan"]
TEXTS = ["", "x", "xavier", "constant", "1,2,3"]
SHAPES = [(2, 3, 4, 5), (1, 8, 6, 6), (2, 3), (2,), (1, 4, 3, 5, 5), (), (0, 3, 4, 5), (2, 0, 4, 4), (1, 1, 1, 1),
          (3, 2, 7), (1, 5), (1, 2, 1, 8)]


@pytest.mark.parametrize("name", FOUND)
def test_is_one_sentence(name: str):
    layers, shapes, words = FOUND[name]
    with pytest.raises(LayerError) as caught:
        net_of(layers, shapes, dialect="mixed")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


_FAR = "stride: 100000000 pad_t: 1 pad_l: 1 pad_r: 1 pad_b: 100000000"


@pytest.mark.parametrize(("kind", "rest", "sizes"), [
    ("Pooling", "pooling_param { pool: AVE kernel_size: 20000 stride: 20000 pad: 19999 }", (4, 4)),
    ("Pooling", f"pooling_param {{ pool: MAX kernel_size: 3 {_FAR} }}", (4, 4)),
    ("Convolution", f"convolution_param {{ num_output: 1 kernel_size: 3 {_FAR} }}", (4, 4)),
    ("NdPooling", "pooling_param { pool: AVE kernel_shape { dim: 20000 dim: 20000 } "
     "stride_shape { dim: 9 dim: 9 } pad_shape { dim: 19999 dim: 19999 } }", (4, 4)),
    ("Pooling3D", "pooling3d_param { pool: AVE kernel_size: 900 kernel_depth: 900 stride: 900 pad: 899 }", (900, 4, 4)),
    ("Correlation", "correlation_param { kernel_size: 1 max_displacement: 0 pad: 20000 stride_1: 20000 stride_2: 1 }",
     (4, 4)),
    ("Correlation1D", "correlation_param { kernel_size: 1 max_displacement: 0 pad: 20000000 stride_1: 20000000 "
     "stride_2: 1 }", (4, 4)),
])
def test_padding_out_of_all_proportion_takes_no_memory(kind: str, rest: str, sizes: Shape):
    """A file of 200 bytes would take gigabytes for what lies between a small bottom and a small top."""
    bottoms = "x z" if kind.startswith("Correlation") else "x"
    with pytest.raises(LayerError, match=r"with its padding, a bottom of .* would be"):
        net_of(layer(kind, bottoms, rest=rest), dict.fromkeys(bottoms.split(), (1, 1, *sizes)), dialect="mixed")


def test_windows_laid_out_of_a_padded_bottom_take_no_memory():
    net = net_of(layer("Im2col", rest="convolution_param { kernel_size: 1 pad: 20000 stride: 20000 }"), (1, 1, 4, 4))
    with pytest.raises(LayerError, match="would be 1 x 1 x 40004 x 40004; lower kernel_size, stride and pad"):
        net(x=torch.zeros(1, 1, 4, 4))


def test_devices_without_an_end_are_not_read():
    """A network names files to read when it runs, and may name these."""
    bottoms = {"x": (1, 1, 2, 7), "z": (1, 1, 3, 8)}
    net = net_of(layer("DetectionEvaluate", "x z", rest="detection_evaluate_param { num_classes: 3 "
                       "name_size_file: '/dev/zero' }"), bottoms)
    with pytest.raises(LayerError, match="cannot read name_size_file /dev/zero: is a device; give a file"):
        net({name: torch.zeros(shape) for name, shape in bottoms.items()})
    with pytest.warns(UserWarning, match="shift_file '/dev/zero' gives 0 of 3 numbers"):
        net_of(layer("PowerFile", rest="power_file_param { shift_file: '/dev/zero' }"), {"x": (2, 3)}, dialect="stn")


def test_empty_bottoms_that_a_layer_does_not_take():
    net = net_of(layer("DenseCRF", "x z", rest="densecrf_param { x_gauss: 6 }"), {"x": (1, 3, 4, 5), "z": (1, 3, 4, 5)},
                 dialect="mixed")
    with pytest.raises(LayerError, match="cannot compute empty bottoms, 0 x 3 x 4 x 5, 0 x 3 x 4 x 5; give at least"):
        net(x=torch.zeros(0, 3, 4, 5), z=torch.zeros(0, 3, 4, 5))


@pytest.mark.parametrize("text", [
    layer("Tiling", rest="tiling_param { tile_dim: 2 }"),
    layer("Reshape", rest="reshape_param { pixelshuffler: 2 }"),
    layer("DepthToSpace", rest="depth_to_space_param { block_size: 2 data_format: 'CRD' }"),
    layer("MVN", top="x", rest="mvn_param { across_channels: true }"),
])
@pytest.mark.parametrize("shape", [(0, 4, 2, 3), (2, 4, 0, 3), (2, 0, 2, 3)])
def test_the_gradient_of_no_values(text, shape):
    before = 'layer { name: "p" type: "Power" bottom: "w" top: "x" }\n'
    net = net_of(before + text, {"w": (2, 4, 2, 3)}, dialect="mixed")
    w = torch.zeros(shape, requires_grad=True)
    sum(top.sum() for top in net(w=w).values()).backward()
    assert w.grad.shape == shape


def test_maps_of_other_numbers_of_images():
    net = net_of(layer("DetectionOutput", "a b c d p", rest="detection_output_param { num_classes: 2 nbottom: 2 }"),
                 {"a": (1, 4), "b": (1, 2), "c": (1, 8), "d": (1, 4), "p": (1, 2, 12)}, dialect="synopsys")
    with pytest.raises(LayerError, match="one number of images in all confidences and predictions; its bottoms are "
                       "1 x 4, 3 x 2, 1 x 8, 1 x 4, 1 x 2 x 12"):
        net(a=torch.zeros(1, 4), b=torch.zeros(3, 2), c=torch.zeros(1, 8), d=torch.zeros(1, 4),
            p=torch.ones(1, 2, 12))


class TestValuesThatAreNoNumbers:
    """A network that has diverged, or a hostile one, gives its layers nan and inf."""

    def test_scales_of_regions_beyond_all_numbers(self):
        net = net_of(layer("PSROIPooling", "x z", rest="psroi_pooling_param { spatial_scale: 1e38 output_dim: 3 "
                           "group_size: 1 }"), {"x": (1, 3, 5, 4), "z": (2, 5)}, dialect="mixed")
        assert net(x=torch.ones(1, 3, 5, 4), z=torch.tensor([[0, 0, 0, 2, 2.0]] * 2))["y"].shape == (2, 3, 1, 1)

    def test_landmarks(self):
        masks = layer("AUMaskBasedLand", "x", " ".join(f"m{i}" for i in range(13)),
                      "au_mask_based_land_param { img_size: 8 spatial_scale: 1 }")
        net = net_of(masks, {"x": (1, 98)}, dialect="mixed")
        for value in (torch.inf, torch.nan, -1e30):
            assert net(x=torch.full((1, 98), value))["m0"].shape[1:] == (1, 8, 8)

    def test_a_mask_without_end(self):
        net = net_of(layer("CharbonnierLoss", "x z", "l", "charbonnier_loss_param { alpha: 0.3 epsilon: 0.01 }"),
                     {"x": (1, 2, 3, 3), "z": (1, 2, 3, 3)}, dialect="mixed")
        assert net(x=torch.ones(1, 2, 3, 3), z=torch.full((1, 2, 3, 3), torch.inf))["l"].isnan().all()

    def test_labels(self):
        net = net_of(layer("CTCLoss", "x y z", "l", "ctc_loss_param {}"), {"x": (8, 2, 5), "y": (8, 2), "z": (8, 2)},
                     dialect="mixed")
        with pytest.raises(LayerError, match="its labels must be numbers; some are infinite or nan"):
            net(x=torch.zeros(8, 2, 5), y=torch.ones(8, 2), z=torch.full((8, 2), torch.nan))

    def test_no_region_has_contexts(self):
        net = net_of(layer("MIL", rest="mil_param { context_per_roi: 9 }"), {"x": (4, 5)}, dialect="mixed")
        assert net(x=torch.zeros(4, 5))["y"].shape == (0, 5, 1, 1)

    def test_moves_of_another_size_than_scores(self):
        net = net_of(layer("Python", "x y z", "r", 'python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" '
                           """param_str: "{'feat_stride': 16}" }"""),
                     {"x": (1, 18, 5, 6), "y": (1, 36, 5, 1), "z": (1, 3)}, dialect="mixed")
        with pytest.raises(LayerError, match="needs 18 and 36 channels for 9 anchors"):
            net(x=torch.zeros(1, 18, 5, 6), y=torch.zeros(1, 36, 5, 1), z=torch.ones(1, 3))


def _value(rng: random.Random, field: Field) -> str:
    if field.enum is not None:
        return rng.choice(list(field.enum.numbers))
    if field.type in ("string", "bytes"):
        return f'"{rng.choice(TEXTS)}"'
    if field.type == "bool":
        return rng.choice(["true", "false"])
    if field.type in ("float", "double"):
        return rng.choice(FLOATS)
    low, high = RANGES.get(field.type, (-(1 << 62), 1 << 62))
    return str(min(max(rng.choice(INTEGERS), low), high))


def _fields(rng: random.Random, message: MessageType, depth: int = 0) -> Iterator[str]:
    """Some fields of a message, with values."""
    for field in message.fields.values():
        if rng.random() > 4 / len(message.fields):
            continue
        for _ in range(rng.choice([1, 1, 2, 3]) if field.repeated else 1):
            if field.message is None:
                yield f"{field.name}: {_value(rng, field)}"
            elif depth < 2:
                yield f"{field.name} {{ {' '.join(_fields(rng, field.message, depth + 1))} }}"


def _names(rng: random.Random, prefix: str, number: int | tuple[int, int | None]) -> list[str]:
    """Names of as many blobs as a layer takes, or of some other number."""
    low, high = (number, number) if isinstance(number, int) else number
    fitting = rng.randint(low, max(low, low + 2 if high is None else min(high, 5)))
    return [f"{prefix}{i}" for i in range(rng.choice([*[fitting] * 6, 0, 1, 2, 3]))]


def _network(rng: random.Random, kind: str) -> tuple[str, dict[str, Shape]]:
    schema, cls = load_schema("mixed"), rng.choice(classes_of(kind))
    fields = schema["LayerParameter"].fields
    params = [f"{name} {{ {' '.join(_fields(rng, fields[name].message))} }}" for name in cls.params
              if name in fields and fields[name].message is not None]
    bottoms, tops = _names(rng, "x", cls.bottoms), _names(rng, "y", cls.tops)
    one = rng.choice(SHAPES)
    alike = rng.random() < 0.6
    return (layer(kind, " ".join(bottoms), " ".join(tops), " ".join(params)),
            {name: one if alike else rng.choice(SHAPES) for name in bottoms} or {"z": (1,)})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_no_parameter_of_any_layer_is_a_traceback(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # some layers write files
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": MEMORY // 4096}.__getitem__)
    ran = refused = 0
    broken = []
    for kind in known_types():
        rng = random.Random(f"{kind} {seed}")
        for _ in range(3):
            text, shapes = _network(rng, kind)
            try:
                net = net_of(text, shapes, dialect="mixed")
                if all(4 * count(shape) < MEMORY for step in net.steps for shape in step.top_shapes):
                    with torch.no_grad():
                        net(**{name: torch.rand(shape) for name, shape in net.inputs.items()})
                    ran += 1
            except RmpeError:
                refused += 1
            except Exception as error:
                broken.append(f"{error!r}: {text}{shapes}")
    assert not broken
    assert ran > 40
    assert refused > 300
