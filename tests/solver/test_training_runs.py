"""Runs of training as wholes: killed and resumed, read ahead, with bad data, and with a loss that is NaN."""

import copy
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from data_layers import LAYERS, write_sources
from training import NET, SOLVER, raw_datum, write_run

from rmpe_legacy import Solver
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.solver import solver as solver_module
from rmpe_legacy.caffe.solver.run_state import capture, data_layers
from rmpe_legacy.errors import RmpeError

ITERATIONS = 60
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*options: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "rmpe_legacy", "train", "--solver", "solver.prototxt", *options],
                            stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def loss_lines(log: str) -> dict[int, str]:
    return {int(i): loss for i, loss in re.findall(r"Iteration (\d+), loss = (\S+)", log)}


def results(folder: Path) -> tuple[bytes, bytes, dict]:
    """The last snapshot, without the random numbers of Python and numpy, which nobody seeds."""
    weights, state, run = (folder / f"snap_iter_{ITERATIONS}.{end}" for end in (
        "caffemodel", "solverstate", "runstate"))
    run_state = json.loads(run.read_text())
    for process in run_state["processes"]:
        del process["python"], process["numpy"]
    return weights.read_bytes(), state.read_bytes(), run_state


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(here):
    write_run(here, f"max_iter: {ITERATIONS} snapshot: 2")
    process = start()
    whole = loss_lines(process.communicate()[1])
    assert process.returncode == 0
    want = results(here)
    for path in here.glob("snap_*"):
        path.unlink()

    dice, kills, resumed = random.Random(8), 0, {}
    for _ in range(40):
        states = sorted(here.glob("*.solverstate"), key=lambda p: int(re.search(r"iter_(\d+)", p.name)[1]))
        process = start(*(["--snapshot", states[-1].name] if states else []))
        seen = []
        kill_at = dice.randrange(5, 50) if kills < 3 else None
        for line in process.stderr:
            seen.append(line)
            if len(seen) == kill_at:
                process.send_signal(signal.SIGKILL)
                kills += 1
        process.stderr.close()
        resumed |= loss_lines("".join(line for line in seen if line.endswith("\n")))
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert kills == 3
    assert results(here) == want
    assert resumed == whole
    assert not list(here.glob(".rmpe*"))  # what a killed process left is swept up


@pytest.fixture
def solver(here):
    def make(text: str = "max_iter: 20", **options) -> Solver:
        if not (here / "train_lmdb").exists():
            write_run(here, text)
        return Solver("solver.prototxt", **options)

    return make


def parameters(solver: Solver) -> list[np.ndarray]:
    return [p.value.detach().numpy().copy() for p in solver.parameters]


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


class TestPrefetch:
    def test_gives_the_same_bits_as_without(self, solver):
        runs = []
        for prefetch in (0, 1, 5):
            one = solver(prefetch=prefetch)
            one.step(12)
            runs.append((parameters(one), capture([one.net], one.device)))
        assert equal(runs[0][0], runs[1][0])
        assert equal(runs[0][0], runs[2][0])
        assert runs[0][1]["layers"] == runs[1][1]["layers"] == runs[2][1]["layers"]

    def test_is_ahead(self, solver):
        one = solver(prefetch=3)
        one.step(1)
        [layer] = data_layers(one.net)
        for _ in range(500):
            if layer.read_position()["record"]["taken"] >= 4 * 5:
                break
            layer._ahead._thread.join(0.01)
        assert layer.read_position()["record"]["taken"] >= 4 * 5
        assert layer.position()["record"]["taken"] == 5

    def test_an_error_comes_where_its_batch_would(self, here):
        write_run(here, "max_iter: 9", values=[*map(raw_datum, range(12)), b"\x22\xff\xff"])
        one = Solver("solver.prototxt", prefetch=3)
        one.step(2)
        with pytest.raises(RmpeError, match="train_lmdb: record 00000012"):
            one.step(1)

    def test_a_copy_of_the_network_reads_the_same_batches(self, solver):
        one = solver(prefetch=3)
        one.step(2)
        other = copy.deepcopy(one.net)
        for _ in range(3):
            one.net()
            other.eval()
            other()
            assert one.net.last_inputs["data"].equal(other.last_inputs["data"])

    def test_the_thread_ends_with_its_network(self, solver):
        one = solver(prefetch=3)
        one.step(1)
        thread = data_layers(one.net)[0]._ahead._thread
        one.net = None
        del one
        import gc

        gc.collect()
        thread.join(10)
        assert not thread.is_alive()


