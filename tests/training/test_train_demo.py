"""The training of the demo's models: what it feeds, and that it goes on where it was interrupted."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_tools import tool

from rmpe_legacy import ops
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.pose.demo_models import demo_model
from rmpe_legacy.synthetic.world import draw_picture

train_demo = tool("train_demo")


def few_pictures(monkeypatch):
    """Smaller batches, so that the test is quick."""
    monkeypatch.setattr(train_demo, "DETECTOR_PICTURES", 1)
    monkeypatch.setattr(train_demo, "POSE_BATCH", 2)
    monkeypatch.setattr(train_demo, "SNAPSHOT_STEPS", 10)


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """The folder of the networks that the pose network begins with, hardly trained."""
    folder = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        few_pictures(patch)
        for name in ("sppe", "rough", "stn"):
            train_demo.train(name, folder, 5, 1, "cpu", 0)
    return folder


def weights(path: Path) -> dict[str, list[np.ndarray]]:
    return {layer.name: [np.array(blob.data) for blob in layer.blobs] for layer in read_weights(path)}


@pytest.mark.parametrize("name", train_demo.RECIPES)
class TestTraining:
    @pytest.fixture(autouse=True)
    def _parts(self, parts: Path):
        self.parts = parts

    def test_interrupted_and_resumed_gives_the_same_weights(self, name: str, tmp_path, monkeypatch):
        few_pictures(monkeypatch)
        train_demo.train(name, self.folder(tmp_path, "whole"), 5, 3, "cpu", 0)
        feed = train_demo.RECIPES[name].feed
        broken = train_demo.Recipe(**{**vars(train_demo.RECIPES[name]), "feed": self.interrupted(feed)})
        with monkeypatch.context() as patch:
            patch.setitem(train_demo.RECIPES, name, broken)
            with pytest.raises(KeyboardInterrupt):
                train_demo.train(name, self.folder(tmp_path, "parts"), 5, 3, "cpu", 0)
        train_demo.train(name, tmp_path / "parts", 5, 3, "cpu", 0)
        whole, parts = (tmp_path / folder / f"demo_{name}.caffemodel" for folder in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()
        wanted = {layer for layer in train_demo.new_net(name, 0).params if not layer.startswith(train_demo.PARALLEL)}
        assert {layer.name for layer in read_weights(whole)} == wanted

    def test_a_snapshot_of_another_run_is_not_taken(self, name: str, tmp_path, monkeypatch):
        few_pictures(monkeypatch)
        folder = self.folder(tmp_path, "there")
        train_demo.train(name, folder, 5, 1, "cpu", 0)
        with pytest.raises(SystemExit, match=r"is of another run"):
            train_demo.train(name, folder, 6, 1, "cpu", 0)

    def folder(self, tmp_path, name: str):
        return shutil.copytree(self.parts, tmp_path / name, ignore=shutil.ignore_patterns("*.pt"))

    @staticmethod
    def interrupted(feed):
        def fed(seed: int, step: int):
            if step == 2:
                raise KeyboardInterrupt
            return feed(seed, step)
        return fed


def test_boxes_of_the_detector_are_on_the_people(monkeypatch):
    monkeypatch.setattr(train_demo, "DETECTOR_PICTURES", 3)
    batch = train_demo.detector_batch(8, 0)
    assert batch["data"].shape == (6, 3, 160, 160)
    labels = batch["label"].view(-1, 8).numpy()
    assert set(labels[:, 1]) == {1}
    assert ((labels[:, 3:7] >= 0) & (labels[:, 3:7] <= 1)).all()
    for index in range(3):
        boxes = draw_picture(8, index).boxes_xyxy / (320, 240, 320, 240)
        np.testing.assert_allclose(labels[labels[:, 0] == 2 * index, 3:7], boxes, rtol=1e-5)


def test_the_theta_to_learn_puts_the_person_where_the_sdtn_takes_it_back_from():
    """What the STN sees with it holds every joint, and behind the SDTN the joints are where the labels have them."""
    batch = train_demo.pose_batch(8, 0)
    seen = ops.spatial_transformer(batch["label"], batch["theta_label"], 24, 24)
    back = ops.spatial_de_transformer(seen, batch["theta_label"], 32, 32, mode="paper")
    got, want = (ops.prediction_heatmap(maps).numpy() for maps in (back, batch["label"]))
    there = want[..., 2] > 0.5
    assert there.mean() > 0.6
    assert (seen.amax(dim=(2, 3)).numpy()[there] > 0.4).all()
    assert np.abs(got - want)[there][:, :2].max() <= 1


def test_the_centered_label_has_each_joint_where_theta_would_show_it():
    batch = {name: value.numpy() for name, value in train_demo.pose_batch(8, 0).items()}
    shown = batch["label_center"].max(axis=(2, 3)) > 0.8
    assert shown.mean() > 0.6
    for sample, joint in zip(*np.nonzero(shown), strict=True):
        crop, center = (batch[name][sample, joint] for name in ("label", "label_center"))
        theta = batch["theta_label"][sample].reshape(2, 3)
        cell = np.array(np.unravel_index(center.argmax(), center.shape))  # y, x as in theta
        place = theta @ [*(2 * cell / len(center) - 1), 1]  # -1 to 1, in the crop
        want = 2 * np.array(np.unravel_index(crop.argmax(), crop.shape)) / len(crop) - 1
        assert np.abs(place - want).max() < 2 / len(center), (sample, joint)


def test_the_identity_is_where_the_stn_begins():
    net = train_demo.new_net("pose", 0)
    net.keep_blobs = True
    with torch.no_grad():
        net({name: torch.rand(2, *shape[1:]) for name, shape in dict(net.inputs).items()})
    assert net.blobs["theta"].tolist() == [[1, 0, 0, 0, 1, 0]] * 2


def trained_again(name: str, parts: Path, tmp_path: Path, monkeypatch) -> Path:
    """The folder after two steps."""
    few_pictures(monkeypatch)
    folder = shutil.copytree(parts, tmp_path / "there", ignore=shutil.ignore_patterns("*.pt"))
    train_demo.train(name, folder, 5, 2, "cpu", 0)
    return folder


def test_the_stn_learns_from_heat_maps_alone(parts: Path, tmp_path, monkeypatch):
    folder = trained_again("stn", parts, tmp_path, monkeypatch)
    assert set(dict(train_demo.new_net("stn", 0).inputs)) == {"data", "label_center"}
    begun, got = (weights(folder / f"demo_{name}.caffemodel") for name in ("rough", "stn"))
    assert all(name.startswith(train_demo.STN) for name in got)
    assert set(got) - set(begun) == {"loc_fc", "theta"}
    for name in set(begun) & set(got):
        if not name.endswith("_bn"):
            assert 0 < np.abs(got[name][0] - begun[name][0]).max() < 1e-3, f"{name} does not begin as it was"
    assert np.abs(got["theta"][0]).max() > 0  # which begins as zeros


def test_the_gradient_of_a_trained_sppe_leads_to_the_person(monkeypatch):
    measuring = tool("measure_stn_gradient")
    monkeypatch.setattr(measuring.train_demo, "POSE_BATCH", 8)
    net = measuring.hourglass(demo_model("pose")[1])
    batch = measuring.train_demo.pose_batch(measuring.SEED, 0)
    theta = torch.tensor(train_demo.IDENTITY).repeat(8, 1).requires_grad_()
    measuring.losses(net, batch, theta).sum().backward()
    assert ((batch["theta_label"] - theta.detach()) * theta.grad).sum() < 0
    said = measuring.measure(demo_model("pose")[1], 1)
    assert said.startswith("8 people: loss at the identity")
    assert float(said.partition("cosine ")[2].split()[0]) > 0.2


def test_the_pose_network_begins_with_its_parts_and_all_of_it_learns(parts: Path, tmp_path, monkeypatch):
    folder = trained_again("pose", parts, tmp_path, monkeypatch)
    assert set(dict(train_demo.new_net("pose", 0).inputs)) == {"data", "label", "label_center"}
    hourglass, stn, got = (weights(folder / f"demo_{name}.caffemodel") for name in ("sppe", "stn", "pose"))
    for name, blobs in got.items():
        begun = (stn if name.startswith(train_demo.STN) else hourglass)[name]
        if not name.endswith(("_bn", "_up2")):
            assert 0 < np.abs(blobs[0] - begun[0]).max() < 1e-3, f"{name} does not begin as it was"


def test_the_parallel_sppe_stays(parts: Path):
    net = train_demo.new_net("pose", 0)
    begun = train_demo.begin_with(net, train_demo.trained_part(parts, "sppe"))
    assert {name for name in net.params if name.startswith(train_demo.PARALLEL)} <= begun
    net({name: torch.rand(shape) for name, shape in dict(net.inputs).items()})
    net.loss().backward()
    stored = weights(parts / "demo_sppe.caffemodel")
    for name, params in net.params.items():
        if name.startswith(train_demo.PARALLEL):
            assert not any(p.requires_grad for p in params)
            for param, blob in zip(params, stored[name.removeprefix(train_demo.PARALLEL)], strict=True):
                assert np.array_equal(param.numpy().ravel(), blob.ravel()), name


def test_the_pose_network_needs_its_parts(tmp_path):
    with pytest.raises(SystemExit, match=r"demo_sppe\.caffemodel is missing; train it first, with --only sppe"):
        train_demo.train("pose", tmp_path, 5, 1, "cpu", 0)
