"""The training of the demo's models: what it feeds, and that it goes on where it was interrupted."""

import numpy as np
import pytest
import torch
from demo_tools import tool

from rmpe_legacy import ops
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.synthetic.world import draw_picture

train_demo = tool("train_demo")


def few_pictures(monkeypatch):
    """Smaller batches, so that the test is quick."""
    monkeypatch.setattr(train_demo, "DETECTOR_PICTURES", 1)
    monkeypatch.setattr(train_demo, "POSE_BATCH", 2)
    monkeypatch.setattr(train_demo, "SNAPSHOT_STEPS", 10)


@pytest.mark.parametrize("name", ["detector", "pose"])
class TestTraining:
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
        assert {layer.name for layer in read_weights(whole)} == set(train_demo.new_net(name, 0).params)

    def test_a_snapshot_of_another_run_is_not_taken(self, name: str, tmp_path, monkeypatch):
        few_pictures(monkeypatch)
        train_demo.train(name, tmp_path, 5, 1, "cpu", 0)
        with pytest.raises(SystemExit, match=r"is of another run"):
            train_demo.train(name, tmp_path, 6, 1, "cpu", 0)

    @staticmethod
    def folder(tmp_path, name: str):
        (tmp_path / name).mkdir()
        return tmp_path / name

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


def test_the_identity_is_where_the_stn_begins():
    net = train_demo.new_net("pose", 0)
    data = torch.rand(2, 3, 128, 128)
    net.keep_blobs = True
    with torch.no_grad():
        net(data=data, label=torch.zeros(2, 16, 32, 32), theta_label=torch.zeros(2, 6))
    assert net.blobs["theta"].tolist() == [[1, 0, 0, 0, 1, 0]] * 2
