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
