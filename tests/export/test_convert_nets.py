"""Whole networks to ONNX, safetensors and model.py, on what the real Caffe was run on; and Torch7's to all of these."""

from itertools import takewhile
from pathlib import Path

import onnx
import pytest
from packed import unpacked
from paths import ROOT
from whole_networks import NAMES

from rmpe_legacy import load_net
from rmpe_legacy.cli import main
from rmpe_legacy.compare.convert import run_convert
from rmpe_legacy.compare.verify import TOLERANCE, verify
from rmpe_legacy.export.onnx import to_onnx
from rmpe_legacy.export.python_source import to_python
from rmpe_legacy.formats.base import NetRunner, RunResult, Setting
from rmpe_legacy.formats.network_json import load_converted
from rmpe_legacy.formats.onnx import OnnxRunner
from rmpe_legacy.formats.python import PythonRunner

MODELS = unpacked("torch7/models")


class Once:
    """A side that is run once for several comparisons."""

    def __init__(self, runner: NetRunner):
        self.runner, self.title, self.inputs, self.ran = runner, runner.title, runner.inputs, None
        self.doubles: dict = {}

    def run(self, inputs, wanted=None) -> RunResult:
        self.ran = self.ran or self.runner.run(inputs, wanted)
        return self.ran

    def exact(self, inputs, given, see) -> None:
        assert not given
        if not self.doubles:
            self.runner.exact(inputs, given, self.doubles.__setitem__)
        for blob, value in self.doubles.items():
            see(blob, value)


@pytest.fixture(scope="module", params=NAMES)
def golden(request, whole_network, tmp_path_factory) -> tuple[Path, tuple[str, str], Once, dict]:
    """A golden network: a folder for what is made of it, its files, its Net, and the input that Caffe was given."""
    folder, network = tmp_path_factory.mktemp(request.param), whole_network(request.param)
    files = str(network.prototxt), str(network.weights)
    net = load_net(*files, de_transform="published-identity")
    return folder, files, Once(NetRunner(net, "Caffe files")), {"data": network.arrays["data"]}


@pytest.mark.parametrize("name", ["net.onnx", "net.safetensors", "net_.py"])
def test_golden_networks(golden, name):
    folder, files, ours, inputs = golden
    made = run_convert(files, str(folder / name), Setting(de_transform="published-identity")).files[0]
    if name.endswith("safetensors"):
        other = NetRunner(load_converted(made), name)
    else:
        other = (OnnxRunner if name.endswith("onnx") else PythonRunner)(made, name)
    verdict = verify(ours, other, inputs)
    before = list(takewhile(lambda d: d.blob != "img", verdict.differences))  # before the pose network's STN
    assert len(before) > 30
    assert max(d.relative for d in before) < TOLERANCE, str(verdict)
    assert verdict.same, str(verdict)  # behind it, by what single precision costs our own network
    assert len(verdict.differences) > 60


class TestTorch7:
    """Torch7's modules on one side, what was made of the file on the other."""

    @pytest.mark.parametrize("name", ["out/", "net.onnx", "net.safetensors", "net.py"])
    def test_the_full_network(self, capsys, tmp_path, name):
        assert main(["convert", str(MODELS / "rmpe.t7"), f"{tmp_path}/{name}"]) == 0
        assert "\nthe same: 4 blobs " in capsys.readouterr().out

    def test_the_parallel_branch_dropped(self, capsys, tmp_path):
        assert main(["convert", str(MODELS / "rmpe.t7"), f"{tmp_path}/net.onnx", "--drop-parallel"]) == 0
        assert "\nthe same: 2 blobs " in capsys.readouterr().out
        outputs = [output.name for output in onnx.load(tmp_path / "net.onnx").graph.output]
        assert outputs == ["heatmaps_1", "heatmaps_2"]

    def test_the_sstn(self, capsys, tmp_path):
        assert main(["convert", str(MODELS / "sstn.t7"), f"{tmp_path}/out/"]) == 0
        assert "\nthe same: " in capsys.readouterr().out

    def test_another_size(self, capsys, tmp_path):
        argv = ["convert", str(MODELS / "hourglass.cuda.t7"), f"{tmp_path}/net.onnx", "--input-shape", "3,64,128"]
        assert main(argv) == 0
        assert "data 1 x 3 x 64 x 128 random" in (tmp_path / "net.onnx.verify.html").read_text()

    def test_another_size_by_name_and_with_a_batch(self, capsys, tmp_path):
        source = str(MODELS / "hourglass.cuda.t7")
        assert main(["convert", source, f"{tmp_path}/out/", "--input-shape", "data=2,3,64,128"]) == 0
        [made] = (tmp_path / "out").glob("*.prototxt")
        assert load_net(made).inputs == {"data": (2, 3, 64, 128)}
        assert main(["convert", source, f"{tmp_path}/b.onnx", "--input-shape", "image=3,64,128"]) == 1
        assert "--input-shape names 'image', but the inputs become 'data'" in capsys.readouterr().err
        assert main(["convert", source, f"{tmp_path}/b.onnx", *["--input-shape", "3,64,128"] * 2]) == 1
        assert "--input-shape is given 2 times; give C,H,W once for all inputs" in capsys.readouterr().err
        assert not (tmp_path / "b.onnx").exists()

    def test_verify_takes_the_file_itself(self, capsys, tmp_path):
        path = str(MODELS / "hourglass.cuda.t7")
        assert main(["convert", path, f"{tmp_path}/net.onnx", "--no-verify", "--input-shape", "3,64,64"]) == 0
        assert main(["verify", path, f"{tmp_path}/net.onnx"]) == 0


@pytest.mark.parametrize("name", ["ssd500", "sppe_sstn", "sppe_sstn_affine"])
def test_published_networks_can_be_written(name):
    net = load_net(ROOT / "prototxt" / name / "deploy.prototxt", de_transform="paper")
    model, graph = to_onnx(net)
    assert model.opset_import[0].version in (18, 20)
    assert {output.name for output in model.graph.output} == set(net.outputs)
    text = to_python(net, name, "net.pt").text
    compile(text, "net.py", "exec")
    assert graph.is_dynamic, graph.why_fixed
