"""Every field of every layer's messages, in each dialect, is read where its layer is, or listed here with a reason."""

import inspect
import re

import pytest
from paths import ROOT

from rmpe_legacy.caffe.layers import Layer, known_types
from rmpe_legacy.caffe.layers.registry import classes_of, dialects_of, layer_class
from rmpe_legacy.caffe.layers.uncomputed import Uncomputed
from rmpe_legacy.caffe.proto.dialects import BASES
from rmpe_legacy.caffe.proto.schema import MessageType, load_schema

PACKAGE = ROOT / "rmpe_legacy" / "caffe"
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text()
           for folder in ("layers", "data") for path in (PACKAGE / folder).glob("*.py")}
CLASSES = [layer_class(name) for name in known_types()]
CUDNN = "chooses among implementations; there is one"
NOT_READ = {
    ("ConvolutionParameter", "engine"): CUDNN,
    ("LRNParameter", "engine"): CUDNN,
    ("PoolingParameter", "engine"): CUDNN,
    ("ReLUParameter", "engine"): CUDNN,
    ("SPPParameter", "engine"): CUDNN,
    ("SigmoidParameter", "engine"): CUDNN,
    ("SoftmaxParameter", "engine"): CUDNN,
    ("TanHParameter", "engine"): CUDNN,
    ("ConvolutionParameter", "force_nd_im2col"): "another loop, the same sums (Convolution__force_nd)",
    ("DataParameter", "prefetch"): "how much Caffe's reader keeps; what is read ahead does not change results",
    ("RecurrentParameter", "debug_info"): "prints only",
    ("PythonParameter", "share_in_parallel"): "about several solvers in one process, which there are not",
    ("DetectionOutputParameter", "visualize_threshold"): "of visualize, which is refused",
    ("DetectionOutputParameter", "save_file"): "of visualize, which is refused (detection_output_layer.cpp:465)",
    ("AnnotatedDataParameter", "label_map_file"): "kept and never looked at in Caffe",
}
# Where messages inside a layer's message are read; `min_{kind}` and the like stand for several fields.
INSIDE = {
    "BatchSampler": ("data/sampler.py",),
    "Sampler": ("data/sampler.py",),
    "SampleConstraint": ("data/sampler.py",),
    "EmitConstraint": ("data/boxes.py",),
    "ResizeParameter": ("data/caffe_resize.py", "layers/base_data.py", "layers/ssd_common.py"),
    "NoiseParameter": ("data/noise.py", "layers/base_data.py"),
    "SaltPepperParameter": ("data/noise.py",),
    "DistortionParameter": ("data/noise.py",),
    "ExpansionParameter": ("data/data_transformer.py",),
    "TransformationParameter": ("data/data_transformer.py",),
    "FillerParameter": ("layers/fillers.py",),
    "NonMaximumSuppressionParameter": ("layers/detection_output.py", "layers/multibox_loss.py"),
    "SaveOutputParameter": ("layers/detection_files.py", "layers/ssd_common.py"),
    "BlobShape": ("layers/dummy_data.py", "layers/input.py", "layers/parameter.py", "layers/reshape.py"),
}
SPELLED_BY_PARTS = {  # field -> the parts of its name, and what puts them together
    **{f"{end}_{kind}": (kind, f"{end}_{{kind}}") for end in ("min", "max")
       for kind in ("jaccard_overlap", "sample_coverage", "object_coverage")},
    **{f"{name}_{side}": (name, f"{{name}}_{side}") for name in ("stride", "pad") for side in "hw"},
}


def messages() -> list[MessageType]:
    """What LayerParameter holds, and what that holds, of every dialect."""
    found = {}
    for dialect in BASES:
        waiting = [field.message for field in load_schema(dialect)["LayerParameter"].fields.values() if field.message]
        while waiting:
            message = waiting.pop()
            if message.name not in ("NetStateRule", "ParamSpec", "BlobProto") and (message.name, dialect) not in found:
                found[message.name, dialect] = message
                waiting += [field.message for field in message.fields.values() if field.message]
    return list(found.values())


def readers(message: MessageType) -> list[str]:
    """The sources that read a message: those of the layers whose `params` have it, or as INSIDE says.

    ssd_common.py reads a part of several.
    """
    if message.name in INSIDE:
        return [SOURCES[name] for name in INSIDE[message.name]]
    holders = {field.name for field in message.schema["LayerParameter"].fields.values()
               if field.message and field.message.name == message.name}
    found = [text for cls in CLASSES if holders & set(cls.params) for text in sources_of(cls)]
    return [*found, SOURCES["layers/ssd_common.py"]] if found else []


def sources_of(cls: type[Layer]) -> list[str]:
    """The text of the files that define a layer and the classes that it derives from."""
    return [SOURCES[f"layers/{owner.__module__.rpartition('.')[2]}.py"] for owner in cls.__mro__
            if issubclass(owner, Layer) and owner is not Layer]


def is_read(message: MessageType, field: str) -> bool:
    texts = readers(message)
    name = re.compile(rf"\.{field}\b|[\"']{field}[\"']")
    if any(name.search(text) for text in texts):
        return True
    part, whole = SPELLED_BY_PARTS.get(field, ("", ""))
    return bool(part) and any(f'"{part}"' in text and f'"{whole}"' in text for text in texts)


@pytest.mark.parametrize("message", messages(), ids=lambda message: f"{message.name}-{message.schema.dialect}")
def test_each_field_is_read_or_has_a_reason_not_to_be(message: MessageType):
    unread = {name for name in message.fields if not is_read(message, name)}
    assert {name for name in unread if (message.name, name) not in NOT_READ} == set()


def test_no_reason_is_out_of_date():
    fields = {(message.name, name): message for message in messages() for name in message.fields}
    assert set(NOT_READ) <= set(fields)
    assert [key for key in NOT_READ if is_read(fields[key], key[1])] == []


@pytest.mark.parametrize("name", known_types())
@pytest.mark.slow
def test_params_are_what_the_class_reads(name: str):
    known = {field for dialect in dialects_of(name) for field in load_schema(dialect)["LayerParameter"].fields}
    for cls in classes_of(name):
        owners = [owner for owner in cls.__mro__ if issubclass(owner, Layer) and owner is not Layer]
        found = {field for owner in owners for field in re.findall(r'spec\.get\("(\w+)"\)', inspect.getsource(owner))}
        if any("spec.get(self.params[0])" in inspect.getsource(owner) for owner in owners):
            found.add(cls.params[0])  # which a base class reads by this attribute
        if issubclass(cls, Uncomputed):  # its numbers would need all of them
            assert found <= set(cls.params)
        else:
            assert set(cls.params) == found
        assert set(cls.params) <= known
