"""OpenCV 4's importer reads the Caffe files that we write, and gives what our Net gives. OpenCV 5 has none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packed import unpacked
from paths import ROOT
from shared import shared

from rmpe_legacy import torch7_to_caffe

OPENCV4 = ROOT / "build" / "opencv4"  # where `make test` puts it
MODELS = unpacked("torch7/models")
ONE_NAME = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 5 } } }
layer { name: "p" type: "Power" bottom: "data" top: "a" power_param { scale: 2 } }
layer { name: "p" type: "Power" bottom: "a" top: "b" power_param { shift: 1 } }
layer { name: "p" type: "Power" bottom: "b" top: "c" power_param { scale: -1 } }
"""  # layers of one name, which OpenCV numbers
COMMANDS = """
import contextlib, io, json, sys
from rmpe_legacy.cli import main
results = []
for argv in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        results.append([main(argv), out.getvalue()])
print(json.dumps(results))
"""


class Networks:
    """The commands that take each network from its source to Caffe files of ours, and these to OpenCV."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.of: dict[str, list[list[str]]] = {}

    def add(self, name: str, *sources: Path | str, options: tuple[str, ...] = (), inputs: tuple[str, ...] = ()) -> None:
        graph, written = f"{name}.safetensors", f"{name}_back.caffemodel"
        self.of[name] = [
            ["convert", *map(str, sources), graph, "--no-verify", *options],
            ["convert", graph, written, "--no-verify"],
            ["verify", graph, f"opencv:{name}_back.prototxt,{written}", *inputs]]

    def run(self) -> dict[str, list]:
        """name -> (exit code, what was printed) of each command, from one process that has OpenCV 4."""
        argvs = [argv for commands in self.of.values() for argv in commands]
        path = os.pathsep.join([str(OPENCV4), str(ROOT), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run([sys.executable, "-c", COMMANDS, json.dumps(argvs)], cwd=self.folder, text=True,
                              env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        results = iter(json.loads(done.stdout))
        return {name: [next(results) for _ in commands] for name, commands in self.of.items()}


@pytest.fixture(scope="module")
def results(whole_network, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    if not (OPENCV4 / "cv2").is_dir():
        pytest.skip("OpenCV 4 is not in build/opencv4; `make build/opencv4/.ready` puts it there")
    folder = tmp_path_factory.mktemp("opencv")
    networks = Networks(folder)
    networks.add("hourglass", MODELS / "hourglass.cuda.t7")
    (folder / "one_name.prototxt").write_text(ONE_NAME)
    networks.add("one_name", "one_name.prototxt")
    layers = torch7_to_caffe(MODELS / "rmpe.t7").net.layer
    theta = next(layer.top[0] for layer in layers if layer.type == "InnerProduct")
    networks.add("rmpe", MODELS / "rmpe.t7", options=("--until", theta))
    for name, options in (("ssd", ()), ("pose", ("--until", "theta", "--de-transform", "paper"))):
        network = whole_network(name)
        np.save(folder / f"{name}.npy", network.arrays["data"])
        networks.add(name, network.prototxt, network.weights, options=options, inputs=("--input", f"data={name}.npy"))
    if os.environ.get("RMPE_SHARED"):
        for name in ("det1", "det2"):
            networks.add(name, shared("mtcnn", f"{name}.prototxt"), shared("mtcnn", f"{name}.caffemodel"))
    return networks.run()


@pytest.mark.parametrize("name", ["hourglass", "one_name", "rmpe", "det1", "det2", "ssd", "pose"])
def test_opencv_agrees(results, name):
    if name not in results:
        shared("mtcnn")  # skips
    for code, out in results[name]:
        assert code == 0, out
    assert "\nthe same: " in results[name][-1][1]
