"""The scripts in examples/ run, and print what their docstrings say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from paths import ROOT
from small_networks import write_network

from rmpe_legacy.cli import main
from rmpe_legacy.synthetic.world import draw_picture

EXAMPLES = ROOT / "examples"
NET = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }
"""


def run(script: str, *args: object, **env: object) -> str:
    command = [sys.executable, *(["-m", "pytest"] if script == "regression_test.py" else []), EXAMPLES / script]
    done = subprocess.run([*command, *map(str, args)], capture_output=True, text=True, check=False,
                          env=os.environ | {key: str(value) for key, value in env.items()})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def network(tmp_path) -> tuple[Path, Path]:
    return write_network(tmp_path, "small", NET, 7)


def test_convert_to_onnx(network, tmp_path):
    pytest.importorskip("onnxruntime")
    verdict, output = run("convert_to_onnx.py", *network, tmp_path / "small.onnx").splitlines()
    assert verdict.startswith("the same: ")
    assert re.fullmatch(r"fc \(\d, 5\)", output)


def test_fine_tune_changes_the_last_layer_alone(network, tmp_path):
    first, last = (float(line.split()[-1]) for line in run("fine_tune.py", *network, tmp_path / "x.pt").splitlines())
    assert last < first / 2
    before, after = _state(network), torch.load(tmp_path / "x.pt", weights_only=True)
    assert {key for key in after if not torch.equal(before[key], after[key])} == {"fc.weight", "fc.bias"}


def _state(network: tuple[Path, Path]) -> dict[str, torch.Tensor]:
    from rmpe_legacy import load_net

    return load_net(*network).state_dict()


def test_poses_in_folder(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), draw_picture(3, 1).image[:, :, ::-1])
    head, *people = run("poses_in_folder.py", tmp_path).splitlines()
    assert head == f"a.png: {len(people)} people"
    assert people
    assert all(re.fullmatch(r"  score 0\.\d\d, head at \(-?\d+, -?\d+\)", line) for line in people)


def test_plugin_layer(tmp_path):
    """In processes of their own: a registered type would stay for the other tests."""
    prototxt = tmp_path / "net.prototxt"
    layer = 'layer { name: "act" type: "Snake" bottom: "fc" top: "s" snake_param { alpha: %s } }\n'
    for alpha, code, words in ((2, 0, "Snake"), (0, 1, "act (Snake): alpha is 0; give a number above 0")):
        prototxt.write_text(NET + layer % alpha)
        done = subprocess.run([sys.executable, "-m", "rmpe_legacy", "show", prototxt, "--plugin",
                               EXAMPLES / "plugin_layer.py"], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert words in done.stdout + done.stderr


def test_regression_test_passes_and_fails(network, tmp_path):
    reference = tmp_path / "reference.npz"
    assert main(["forward", *map(str, network), "--input", f"data={_input(tmp_path)}", "--blobs", "all", "--output",
                 str(reference)]) == 0
    files = {"PROTOTXT": network[0], "WEIGHTS": network[1], "REFERENCE": reference}
    assert run("regression_test.py", **files).startswith(".")
    _, other = write_network(tmp_path, "other", NET, 8)
    with pytest.raises(AssertionError, match="not the same: "):
        run("regression_test.py", **files | {"WEIGHTS": other})


def _input(folder: Path) -> Path:
    import numpy as np

    path = folder / "data.npy"
    np.save(path, np.random.default_rng(3).random((2, 3, 9, 7), np.float32))
    return path
