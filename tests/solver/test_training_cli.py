"""rmpe train, rmpe test and rmpe time: Caffe's options and log lines."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from training import write_run

from rmpe_legacy import load_net
from rmpe_legacy.caffe.solver.timing import Timer
from rmpe_legacy.cli import main

GLOG = re.compile(r"[IWEF](\d{4}) (\d\d:\d\d:\d\d\.\d{6}) +(\d+) ([\w.]+):(\d+)\] (.*)")
# what tools/extra/parse_log.py of Caffe looks for in a line
ITERATION, LR = re.compile(r"Iteration (\d+)"), re.compile(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)")
OUTPUT = re.compile(r"(Train|Test) net output #(\d+): (\S+) = ([\.\deE+-]+)")
BRANCHES = """
layer { name: "data" type: "DummyData" top: "data" top: "goal" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 9 dim: 9 } shape { dim: 2 dim: 4 dim: 9 dim: 9 }
  data_filler { type: "constant" value: 0.7 } data_filler { type: "constant" value: -0.4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3
  pad: 1 weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "constant" value: 0.8 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "one" type: "Convolution" bottom: "conv" top: "one" convolution_param { num_output: 4 kernel_size: 3
  pad: 1 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "one" top: "sum" }
layer { name: "loss" type: "EuclideanLoss" bottom: "sum" bottom: "goal" top: "loss" loss_weight: 0.5 }
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Writes a small run into the working directory; the function runs a command on it: (code, lines of its log)."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "max_iter: 4 snapshot: 2 test_iter: 2 test_interval: 2")

    def rmpe(*argv: str) -> tuple[int, list[str]]:
        code = main(list(argv))
        out, err = capfd.readouterr()
        assert out == ""
        return code, err.splitlines()

    return rmpe


def messages(lines: list[str]) -> list[str]:
    return [GLOG.fullmatch(line)[6] for line in lines]


class TestTrain:
    def test_every_line_has_glogs_prefix_and_caffes_parser_finds_all(self, run):
        code, lines = run("train", "--solver", "solver.prototxt")
        assert code == 0
        said = messages(lines)  # which fails where a line has another form
        assert said[0] == "Use CPU."
        assert said[-2:] == ["Optimization Done.", "Optimization Done."]
        assert [line for line in said if line.startswith("Solving ")] == ["Solving "]
        assert {int(ITERATION.search(line)[1]) for line in said if ", loss = " in line} == {0, 1, 2, 3, 4}
        assert [float(LR.search(line)[1]) for line in said if ", lr = " in line] == [0.01] * 4
        outputs = [OUTPUT.search(line).groups()[:3] for line in said if "net output" in line]
        assert outputs.count(("Train", "0", "loss")) == 4
        assert outputs.count(("Test", "0", "loss")) == 3
        assert Path("snap_iter_4.solverstate").exists()

    def test_caffes_own_forms_of_options(self, run):
        assert run("train", "-solver=solver.prototxt")[0] == 0
        code, lines = run("train", "-solver", "solver.prototxt", "-snapshot", "snap_iter_2.solverstate",
                          "-sigint_effect=none", "--sighup_effect", "stop")
        assert code == 0
        assert "Resuming from snap_iter_2.solverstate" in messages(lines)
        code, lines = run("train", "--solver", "solver.prototxt", "-weights",
                          "snap_iter_2.caffemodel,snap_iter_4.caffemodel")
        assert code == 0
        assert [m for m in messages(lines) if m.startswith("Finetuning")] == [
            "Finetuning from snap_iter_2.caffemodel", "Finetuning from snap_iter_4.caffemodel"]

    @pytest.mark.parametrize(("options", "words"), [
        (["--solver", "none.prototxt"], "none.prototxt: No such file or directory"),
        (["--solver", "solver.prototxt", "--snapshot", "net.prototxt"], "net.prototxt: not a readable protobuf file"),
        (["--solver", "solver.prototxt", "--weights", "snap.caffemodel"], "snap.caffemodel: No such file"),
        (["--solver", "deploy_solver.prototxt"], "nothing fills 'x' of the network 'deployed'; give a network with "
         "data layers instead of inputs"),
        (["--solver", "solver.prototxt", "--gpu", "0,1"], "one process uses one GPU; start one for each: torchrun"),
        (["--solver", "solver.prototxt", "--gpu", "all"], "one process uses one GPU; start one for each: torchrun"),
        (["--solver", "solver.prototxt", "--gpu", "x"], "give the number of a GPU"),
        pytest.param(["--solver", "solver.prototxt", "--gpu", "0"], "there is no GPU that PyTorch can use",
                     marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")),
    ])
    def test_a_mistake_is_one_line_of_the_log(self, run, options, words):
        Path("deploy.prototxt").write_text(
            'name: "deployed" input: "x" input_shape { dim: 2 dim: 3 } '
            'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 3 } }')
        Path("deploy_solver.prototxt").write_text('net: "deploy.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 1')
        code, lines = run("train", *options)
        assert code == 1
        assert lines[-1].startswith("F")
        assert words in messages(lines)[-1]

    def test_weights_and_snapshot_exclude_each_other(self, run):
        with pytest.raises(SystemExit):
            run("train", "--solver", "s", "--weights", "a", "--snapshot", "b")

    def test_stages_and_levels_go_to_the_training_net(self, run):
        net = Path("net.prototxt").read_text().replace(
            'layer { name: "drop"', 'layer { name: "sig" type: "Sigmoid" bottom: "conv" top: "conv" '
            'include { stage: "b" min_level: 2 } }\nlayer { name: "drop"')
        Path("net.prototxt").write_text(net)
        Path("solver.prototxt").write_text(Path("solver.prototxt").read_text() + " debug_info: true")
        _, without = run("train", "--solver", "solver.prototxt")
        assert "Layer sig" not in "\n".join(without)
        _, lines = run("train", "--solver", "solver.prototxt", "-stage", "a,b", "-level", "2")
        assert "Layer sig" in "\n".join(lines)

    def test_log_dir(self, run):
        event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        import cv2

        assert run("train", "--solver", "solver.prototxt", "--log-dir", "curves")[0] == 0
        log = event_accumulator.EventAccumulator("curves").Reload()
        assert set(log.Tags()["scalars"]) == {"train/loss", "train/lr", "test0/loss"}
        assert [event.step for event in log.Scalars("test0/loss")] == [0, 2, 4]
        assert cv2.imread("curves/curves.png").shape[1] == 800

    def test_log_dir_without_tensorboard(self, run, monkeypatch):
        for name in ("tensorboard", "tensorboard.backend.event_processing.event_accumulator"):
            monkeypatch.setitem(sys.modules, name, None)
        code, lines = run("train", "--solver", "solver.prototxt", "--log-dir", "curves")
        assert code == 1
        assert "--log-dir needs tensorboard; pip install 'rmpe-legacy[train]'" in messages(lines)[-1]

    def test_bad_records(self, run):
        from training import raw_datum, write_lmdb

        write_lmdb(Path("bad_lmdb"), [raw_datum(0), b"\x22\xff\xff", raw_datum(2)])
        net = Path("net.prototxt")
        net.write_text(net.read_text().replace("train_lmdb", "bad_lmdb"))
        code, lines = run("train", "--solver", "solver.prototxt")
        assert code == 1
        assert "bad_lmdb: record 00000001" in messages(lines)[-1]
        code, lines = run("train", "--solver", "solver.prototxt", "--skip-bad-records", "--no-prefetch")
        assert code == 0
        assert any(line.startswith("W") and "Skipping a record: bad_lmdb: record 00000001" in line for line in lines)


@pytest.mark.parametrize(("number", "options", "ends", "snapshots"), [
    (signal.SIGINT, [], True, 1), (signal.SIGINT, ["--sigint_effect", "snapshot"], False, 1),
    (signal.SIGHUP, [], False, 1), (signal.SIGHUP, ["--sighup_effect", "none"], False, 0)])
def test_signals(tmp_path, number, options, ends, snapshots):
    write_run(tmp_path, "max_iter: 1000000")
    process = subprocess.Popen(
        [sys.executable, "-m", "rmpe_legacy", "train", "--solver", "solver.prototxt", *options], cwd=tmp_path,
        stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    lines, sent, until = [], False, None
    for line in process.stderr:
        lines.append(line)
        if not sent and "Iteration 3, loss" in line:
            process.send_signal(number)
            sent, until = True, time.monotonic() + 1
        if until and time.monotonic() > until and not ends:
            process.kill()
    process.stderr.close()
    code = process.wait()
    assert len(list(tmp_path.glob("*.solverstate"))) == snapshots
    assert (code == 0) == ends
    assert ("Optimization stopped early." in "".join(lines)) == ends


class TestTest:
    def test_means_of_the_outputs(self, run):
        run("train", "--solver", "solver.prototxt")
        torch.manual_seed(9)  # the net mirrors at random, in phase TEST too
        code, lines = run("test", "-model", "net.prototxt", "-weights", "snap_iter_4.caffemodel", "-iterations", "3")
        assert code == 0
        said = messages(lines)
        assert said[:2] == ["Use CPU.", "Running for 3 iterations."]
        losses = [float(re.fullmatch(r"Batch \d, loss = (\S+)", line)[1]) for line in said[2:5]]
        assert float(said[5].removeprefix("Loss: ")) == pytest.approx(sum(losses) / 3, rel=1e-5)
        assert said[6] == f"loss = {said[5].removeprefix('Loss: ')} (* 1 = {said[5].removeprefix('Loss: ')} loss)"
        torch.manual_seed(9)
        net = load_net("net.prototxt", "snap_iter_4.caffemodel")
        with torch.no_grad():
            assert losses == pytest.approx([float(net()["loss"]) for _ in range(3)], rel=1e-5)

    def test_needs_its_files(self, run):
        code, lines = run("test", "--model", "net.prototxt", "--weights", "none.caffemodel")
        assert (code, messages(lines)[-1]) == (1, "none.caffemodel: No such file or directory")


class TestTime:
    def test_each_layer_and_a_trace(self, run):
        code, lines = run("time", "-model", "net.prototxt", "-iterations", "4", "--trace", "trace.json")
        assert code == 0
        said = messages(lines)
        for layer in ("data", "conv", "bn", "relu", "drop", "ip", "loss"):
            assert any(re.fullmatch(rf" *{layer}\tforward: \S+ ms\.", line) for line in said)
            assert any(re.fullmatch(rf" *{layer}\tbackward: \S+ ms\.", line) for line in said)
        number = {name: float(re.search(rf"{name}: (\S+) ms", "\n".join(said))[1]) for name in (
            "Average Forward pass", "Average Backward pass", "Average Forward-Backward", "Total Time")}
        assert number["Total Time"] == pytest.approx(4 * number["Average Forward-Backward"], rel=1e-4)
        events = json.loads(Path("trace.json").read_text())["traceEvents"]
        assert len(events) == 4 * 2 * 7
        for before, after in pairwise(events):
            assert before["ts"] + before["dur"] <= after["ts"]
        assert sum(event["dur"] for event in events) <= number["Total Time"] * 1e3

    def test_gradients_are_those_of_one_backward_and_blobs_are_freed(self, tmp_path):
        file = tmp_path / "net.prototxt"
        file.write_text(BRANCHES)
        net, last, seen = load_net(file, phase="TRAIN"), {}, []
        net()
        net.loss().backward()
        expected = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
        loss, timer = float(net.loss().detach()), Timer(net, backward=True)
        for step in net.steps:
            step.layer.register_forward_hook(lambda layer, _, tops: last.update({layer.spec.name: weakref.ref(
                tops if isinstance(tops, torch.Tensor) else tops[0])}))
        net.steps[-1].layer.register_forward_hook(lambda *_: seen.append(last["conv"]()))
        assert timer.warm_up() == loss
        assert seen == [None]  # ReLU's backward needs its own top, not the convolution's
        assert len(expected) == 4
        assert all(float(value.abs().sum()) > 0 for value in expected.values())
        for name, parameter in net.named_parameters():
            assert torch.equal(parameter.grad, expected[name]), name

    def test_without_backward(self, run):
        code, lines = run("time", "--model", "net.prototxt", "--iterations", "2", "--no-backward", "--phase", "TEST")
        assert code == 0
        assert "backward:" not in "\n".join(lines)
