"""`rmpe show` computes shapes without torch, and says the same as with it."""

import json
import subprocess
import sys

import pytest
from paths import GOLDEN, ROOT

from rmpe_legacy.caffe.describe import describe_net
from rmpe_legacy.errors import RmpeError

OF_TYPES = {path.parent.name.partition("__")[0]: path for path in sorted(GOLDEN.glob("[lf]*s/*/net.prototxt"))}
NETWORKS = [*sorted((ROOT / "prototxt").rglob("*.prototxt")), *list(OF_TYPES.values())[::3]]
ALONE = """
import json, sys, warnings
from rmpe_legacy.cli.shapes_only import TorchNeededError, _placeholders
from rmpe_legacy.errors import RmpeError
warnings.simplefilter("ignore")
with _placeholders():
    from rmpe_legacy.caffe.describe import describe_net
    found = {}
    for path in json.load(sys.stdin):
        try:
            found[path] = describe_net(path).text
        except RmpeError as error:
            found[path] = str(error)
        except TorchNeededError:
            found[path] = None
json.dump(found, sys.stdout)
"""


def run(code: str, given: str = "") -> str:
    return subprocess.run([sys.executable, "-c", code], input=given, stdout=subprocess.PIPE, check=True, text=True,
                          cwd=ROOT).stdout


@pytest.mark.filterwarnings("ignore")
def test_networks_are_described_alike_without_torch():
    found = json.loads(run(ALONE, json.dumps(list(map(str, NETWORKS)))))
    asked_for_torch = [path for path, text in found.items() if text is None]
    assert len(asked_for_torch) <= len(found) / 50, asked_for_torch
    for path, text in found.items():
        if text is not None:
            try:
                expected = describe_net(path).text
            except RmpeError as error:
                expected = str(error)
            assert text == expected


def test_show_does_not_import_torch():
    code = ("import sys; from rmpe_legacy.cli import main; "
            "sys.exit(main(['show', 'prototxt/sppe_sstn/deploy.prototxt']) or 'torch' in sys.modules)")
    assert "layers" in run(code)


def test_a_command_that_needs_torch_after_all_gets_it():
    code = """
import sys
from rmpe_legacy.cli.shapes_only import shapes_only
tries = []
def command():
    import torch
    from rmpe_legacy.caffe import load
    from rmpe_legacy import ops
    tries.append(torch)
    return float(torch.tensor([1.5])), load
value, load = shapes_only(command)
assert value == 1.5 and len(tries) == 2
import rmpe_legacy.caffe.load, rmpe_legacy.ops, torch
assert rmpe_legacy.caffe.load is load and rmpe_legacy.ops.eltwise_affine is not None
assert tries[1] is torch is not tries[0]
"""
    run(code)


def test_what_was_loaded_without_torch_is_loaded_again_with_it():
    code = """
from rmpe_legacy.cli.shapes_only import shapes_only
def command():
    from rmpe_legacy.caffe.describe import describe_net
    return describe_net("prototxt/sppe_sstn/deploy.prototxt")
shapes_only(command)
import torch
from rmpe_legacy import Layer, caffe
assert issubclass(Layer, torch.nn.Module)
assert caffe.layers.base.Layer is Layer
"""
    run(code)


def test_an_error_of_the_command_is_that_with_torch():
    code = """
import sys
from rmpe_legacy.cli.shapes_only import shapes_only
from rmpe_legacy.errors import RmpeError
def command():
    import torch
    raise RmpeError(torch.__name__ if hasattr(torch, "__version__") else "placeholder")
try:
    shapes_only(command)
except RmpeError as error:
    assert str(error) == "torch"
else:
    sys.exit("no error")
"""
    run(code)


@pytest.mark.parametrize("question", ["bool(v)", "int(v)", "len(v)", "list(v)", "v == 1", "v < 1", "str(v)", "f'{v}'",
                                      "isinstance(v, torch.Tensor)", "v.shape[0] in (1, 2)", "numpy.asarray(v)"])
def test_no_answer_comes_from_a_placeholder(question: str):
    code = """
import numpy
from rmpe_legacy.cli.shapes_only import TorchNeededError, _placeholders
with _placeholders():
    import torch
    v = (torch.zeros(3).view(1, -1) * 2 + 1)[0]
    try:
        eval(input())
    except TorchNeededError:
        print("refused")
"""
    assert run(code, question) == "refused\n"
