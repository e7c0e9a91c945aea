"""Which of several ways to run a network is the fastest: they run in alternating turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from torch import Tensor

from .layer_times import wait_for

ROUNDS = 5
TURN_SECONDS, MAX_RUNS = 0.02, 100  # how long and how often one runs in its turn, but at least once
# After a run, the threads of every runtime keep a CPU busy for up to 20 ms while they wait for the next run. So a turn
# begins with a pause, and if runs are short, with one that does not count; else a run took up to four times as long.
PAUSE_SECONDS, SHORT = 0.02, 0.5
MAX_SECONDS = 10.0  # after which no further round begins, except the second
# What takes so many times as long as the fastest gets no further turn, if a run takes a whole turn
TOO_SLOW, TOO_SLOW_WHEN_LATE = 3.0, 1.5

Run = Callable[[], Mapping[str, Tensor]]
Name = TypeVar("Name", bound=Hashable)


def time_in_turns(runs: Mapping[Name, Run], rounds: int = ROUNDS) -> dict[Name, float]:
    """Return the seconds of each run in its best turn, since other programs can only make it slower.

    Each must have run before.

    Args:
        runs: Functions that return the tensors they compute, of any shape.
        rounds: How many turns each has, after one with a single run.
    """
    end = time.monotonic() + MAX_SECONDS
    times = {name: [_turn_of(run)] for name, run in runs.items()}
    counts = {name: min(MAX_RUNS, math.ceil(TURN_SECONDS / max(1e-6, first))) for name, (first,) in times.items()}
    for i in range(rounds):
        is_late = time.monotonic() > end
        if is_late and i > 0:
            break
        limit = (TOO_SLOW_WHEN_LATE if is_late else TOO_SLOW) * min(map(min, times.values()))
        for name, run in runs.items():
            if counts[name] > 1 or min(times[name]) < limit:
                times[name].append(_turn_of(run, counts[name], min(times[name]) < SHORT))
    return {name: min(seconds) for name, seconds in times.items()}


def _turn_of(run: Run, times: int = 1, warm_up: bool = False) -> float:
    """Return the mean seconds of a run."""
    time.sleep(PAUSE_SECONDS)
    if warm_up:
        run()
    return seconds_of(run, times)


def seconds_of(run: Run, times: int = 1) -> float:
    """Return the mean seconds of a run."""
    begin = time.perf_counter()
    for _ in range(times):
        outputs = run()
    wait_for(outputs.values())
    return (time.perf_counter() - begin) / times
