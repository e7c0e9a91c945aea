"""The engine "auto": the fastest that gives the network's results, measured once and remembered."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from engine_networks import everything

from rmpe_legacy.caffe.net import Net
from rmpe_legacy.engines import EXACT, auto, turns
from rmpe_legacy.engines.base import Job
from rmpe_legacy.errors import NetError


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Net:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return everything(tmp_path)


def cached(folder: Path) -> list[Path]:
    return sorted((folder / "cache").rglob("*.json"))


def times(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> list[str]:
    """Let each engine seem to take so long; returns a list that fills with the networks measured."""
    measured: list[str] = []

    def measure(job):
        measured.append(job.net.name)
        return {"exact": 3.0, **seconds}, {}

    monkeypatch.setattr(auto, "measure", measure)
    return measured


def test_the_fastest_is_taken_and_remembered(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    measured = times(monkeypatch, torch=2.0, onnxruntime=1.0)
    assert net.compiled("auto").engine == "onnxruntime"
    assert net.compiled("auto").engine == "onnxruntime"
    assert measured == ["everything"]
    assert json.loads(cached(tmp_path)[0].read_text()) == {
        "order": ["onnxruntime", "torch", "exact"],
        "milliseconds": {"onnxruntime": 1000.0, "torch": 2000.0, "exact": 3000.0}}


def test_exact_is_taken_where_it_is_the_fastest(net: Net, monkeypatch: pytest.MonkeyPatch):
    times(monkeypatch, torch=4.0)
    compiled = net.compiled("auto")
    assert (compiled.engine, compiled.proof) == (EXACT, None)
    x = torch.randn(2, 3, 17, 13)
    with torch.no_grad():
        assert all(torch.equal(value, net(x)[name]) for name, value in compiled(x).items())


def test_another_size_is_measured_anew(net: Net, monkeypatch: pytest.MonkeyPatch):
    measured = times(monkeypatch, torch=2.0)
    net.compiled("auto")
    batch = dict(net.inputs)
    net.inputs = {"data": (4, *batch["data"][1:])}
    net.compiled("auto")
    assert measured == ["everything"] * 2


def test_another_number_of_images_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """1 to 3 images are one class, 4 to 15 the next. An engine that other batches use is not prepared again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    net = everything(tmp_path)
    batches: list[int] = []

    def measure(job):
        batches.append(job.net.inputs["data"][0])
        return {"exact": 3.0, "onnxruntime" if batches[-1] in (5, 70) else "torch": 2.0}, {}

    monkeypatch.setattr(auto, "measure", measure)
    compiled = net.compiled("auto")
    chosen = {}
    for batch in (1, 3, 2, 5, 15, 4, 16, 3, 70):
        x = torch.randn(batch, 3, 17, 13)
        with torch.no_grad():
            for name, value in net(x).items():
                torch.testing.assert_close(compiled(x)[name], value, rtol=0, atol=1e-4)
        chosen[batch] = compiled.prepared
    assert batches == [2, 5, 16, 70]
    assert [chosen[batch].engine.name for batch in (1, 5, 16, 70)] == ["torch", "onnxruntime", "torch", "onnxruntime"]
    assert chosen[1] is chosen[2] is chosen[3] is chosen[16]
    assert chosen[4] is chosen[5] is chosen[15] is chosen[70]


def test_a_settled_network_stays_with_its_engine(net: Net, monkeypatch: pytest.MonkeyPatch):
    measured = times(monkeypatch, torch=2.0)
    compiled = net.compiled("auto")
    assert compiled.settle() == "torch"
    ready = compiled.prepared
    times(monkeypatch, onnxruntime=2.0)
    for batch in (2, 5, 16):
        compiled(torch.randn(batch, 3, 17, 13))
        assert compiled.prepared is ready
    assert measured == ["everything"]
    assert (compiled.engine, compiled.settle()) == ("torch", "torch")


def test_a_refused_engine_gives_way_to_the_next(net: Net, monkeypatch: pytest.MonkeyPatch):
    times(monkeypatch, torch=2.0, onnxruntime=1.0)

    def refuse(job):
        raise NetError("cannot")

    entries = dict(auto.ENGINES) | {"onnxruntime": refuse}
    monkeypatch.setattr(auto.ENGINES, "_entries", entries)
    compiled = net.compiled("auto")
    assert compiled.engine == "torch"
    assert compiled.prepared.refused == {"onnxruntime": "cannot"}


