"""The networks that the repository ships."""

import importlib.util
from pathlib import Path

import pytest
import torch
from harness import GOLDEN
from paths import ROOT

from rmpe_legacy import load_net, prototxts
from rmpe_legacy.caffe.proto.text import read_text
from rmpe_legacy.caffe.proto.text_writer import format_text
from rmpe_legacy.caffe.proto.upgrade import upgrade_net
from rmpe_legacy.cli import main
from rmpe_legacy.errors import FileError
from rmpe_legacy.prototxts import find, names

FILES = sorted((ROOT / "prototxt").glob("*/*.prototxt"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
class TestFile:
    def test_is_what_the_tool_writes(self, path: Path):
        assert path.read_text() == make_prototxt().NETWORKS[f"{path.parent.name}/{path.name}"]().text

    def test_has_its_line_in_the_readme(self, path: Path):
        assert f"`{path.parent.name}/{path.name}`" in (ROOT / "prototxt" / "README.md").read_text()


def test_names_are_those_of_the_files():
    assert names() == sorted(f"{path.parent.name}/{path.stem}" for path in FILES)
    assert find("ssd500") == find("ssd500/deploy") == ROOT / "prototxt" / "ssd500" / "deploy.prototxt"


@pytest.mark.parametrize("name", ["ssd", "demo", "../prototxt/ssd500", "ssd500/deploy.prototxt"])
def test_an_unknown_name(name: str):
    with pytest.raises(FileError, match=rf"there is no network '{name}'; `rmpe prototxt` lists them"):
        find(name)


def test_a_misspelled_name():
    with pytest.raises(FileError, match=r"there is no network 'ssd_500'; did you mean 'ssd500'\?"):
        find("ssd_500")


def test_a_wheels_copy_is_found_without_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prototxts, "_PACKAGE", tmp_path / "rmpe_legacy")
    with pytest.raises(FileError, match="no such folder; install"):
        find("tiny")
    file = tmp_path / "rmpe_legacy" / "prototxt" / "tiny" / "deploy.prototxt"
    file.parent.mkdir(parents=True)
    file.touch()
    assert find("tiny") == file


def test_the_command_prints_the_file(capsys: pytest.CaptureFixture):
    assert main(["prototxt", "ssd500/train"]) == 0
    assert capsys.readouterr().out == (ROOT / "prototxt" / "ssd500" / "train.prototxt").read_text()
    assert main(["prototxt"]) == 0
    assert capsys.readouterr().out.splitlines() == names()
    assert main(["prototxt", "ssd300"]) == 1
    assert "there is no network 'ssd300'; `rmpe prototxt` lists them" in capsys.readouterr().err


def make_prototxt():
    spec = importlib.util.spec_from_file_location("make_prototxt", ROOT / "tools" / "make_prototxt.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("ours", "theirs"), [("ssd500", "ssd"), ("sppe_sstn", "pose")])
def test_is_layer_for_layer_the_network_that_caffe_ran(ours: str, theirs: str):
    want = upgrade_net(read_text(GOLDEN / "nets" / theirs / "deploy.prototxt"))
    got = upgrade_net(read_text(ROOT / "prototxt" / ours / "deploy.prototxt"))
    assert [format_text(layer) for layer in got.layer] == [format_text(layer) for layer in want.layer]


@pytest.mark.parametrize("path", ["sppe_sstn", "sppe_sstn_affine"])
def test_pose_networks_give_joints(path: str):
    torch.manual_seed(0)
    net = load_net(ROOT / "prototxt" / path / "deploy.prototxt", de_transform="published-ignored")
    with torch.no_grad():
        joints = net(data=torch.rand(1, 3, 256, 256))["prediction_heatmap"].view(16, 3)
    assert (joints[:, :2] >= 0).all()
    assert (joints[:, :2] < 64).all()


def test_the_detector_gives_boxes():
    torch.manual_seed(0)
    net = load_net(ROOT / "prototxt" / "ssd500" / "deploy.prototxt")
    with torch.no_grad():
        rows = net(data=torch.rand(1, 3, 500, 500))["detection_out"]
    assert rows.shape[:2] == (1, 1)
    assert rows.shape[3] == 7


def test_the_detector_trains_on_what_it_is_fed():
    torch.manual_seed(0)
    net = load_net(ROOT / "prototxt" / "ssd500" / "train.prototxt", phase="TRAIN")
    label = torch.tensor([0, 1, 0, 0.2, 0.3, 0.5, 0.8, 0]).view(1, 1, 1, 8)
    net(data=torch.rand(1, 3, 500, 500), label=label)
    net.loss().backward()
    assert net.params["conv1_1"][0].grad is None, "the first layers are frozen"
    assert net.params["conv3_1"][0].grad.abs().sum() > 0
