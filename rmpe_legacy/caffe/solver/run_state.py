"""State that an exact continuation needs and a solver state lacks: positions in the data, random numbers, losses.

It is stored next to the .solverstate in a .runstate, a JSON file. Caffe has no such file: after a restore, its data
layers start at the first record.
"""

from __future__ import annotations

import json
import random
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.layers.base_data import BlobLayer
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import FileError
from rmpe_legacy.readers.json_file import read_json

FORMAT = "rmpe_legacy run state 1"


@dataclass(frozen=True)
class RunState:
    """The state of a run at one iteration, in all its processes."""

    iteration: int
    losses: tuple[float, ...]  # that the smoothed loss averages
    smoothed_loss: float
    start: int  # the iteration in which that average began
    processes: tuple[Mapping[str, Any], ...]  # what `capture` gave in each


def path_beside(state: str | PathLike) -> Path:
    """Return the path of the run state beside a solver state: snap_iter_5.solverstate.h5 -> snap_iter_5.runstate."""
    path = Path(state)
    return path.with_name(path.name.removesuffix(".h5").removesuffix(".solverstate") + ".runstate")


def write_run_state(path: str | PathLike, state: RunState) -> None:
    """Write a .runstate."""
    fields = {"format": FORMAT, "iteration": state.iteration, "losses": list(state.losses),
              "smoothed_loss": state.smoothed_loss, "start": state.start, "processes": list(state.processes)}
    Path(path).write_text(json.dumps(fields), encoding="utf-8")


def read_run_state(path: str | PathLike) -> RunState:
    """Read a .runstate.

    Raises:
        FileError: The file cannot be read, or is damaged.
    """
    fields = read_json(path)
    try:
        if fields["format"] != FORMAT:
            raise ValueError
        return RunState(int(fields["iteration"]), tuple(map(float, fields["losses"])), float(fields["smoothed_loss"]),
                        int(fields["start"]), tuple(dict(process) for process in fields["processes"]))
    except (KeyError, TypeError, ValueError):
        raise _damaged(path) from None


def capture(nets: Sequence[Net], device: torch.device) -> dict[str, Any]:
    """Return this process's random state, and the position of each data layer of its networks, as JSON-compatible
    values.
    """
    name, words, at, has_gauss, gauss = np.random.get_state(legacy=True)
    state = {"torch": _packed(torch.get_rng_state()), "python": _as_lists(random.getstate()),
             "numpy": [name, np.asarray(words).tolist(), at, has_gauss, gauss],
             "layers": [[[layer.spec.name, layer.position()] for layer in data_layers(net)] for net in nets]}
    if device.type == "cuda":
        state["cuda"] = _packed(torch.cuda.get_rng_state(device))
    return state


def restore(state: Mapping[str, Any], nets: Sequence[Net], device: torch.device, path: str | PathLike) -> None:
    """Continue from a state that `capture` returned.

    Raises:
        FileError: The state is damaged, or belongs to networks with other data layers.
        RmpeError: A data source has changed.
    """
    try:
        found = [[(str(name), position) for name, position in net] for net in state["layers"]]
        here = [list(data_layers(net)) for net in nets]
        if [[name for name, _ in net] for net in found] != [[layer.spec.name for layer in net] for net in here]:
            raise FileError(f"{path}: belongs to networks with other data layers; delete it to restart their data")
        for layers, positions in zip(here, found, strict=True):
            for layer, (_, position) in zip(layers, positions, strict=True):
                layer.seek(position)
        torch.set_rng_state(_unpacked(state["torch"]))
        if device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(_unpacked(state["cuda"]), device)
        name, words, at, has_gauss, gauss = state["numpy"]
        np.random.set_state((name, np.array(words, np.uint32), at, has_gauss, gauss))
        random.setstate(_as_tuples(state["python"]))
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
        raise _damaged(path) from None


def data_layers(net: Net) -> list[BlobLayer]:
    """The layers of a network that make their tops themselves, in order."""
    return [step.layer for step in net.steps if isinstance(step.layer, BlobLayer)]


def _damaged(path: str | PathLike) -> FileError:
    return FileError(f"{path}: is damaged, or not a run state; delete it to resume as Caffe does, with the data from "
                     "its first record")


def _packed(state: Tensor) -> str:
    return b64encode(state.numpy().tobytes()).decode()


def _unpacked(text: str) -> Tensor:
    return torch.frombuffer(bytearray(b64decode(text, validate=True)), dtype=torch.uint8)


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value