class TestRunState:
    def test_without_it_data_begins_at_its_first_record(self, solver, caplog):
        one = solver()
        one.step(3)
        _, state = one.snapshot()
        Path("snap_iter_3.runstate").unlink()
        with caplog.at_level(logging.INFO):
            two = solver()
            two.restore(state)
        assert "No run state snap_iter_3.runstate: as in Caffe, the data and the random numbers start" in caplog.text
        two.net()
        assert two.net.last_inputs["label"].tolist() == [0, 1, 2, 3, 0]

    @pytest.mark.parametrize(("change", "words"), [
        (lambda text: "{}", "is damaged, or not a run state; delete it"),
        (lambda text: text[:100], "snap_iter_3.runstate: not a readable JSON file"),
        (lambda text: text.replace('"iteration": 3', '"iteration": 4'), "to iteration 4, but the solver state .* to 3"),
        (lambda text: text.replace('"words": "', '"words": "AAAA'), r"data \(Data\): .* is damaged"),
        (lambda text: re.sub(r'"torch": "[^"]*"', '"torch": "AAAA"', text), "is damaged, or not a run state"),
        (lambda text: text.replace('[["data"', '[["other"'), "belongs to networks with other data layers"),
        (lambda text: re.sub(r'"key": "\w+"', '"key": "7a7a"', text), "train_lmdb: has no record zz"),
    ])
    def test_a_damaged_one_is_a_sentence(self, solver, change, words):
        one = solver()
        one.step(3)
        _, state = one.snapshot()
        beside = Path("snap_iter_3.runstate")
        beside.write_text(change(beside.read_text()))
        with pytest.raises(RmpeError, match=words):
            solver().restore(state)

    def test_a_snapshot_while_testing_resumes_before_the_test(self, here):
        write_run(here, "max_iter: 6 test_iter: 2 test_interval: 3")
        asked = count()
        one = Solver("solver.prototxt", action=lambda: "snapshot" if next(asked) == 6 else "none")
        one.solve()  # asked in tests before iterations 0 and 3, and after each iteration
        assert Path("snap_iter_3.solverstate").exists()
        two = Solver("solver.prototxt")
        two.restore("snap_iter_3.solverstate")
        two.solve()
        assert equal(parameters(one), parameters(two))


@pytest.mark.parametrize("kind", LAYERS)
def test_every_data_layer_goes_on_where_it_was(here, kind):
    from rmpe_legacy import load_net

    write_sources(here)
    Path("one.prototxt").write_text(LAYERS[kind])

    def layer():
        torch.manual_seed(3)
        return load_net("one.prototxt", phase="TRAIN").steps[0].layer

    one = layer()
    one.read_ahead = 2
    for _ in range(4):
        one()
    position = one.position()
    want = [one() for _ in range(4)]
    two = layer()
    two.seek(position)
    for tops in want:
        assert all(a.equal(b) for a, b in zip(tops, two(), strict=True))
    three = layer()
    with pytest.raises(RmpeError, match=rf"data \({kind}\): .* belongs to another layer, or is damaged"):
        three.seek({})


