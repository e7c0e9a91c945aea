"""--engine on the commands: the same results within rounding, and the engine named in what is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from engine_networks import everything
from small_networks import write_detector, write_pose

from rmpe_legacy import load_pipeline
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
from rmpe_legacy.caffe.weights import trained_layers
from rmpe_legacy.cli import main
from rmpe_legacy.cli.options import ENGINES as OFFERED
from rmpe_legacy.engines import AUTO, ENGINES
from rmpe_legacy.engines.layer_times import OTHER, layer_of
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.pose.estimate import load_pose_network
from rmpe_legacy.runs.result_files import read_poses
from rmpe_legacy.synthetic.world import draw_picture

Rmpe = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rmpe(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rmpe:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*argv: object) -> tuple[int, str, str]:
        code = main([*map(str, argv)])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def networks(tmp_path: Path) -> list[str]:
    return ["--detector", *map(str, write_detector(tmp_path)), "--pose", *map(str, write_pose(tmp_path)),
            "--de-transform", "paper"]


@pytest.fixture
def net(tmp_path: Path) -> tuple[Path, Path]:
    """A prototxt and its caffemodel, and data.npy."""
    made = everything(tmp_path)
    write_caffemodel(tmp_path / "net.caffemodel", trained_layers(made))
    np.save(tmp_path / "data.npy", np.random.default_rng(1).normal(size=(2, 3, 17, 13)).astype(np.float32))
    return tmp_path / "net.prototxt", tmp_path / "net.caffemodel"


def test_the_command_line_offers_every_engine():
    assert set(OFFERED) == {*ENGINES, AUTO}


def test_detect_and_pose(rmpe: Rmpe, networks: list[str], tmp_path: Path):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "one.png"), draw_picture(3, 0).image[:, :, ::-1])
    joints = {}
    for engine in ("exact", "torch"):
        assert rmpe("detect", "images", "--output", f"{engine}_boxes", "--engine", engine, *networks[:3])[0] == 0
        assert rmpe("pose", "--proposals", f"{engine}_boxes", "--images", "images", "--output", f"{engine}_poses",
                    "--engine", engine, *networks[3:])[0] == 0
        joints[engine] = read_poses(Path(f"{engine}_poses", "testres.h5")).joints_xy
    assert len(joints["exact"]) > 3
    assert np.median(np.abs(joints["torch"] - joints["exact"])) < 1e-3


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "auto"])
def test_demo(engine: str, rmpe: Rmpe, networks: list[str], tmp_path: Path):
    cv2.imwrite(str(tmp_path / "one.png"), draw_picture(3, 0).image[:, :, ::-1])
    poses = {}
    for name in ("exact", engine):
        assert rmpe("demo", "one.png", "--output", name, "--report", f"{name}.html", "--engine", name,
                    *networks)[0] == 0
        poses[name] = read_poses(Path(name, "proposals", "testres.h5"))
    found, expected = poses[engine], poses["exact"]
    assert len(expected.scores) > 3
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3)
    assert np.median(np.abs(found.joints_xy - expected.joints_xy)) < 1e-3
    stored = json.loads(Path(engine, "poses.json").read_text())
    named = stored["info"]["engine"]
    assert set(named) == {"detector", "pose"}
    assert engine == "auto" or set(named.values()) == {engine}
    assert "engine" not in json.loads(Path("exact", "poses.json").read_text())["info"]
    if engine != "auto":
        assert f"Engines</dt><dd>detector: {engine}, pose: {engine}" in Path(f"{engine}.html").read_text()


def test_a_pipeline_shows_the_same_crops(tmp_path: Path):
    detector, pose = write_detector(tmp_path), write_pose(tmp_path)
    image = draw_picture(3, 0).image
    exact, fast = (load_pipeline(detector, pose, de_transform="paper", engine=name) for name in ("exact", "torch"))
    assert (fast.detector.engine, fast.pose.engine, exact.pose.engine) == ("torch", "torch", "exact")
    boxes = exact.estimate(image).proposals
    pairs = zip(exact.estimate(image, boxes, keep_crops=True).traces,
                fast.estimate(image, boxes, keep_crops=True).traces, strict=True)
    for one, other in pairs:
        for name in ("straightened", "theta", "heatmaps"):
            a, b = getattr(one, name), getattr(other, name)
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-3 * np.abs(a).max())


@pytest.mark.parametrize("engine", ["exact", "torch"])
def test_a_pipeline_for_another_thread_shares_the_weights(engine: str, tmp_path: Path):
    one = load_pipeline(write_detector(tmp_path), write_pose(tmp_path), de_transform="paper", engine=engine)
    other = one.for_another_thread()
    image = draw_picture(3, 0).image
    for a, b in ((one.detector.net, other.detector.net), (one.pose.module, other.pose.module)):
        assert [id(p) for p in a.parameters()] == [id(p) for p in b.parameters()]
        assert (a is b) == (engine != "exact")  # an engine may be called by several threads
    here, there = (pipeline.estimate(image, keep_crops=True) for pipeline in (one, other))
    assert len(here.proposals) > 0
    np.testing.assert_array_equal(here.poses.joints_xy, there.poses.joints_xy)
    for a, b in zip(here.traces, there.traces, strict=True):  # captured from each network's own layers
        np.testing.assert_array_equal(a.straightened, b.straightened)


def test_what_an_engine_cannot_run_in_a_pipeline(tmp_path: Path):
    files = write_pose(tmp_path)
    with pytest.raises(RmpeError, match="engine 'torch' cannot run it with stn='identity'; use 'exact'"):
        load_pose_network(*files, de_transform="paper", stn="identity", engine="torch")
    with pytest.raises(RmpeError, match=r"an ONNX network runs in ONNX Runtime, not in engine 'torch'; use 'auto'"):
        load_pose_network("net.onnx", engine="torch")


def test_forward(rmpe: Rmpe, net: tuple[Path, Path]):
    made = {}
    for engine in ("exact", "torch", "onnxruntime"):
        code, _, err = rmpe("forward", *net, "--input", "data=data.npy", "--blobs", "prob,pool1", "--engine", engine,
                            "--output", f"{engine}.npz")
        assert code == 0
        assert engine == "exact" or f"engine: {engine}, within" in err
        made[engine] = dict(np.load(f"{engine}.npz"))
    assert set(made["torch"]) == {"prob", "pool1"}
    for engine, name in ((e, n) for e in ("torch", "onnxruntime") for n in ("prob", "pool1")):
        np.testing.assert_allclose(made[engine][name], made["exact"][name], rtol=0, atol=1e-5)


def test_forward_does_not_give_inputs_back(rmpe: Rmpe, net: tuple[Path, Path]):
    code, _, err = rmpe("forward", *net, "--input", "data=data.npy", "--blobs", "all", "--engine", "torch")
    assert code == 1
    assert "blob 'data' is an input, which an engine does not return" in err
    assert not Path("blobs.npz").exists()


def test_verify_compares_blob_by_blob(rmpe: Rmpe, net: tuple[Path, Path]):
    code, out, _ = rmpe("verify", f"{net[0]},{net[1]}", net[1], "--engine", "onnxruntime")
    assert code == 0
    assert "in onnxruntime" in out
    assert all(f"\n{blob}  " in out for blob in ("pool1", "sum", "prob"))
    code, _, err = rmpe("verify", f"{net[0]},{net[1]}", "stored.npz", "--engine", "torch")
    assert code == 2
    assert "No such file" in err


def test_verify_takes_an_engine_for_caffe_networks_only(rmpe: Rmpe, net: tuple[Path, Path]):
    assert rmpe("forward", *net, "--input", "data=data.npy", "--output", "stored.npz")[0] == 0
    code, _, err = rmpe("verify", f"{net[0]},{net[1]}", "stored.npz", "--engine", "torch")
    assert code == 2
    assert "stored.npz: engine 'torch' runs Caffe networks" in err


@pytest.mark.parametrize("engine", ["exact", "torch", "onnxruntime", "openvino"])
def test_time_gives_each_layers_time(engine: str, rmpe: Rmpe, net: tuple[Path, Path]):
    if engine == "openvino":
        pytest.importorskip("openvino")
    code, _, err = rmpe("time", "--model", net[0], "--weights", net[1], "--iterations", 2, "--engine", engine)
    assert code == 0
    before, after = err.split("Average time per layer: \n")
    assert before.count("Iteration: ") == 2
    times = dict(re.findall(r"\] +(\S+)\tforward: (\S+) ms\.", after))
    assert set(times) <= {*re.findall(r'layer { name: "(\w+)"', net[0].read_text()), "(other)"}
    assert {"conv1", "grouped", "fc", "last"} <= set(times)
    assert all(float(milliseconds) >= 0 for milliseconds in times.values())
    assert sum(map(float, times.values())) > 0
    assert {"bn1", "scale1", "relu1"}.isdisjoint(times) or engine == "exact"  # they are inside conv1


@pytest.mark.parametrize(("node", "layer"), [
    ("conv1", "conv1"), ("conv1_nchwc", "conv1"), ("conv1/WithoutBiases", "conv1"), ("fused fc/gemm", "fc"),
    ("fc/gemm_2", "fc"), ("block/1x1/reshape", "block/1x1"), ("ReorderOutput_token_9", OTHER),
    ("data_abcd_acdb_conv1/WithoutBiases", OTHER),
])
def test_the_layer_of_a_runtimes_node(node: str, layer: str):
    assert layer_of(node, {"conv1", "fc", "block/1x1", "block"}) == layer


def test_time(rmpe: Rmpe, net: tuple[Path, Path]):
    code, _, err = rmpe("time", "--model", net[0], "--weights", net[1], "--iterations", 3, "--engine", "torch")
    assert code == 0
    assert "Engine: torch" in err
    assert err.count("Iteration: ") == 3
    assert "     conv1\tforward: " in err
    assert "Average Forward pass: " in err
    code, _, err = rmpe("time", "--model", net[0], "--engine", "torch", "--trace", "trace.json")
    assert (code, "--trace times exact layers" in err) == (1, True)
