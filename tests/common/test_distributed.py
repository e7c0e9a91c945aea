"""A run's processes, with torch.distributed played by functions: what each process gets, and what a lost peer says."""

import signal

import pytest
import torch
import torch.distributed as dist

from rmpe_legacy import distributed
from rmpe_legacy.distributed import World, join_world
from rmpe_legacy.errors import RmpeError


def test_one_process_needs_no_torchrun(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_world() as world:
        assert world == World(0, 1, 0)
    values = [torch.tensor([1.0, 2.0])]
    world.wait()
    world.mean(values)
    world.copy_from_first(values)
    assert values[0].tolist() == [1, 2]
    assert (world.first, world.largest(7), world.gather("x"), world.share("abc")) == (True, 7, ["x"], "abc")
    assert world.device("cuda") == "cuda"


def test_shares_interleave_and_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    worlds = [World(rank, 3, rank) for rank in range(3)]
    assert [world.share([0, 1, 2, 3, 4]) for world in worlds] == [[0, 3], [1, 4], [2]]
    assert [world.device("cuda") for world in worlds] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [world.device("cpu") for world in worlds] == ["cpu"] * 3
    assert [world.first for world in worlds] == [True, False, False]


def test_tensors_are_exchanged_in_one_message(monkeypatch: pytest.MonkeyPatch):
    messages: list[list[float]] = []

    def all_reduce(flat: torch.Tensor, op: object = None) -> None:
        messages.append(flat.tolist())
        if op is dist.ReduceOp.MAX:
            flat.fill_(9)
        else:
            flat += torch.arange(flat.numel())  # the other process has 0, 1, 2, ...

    def broadcast(flat: torch.Tensor, source: int) -> None:
        assert source == 0
        flat.copy_(torch.arange(float(flat.numel())))

    def all_gather_object(items: list, item: object) -> None:
        items[:] = ["first", item]

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    monkeypatch.setattr(dist, "broadcast", broadcast)
    monkeypatch.setattr(dist, "all_gather_object", all_gather_object)
    world = World(1, 2, 1)
    a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([5.0])
    world.mean([a, b])
    assert messages == [[1, 2, 3, 4, 5]]
    assert (a.tolist(), b.tolist()) == ([[0.5, 1.5], [2.5, 3.5]], [4.5])
    world.copy_from_first([a, b])
    assert (a.tolist(), b.tolist()) == ([[0, 1], [2, 3]], [4])
    assert world.largest(4) == 9
    assert world.gather("second") == ["first", "second"]
    world.mean([])
    world.copy_from_first([])


def test_a_peer_that_stopped_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def lost(*arguments: object) -> None:
        raise RuntimeError("Connection closed by peer")

    world = World(0, 2)
    for name in ("barrier", "all_reduce", "broadcast", "all_gather_object"):
        monkeypatch.setattr(dist, name, lost)
    before = torch.tensor([1.0])
    for call in (world.wait, lambda: world.mean([before]), lambda: world.copy_from_first([before]),
                 lambda: world.largest(1), lambda: world.gather(1)):
        with pytest.raises(RmpeError, match="another process of this run has stopped; its own message says why"):
            call()
    assert before.tolist() == [1]


def test_a_sigterm_is_one_sentence_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    try:
        with distributed._last_words():
            pass
        assert signal.getsignal(signal.SIGTERM) is before
        with pytest.raises(RmpeError, match="another process of this run has stopped"), distributed._last_words():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN  # a second one must not interrupt the last message
    finally:
        signal.signal(signal.SIGTERM, before)