class TestBadRecords:
    VALUES = (*map(raw_datum, range(7)), b"\x22\xff\xff", *map(raw_datum, range(8, 12)))

    def test_stop_the_run_by_name(self, here):
        write_run(here, "max_iter: 9", values=self.VALUES)
        with pytest.raises(RmpeError, match=r"data \(Data\): train_lmdb: record 00000007"):
            Solver("solver.prototxt").solve()

    def test_are_skipped_if_asked_for(self, here, caplog):
        write_run(here, "max_iter: 9", values=self.VALUES)
        one = Solver("solver.prototxt", skip_bad_records=True)
        one.step(2)
        assert one.net.last_inputs["label"].tolist() == [1, 2, 0, 1, 2]  # 5, 6, 8, 9, 10
        assert "Skipping a record: train_lmdb: record 00000007" in caplog.text

    def test_all_of_them_end_the_run(self, here):
        write_run(here, "max_iter: 9", values=self.VALUES)
        one = Solver("solver.prototxt", skip_bad_records=True, prefetch=0)
        layer = data_layers(one.net)[0]

        def refuse(*_):
            raise RmpeError("cannot be read")

        layer.transformer.apply = refuse
        with pytest.raises(RmpeError, match="cannot be read"):
            one.step(1)

    def test_of_a_list_of_images(self, here, caplog):
        from rmpe_legacy import load_net

        write_sources(here)
        Path("03.png").write_bytes(b"no image")
        Path("one.prototxt").write_text(LAYERS["ImageData"].replace("shuffle: true", ""))
        layer = load_net("one.prototxt", phase="TRAIN").steps[0].layer
        layer.skip_bad_records = True
        assert [layer()[1].tolist() for _ in range(3)] == [[0, 1, 2], [4, 5, 6], [0, 1, 2]]
        assert "03.png" in caplog.text


class TestNaN:
    def test_differs_in_stopping_and_names_the_first_layer(self, solver):
        one = solver()
        one.step(1)
        one.snapshot()
        with torch.no_grad():
            one.net.params["ip"][0][0, 0] = float("nan")
        with pytest.raises(RmpeError, match=r"iteration 1: the loss is NaN; the first layer with NaN is ip "
                                            r"\(InnerProduct\), in its parameters; the last snapshot is "
                                            r"snap_iter_1.solverstate; lower base_lr"):
            one.solve()
        assert [path.name for path in Path().glob("*.solverstate")] == ["snap_iter_1.solverstate"]

    def test_of_a_layer_without_parameters(self, here):
        power = ('layer { name: "root" type: "Power" bottom: "ip" top: "root" power_param { power: 0.5 shift: -1000 } }'
                 ).replace("{", "{{").replace("}", "}}")
        net = NET.replace('layer {{ name: "loss"', power + '\nlayer {{ name: "loss"').replace(
            'bottom: "ip" bottom: "label"', 'bottom: "root" bottom: "label"')
        write_run(here, "max_iter: 3", net=net)
        with pytest.raises(RmpeError, match=r"first layer with NaN is root \(Power\), in its top 'root'; there is no "
                                            "snapshot yet"):
            Solver("solver.prototxt").solve()


class TestPlateau:
    """The rule of weiliu89's branch, by hand: a step after `plateau_winsize` iterations without a new minimum."""

    TEXT = 'lr_policy: "plateau" plateau_winsize: 2 plateau_winsize: 3 gamma: 0.1 base_lr: 1 net: "n"'
    LOSSES = (5, 4, 4.5, 4.2, 3, 3.5, 3.4, 3.3, 3.2, 3.1)

    def test_steps(self, here):
        from rmpe_legacy.caffe.solver.learning_rate import LearningRate
        from rmpe_legacy.caffe.solver.parameters import read_solver

        Path("s.prototxt").write_text(self.TEXT)
        rate = LearningRate(read_solver("s.prototxt", "ssd"))
        rates = [float(rate.at(i, loss)) for i, loss in enumerate(self.LOSSES)]
        # minima at 0 and 1, step at 3; minimum at 4, step at 7
        assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])
        assert (rate.current_step, rate.minimum_loss, rate.iter_last_event) == (2, 3, 7)

    @pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
    def test_is_restored(self, here, form):
        text = SOLVER.replace('lr_policy: "step" stepsize: 10', 'lr_policy: "plateau" plateau_winsize: 2')
        write_run(here)
        Path("solver.prototxt").write_text(text + f"max_iter: 12 snapshot: 5 snapshot_format: {form}")
        one = Solver("solver.prototxt", "ssd")
        one.solve()
        two = Solver("solver.prototxt", "ssd")
        two.restore(f"snap_iter_5.solverstate{'.h5' if form == 'HDF5' else ''}")
        assert two.rate.minimum_loss < 10
        two.solve()
        assert equal(parameters(one), parameters(two))
        assert (one.rate.minimum_loss, one.rate.iter_last_event) == (two.rate.minimum_loss, two.rate.iter_last_event)

    def test_is_unknown_in_the_other_dialects(self, here):
        write_run(here)
        Path("solver.prototxt").write_text(SOLVER.replace('"step"', '"plateau"'))
        with pytest.raises(RmpeError, match="lr_policy 'plateau' is not one of exp, fixed, inv, multistep"):
            Solver("solver.prototxt")