@pytest.mark.parametrize(("turn", "runs"), [(1e-12, 1), (1e9, turns.MAX_RUNS)], ids=["a slow one", "a fast one"])
def test_how_often_an_engine_runs_in_its_turn(turn: float, runs: int, net: Net, monkeypatch: pytest.MonkeyPatch):
    """A single run of a small network would be all noise."""
    counted: list[int] = []

    class Counting:
        def run(self, inputs):
            counted.append(1)
            return {}

    monkeypatch.setattr(turns, "TURN_SECONDS", turn)
    monkeypatch.setattr(auto, "ENGINES", {EXACT: lambda job: Counting()})
    times, refused = auto.measure(Job(net, net.outputs))
    assert list(times) == [EXACT]
    assert times[EXACT] > 0
    assert refused == {}
    assert len(counted) == 2 + turns.ROUNDS * (1 + runs)  # one in each turn does not count


def test_a_slow_engine_gets_few_turns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(turns, "TURN_SECONDS", 1e-12)  # each counts as slow
    counted = {"fast": 0, "slow": 0}

    def run(name: str, seconds: float) -> dict[str, torch.Tensor]:
        counted[name] += 1
        time.sleep(seconds)
        return {}

    times = turns.time_in_turns({"fast": partial(run, "fast", 0.001), "slow": partial(run, "slow", 0.05)})
    assert times["slow"] >= 0.05
    assert times["fast"] < 0.05
    assert counted == {"fast": 1 + 2 * turns.ROUNDS, "slow": 1}


def test_engines_whose_runs_take_long_get_a_second_turn_if_they_are_close(monkeypatch: pytest.MonkeyPatch):
    """The first turn of a run of seconds may be half as long again as all others."""
    monkeypatch.setattr(turns, "MAX_SECONDS", 0)
    monkeypatch.setattr(turns, "SHORT", 0)
    took = {"first slow": [0.16, 0.1], "even": [0.13, 0.13], "slow": [0.3]}

    def run(name: str) -> dict[str, torch.Tensor]:
        time.sleep(took[name].pop(0))
        return {}

    times = turns.time_in_turns({name: partial(run, name) for name in took})
    assert min(times, key=times.__getitem__) == "first slow"
    assert not any(took.values())


DAMAGED = {
    "empty": "", "half": "{", "a list": "[]", "a number": "7", "no list": '{"order": 7}',
    "no exact": '{"order": ["torch"]}', "no name": '{"order": ["exact", []]}', "twice": '{"order": ["exact", "exact"]}',
    "unknown": '{"order": ["exact", "rm -rf"]}', "never measured": '{"order": ["exact", "inductor"]}',
    "no UTF-8": "\xff", "large": '{"order": "' + "x" * 70000 + '"}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_or_hostile_cache_is_measured_anew(content: str, net: Net, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch):
    measured = times(monkeypatch, torch=2.0)
    net.compiled("auto")
    cached(tmp_path)[0].write_text(content, encoding="latin-1")
    assert net.compiled("auto").engine == "torch"
    assert len(measured) == 2
    assert json.loads(cached(tmp_path)[0].read_text())["order"] == ["torch", "exact"]


def test_a_cache_that_cannot_be_written_costs_only_time(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cache").write_text("in the way")
    measured = times(monkeypatch, torch=2.0)
    assert [net.compiled("auto").engine for _ in range(2)] == ["torch"] * 2
    assert len(measured) == 2


@pytest.mark.parametrize("home", ["x" * 300, "~"])
def test_a_home_that_cannot_be_looked_at_or_is_not_there_costs_only_time(home: str, net: Net, tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch):
    """As in a container whose user is not the one that its image was made for."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / home))
    if home == "~":
        monkeypatch.setattr(Path, "expanduser", lambda self: (_ for _ in ()).throw(RuntimeError("no home")))
    measured = times(monkeypatch, onnxruntime=1.0)
    for _ in range(2):
        assert auto.rank(Job(net, None)) == (["onnxruntime", "exact"], {})
    assert len(measured) == 2


def test_what_is_really_measured(net: Net, tmp_path: Path):
    compiled = net.compiled("auto")
    stored = json.loads(cached(tmp_path)[0].read_text())
    assert stored["order"][0] == compiled.engine or compiled.prepared.refused
    assert {"torch", EXACT} <= set(stored["order"])
    assert "inductor" not in stored["order"]
    assert all(stored["milliseconds"][name] > 0 for name in stored["order"])
