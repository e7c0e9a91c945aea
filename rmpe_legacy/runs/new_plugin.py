"""``rmpe plugin new``: a layer type of the user's own to fill in, with its test."""

from __future__ import annotations

import keyword
import os
import re
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from string import Template

from rmpe_legacy.caffe.layers import registry
from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.errors import FileError, InputError
from rmpe_legacy.files import write_together
from rmpe_legacy.wording import shorten

FIELDS = ("factor",)
_TYPE = re.compile(r"[A-Z][A-Za-z0-9]{0,59}")
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,59}")
_USED = ("Layer", "Tensor")  # names that the plugin imports
_TAKEN = {"spec", "declared", "left_out", "training", "field"}  # attributes of a layer that its class does not show


def new_plugin(name: str, folder: str | Path = ".", fields: Sequence[str] = FIELDS) -> tuple[Path, Path]:
    """Write a plugin for a layer type, which starts as the identity, and a test of it that passes.

    Args:
        name: The type, as prototxts will have it: MyLayer makes my_layer.py and test_my_layer.py.
        folder: Where they go; made if missing.
        fields: Those of its message, my_layer_param. They are declared, so that any other one is an error.

    Raises:
        InputError: The name or a field cannot be used.
        FileError: One of the files exists, or cannot be written.
    """
    module = _module_of(name)
    _check_fields(fields)
    files = [Path(folder) / f"{module}.py", Path(folder) / f"test_{module}.py"]
    for path in files:
        if os.path.exists(path) or path.is_symlink():
            raise FileError(f"{path}: already exists and is not overwritten; remove it, or choose another name or "
                            "--folder")
    values = {"type": name, "module": module, "param": f"{module}_param", "first": fields[0],
              "fields": f"({', '.join(map(repr, fields))}{',' * (len(fields) == 1)})".replace("'", '"'),
              "setup": "\n".join(f'        self.{field} = self.field("{field}", 1.0)' for field in fields),
              "misspelt": _misspelt(fields)}
    write_together(folder, {path.name: Template(text).substitute(values).encode()
                            for path, text in zip(files, (_PLUGIN, _TEST), strict=True)})
    return files[0], files[1]


def _module_of(name: str) -> str:
    """The module for a type: my_layer for MyLayer. Raises InputError for a name that cannot be used."""
    shown = shorten(name)
    if not _TYPE.fullmatch(name) or keyword.iskeyword(name) or name in _USED:
        raise InputError(f"'{shown}' cannot be the name of a plugin's layer type; give letters and digits that begin "
                         "with a capital, such as MyLayer")
    if name in registry.known_types():
        raise InputError(f"{name} is already a layer type of this package; choose another name")
    module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    if keyword.iskeyword(module) or _is_python_s(module):
        raise InputError(f"{name}: its file {module}.py would hide Python's own {module!r}; choose another name")
    return module


def _is_python_s(module: str) -> bool:
    """Whether Python or an installed package has this module, so that a file in the working directory would hide it."""
    here = os.path.realpath(os.curdir)
    places = [place for place in sys.path if os.path.realpath(place) != here]  # `python -m rmpe_legacy` adds it
    found = PathFinder.find_spec(module, places)
    return module in sys.stdlib_module_names or module in sys.modules or (found is not None and bool(found.origin))


def _check_fields(fields: Sequence[str]) -> None:
    if not fields:
        raise InputError("a plugin needs at least one field")
    for i, field in enumerate(fields):
        if not _FIELD.fullmatch(field) or keyword.iskeyword(field):
            raise InputError(f"'{shorten(field)}' cannot be the name of a field; give lower-case letters, digits and "
                             "underscores, such as factor")
        if field in _TAKEN or hasattr(Layer, field):
            raise InputError(f"a field cannot be called {field!r}, which every layer has; choose another name")
        if field in fields[:i]:
            raise InputError(f"field {field!r} is given twice; give it once")


def _misspelt(fields: Sequence[str]) -> str:
    """A name close to the first field's, for the test."""
    wrong = fields[0] + (fields[0][-1] if fields[0][-1].isalpha() else "_")
    return f"{wrong}_" if wrong in fields else wrong


_PLUGIN = '''\
"""The layer type $type. Every command that reads a prototxt takes it: rmpe show net.prototxt --plugin $module.py

    layer { name: "a" type: "$type" bottom: "x" top: "y" $param { $first: 1 } }
"""

from torch import Tensor

from rmpe_legacy import Layer, register


@register("$type")
class $type(Layer):
    """The identity, any shape -> the same. Say here what it computes and the shapes of bottoms and tops."""

    bottoms, tops = 1, 1  # (1, None) is one or more
    # All fields of $param: any other one in a prototxt is an error, which names the nearest of these.
    fields = {"$param": $fields}

    def setup(self, *bottom: tuple[int, ...]) -> None:
        """Called once, with the shapes of the bottoms: read the fields, check them, declare parameters."""
$setup

    def reshape(self, *bottom: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Called when a shape changes: the shapes of the tops. Refuse here what `forward` cannot compute."""
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        """Tensors in, one Tensor out, or a tuple for several tops. Gradients come from autograd."""
        return x.clone()

    def field(self, name: str, default: float) -> float:
        """The number in a field of $param, or the default if the prototxt does not set it."""
        if not (self.spec.has("$param") and self.spec.get("$param").has(name)):
            return default
        value = getattr(self.spec.get("$param"), name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.spec.error(f"{name} is {value!r}; give a number")
        return value
'''

_TEST = '''\
"""Tests of $module.py. Run them with: pytest test_$module.py"""

import runpy
from pathlib import Path

import pytest
import torch

from rmpe_legacy import Net, RmpeError, load_net

runpy.run_path(str(Path(__file__).with_name("$module.py")))  # what --plugin $module.py does
SHAPE = (2, 3, 4, 5)


def net(folder: Path, fields: str = "") -> Net:
    """A network with an input of SHAPE and one layer of the type."""
    shape = " ".join(f"dim: {size}" for size in SHAPE)
    prototxt = folder / "net.prototxt"
    prototxt.write_text(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {shape} }} }} }}
        layer {{ name: "a" type: "$type" bottom: "x" top: "y" $param {{ {fields} }} }}
    """)
    loaded = load_net(prototxt)
    loaded.force_backward = True  # the gradient of the input is wanted
    return loaded


def test_values(tmp_path):
    x = torch.linspace(-2, 2, 120).view(SHAPE)
    expected = x  # replace it with what was worked out by hand, or what the original code gave
    torch.testing.assert_close(net(tmp_path, "$first: 1")(x=x)["y"], expected)


def test_a_field_is_read(tmp_path):
    layer = net(tmp_path, "$first: 2").steps[-1].layer
    assert layer.$first == 2
    assert net(tmp_path).steps[-1].layer.$first == 1


def test_shape_is_what_forward_gives(tmp_path):
    made = net(tmp_path)
    assert tuple(made(x=torch.zeros(SHAPE))["y"].shape) == made.steps[-1].top_shapes[0]


def test_gradient(tmp_path):
    made = net(tmp_path).double()
    x = torch.rand(SHAPE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: made(x=x)["y"], x)


def test_a_misspelt_field_is_found(tmp_path):
    with pytest.raises(RmpeError, match="declares no field '$misspelt'; did you mean '$first'?"):
        net(tmp_path, "$misspelt: 1")


def test_a_text_is_no_number(tmp_path):
    with pytest.raises(RmpeError, match="$first is 'much'; give a number"):
        net(tmp_path, '$first: "much"')
'''