def test_a_network_that_is_also_tested_is_read_once(here, monkeypatch):
    write_run(here, "test_iter: 1 test_iter: 1 test_interval: 3")
    asked = []
    read = solver_module.read_message
    monkeypatch.setattr(solver_module, "read_message", lambda path, *a, **k: asked.append(path) or read(path, *a, **k))
    solver = Solver("solver.prototxt")
    assert asked == ["net.prototxt"]
    assert len(solver.test_nets) == 2


class TestDebugInfo:
    def test_lines(self, here, caplog):
        write_run(here, "max_iter: 2 debug_info: true")
        one = Solver("solver.prototxt")
        with caplog.at_level(logging.INFO):
            one.step(1)
        lines = [line.strip() for line in caplog.messages if line.startswith("    [")]
        data = one.net.last_inputs["data"].abs().mean().item()
        assert lines[0] == f"[Forward] Layer data, top blob data data: {data:g}"
        assert "[Forward] Layer ip, param blob 1 data: 0" in lines
        backward = [re.match(r"\[Backward\] Layer (\w+), (\w+) blob (\w+) diff", line) for line in lines]
        assert [found.groups() for found in backward if found] == [
            ("loss", "bottom", "ip"), ("ip", "bottom", "drop"), ("ip", "param", "0"), ("ip", "param", "1"),
            ("drop", "bottom", "conv"), ("relu", "bottom", "conv"), ("bn", "bottom", "conv"),
            ("conv", "param", "0"), ("conv", "param", "1")]
        assert lines[-1].startswith("[Backward] All net params (data, diff): L1 norm = (")
        before = sum((p.value + p.value.grad).abs().sum().item() for p in one.parameters)  # the update taken back
        assert float(re.search(r"L1 norm = \(([^,]+),", lines[-1])[1]) == pytest.approx(before, rel=1e-5)


def test_outputs_that_change_in_number_have_no_mean(here):
    write_run(here, "max_iter: 1 test_iter: 2 test_interval: 1")
    one = Solver("solver.prototxt")
    [net] = one.test_nets
    batches = count(1)

    def cut(_net, _inputs, outputs):
        outputs["loss"] = net.blobs["loss"] = outputs["loss"].new_zeros(next(batches))

    net.register_forward_hook(cut)
    with pytest.raises(RmpeError, match=r"test batch 1 have 2 values, those of the first have 1.*eval_type"):
        one.step(1)


def test_weights_are_copied(here):
    write_run(here, "max_iter: 2")
    one = Solver("solver.prototxt")
    one.step(2)
    weights, _ = one.snapshot()
    two = Solver("solver.prototxt")
    two.copy_trained(read_weights(weights))
    assert equal(parameters(one), parameters(two))


class TestDialects:
    """dialect="auto": the solver's file and the network's are read in the dialects that know them."""

    def test_a_network_of_a_fork_trains(self, tmp_path: Path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        pool = """layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param {{ kernel_size: 2 stride: 2 ceil_mode: false }} }}
"""
        drop = 'layer {{ name: "drop" type: "Dropout" bottom: '
        write_run(tmp_path, net=NET.replace(f'{drop}"conv"', f'{pool}{drop}"pool"'))
        solver = Solver("solver.prototxt")
        solver.step(1)
        assert solver.iter == 1
        with pytest.raises(RmpeError, match="ceil_mode"):
            Solver("solver.prototxt", "bvlc")

    def test_a_policy_of_the_ssd_branch_is_read(self, tmp_path: Path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write_run(tmp_path)
        text = SOLVER.replace('lr_policy: "step" stepsize: 10', 'lr_policy: "plateau" plateau_winsize: 2')
        Path("solver.prototxt").write_text(text)
        assert Solver("solver.prototxt").rate.has_plateau
        with pytest.raises(RmpeError, match="plateau_winsize"):
            Solver("solver.prototxt", "rmpe")
