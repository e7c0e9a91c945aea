"""Solver states: iteration, learning-rate step and history, as .solverstate or .solverstate.h5.

Sources: SGDSolver::SnapshotSolverStateTo{BinaryProto,HDF5} and their Restore (sgd_solver.cpp:246-330) of RMPE@5188c23;
the same of weiliu89/caffe@4817bf8, whose states also hold what the plateau policy needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import h5py
import numpy as np

from rmpe_legacy.caffe.proto.blobs import StoredBlob
from rmpe_legacy.caffe.proto.caffemodel import HDF5_SIGNATURE, blob_from_proto
from rmpe_legacy.caffe.proto.message import Message, Source
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.wire import decode, encode
from rmpe_legacy.errors import FileError
from rmpe_legacy.readers.hdf5 import Dataset, Group, open_hdf5
from rmpe_legacy.reading import cannot_open


@dataclass(frozen=True)
class SolverState:
    """The contents of a solver state file. The weights are in a separate file."""

    iteration: int
    current_step: int
    learned_net: str  # the weights' file, by the path that the solver used; "" if the state names none
    history: tuple[StoredBlob, ...]
    plateau: tuple[float, int] | None = None  # minimum_loss and iter_last_event: dialect "ssd" alone has them


def write_state(path: str | PathLike, state: SolverState) -> None:
    """Write a .solverstate, byte for byte as Caffe's protobuf would."""
    schema = load_schema("rmpe" if state.plateau is None else "ssd")
    blobs = [Message(schema["BlobProto"], {
        "data": blob.data, "shape": Message(schema["BlobShape"], {"dim": list(blob.shape)})}) for blob in state.history]
    fields = {"iter": state.iteration, "learned_net": state.learned_net, "history": blobs,
              "current_step": state.current_step}
    if state.plateau is not None:
        fields |= {"minimum_loss": state.plateau[0], "iter_last_event": state.plateau[1]}
    Path(path).write_bytes(encode(Message(schema["SolverState"], fields)))


def write_state_hdf5(path: str | PathLike, state: SolverState) -> None:
    """Write a .solverstate.h5 with the datasets and groups that Caffe makes."""
    with h5py.File(path, "w") as file:
        file.create_dataset("iter", data=np.array([state.iteration], np.int32))
        text = state.learned_net.encode("utf-8", "surrogateescape")
        file.create_dataset("learned_net", data=np.bytes_(text), dtype=h5py.string_dtype("ascii", len(text) + 1))
        file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        if state.plateau is not None:
            file.create_dataset("iter_last_event", data=np.array([state.plateau[1]], np.int32))
            file.create_dataset("minimum_loss", data=np.array([state.plateau[0]], np.float32))
        group = file.create_group("history")
        for i, blob in enumerate(state.history):
            group.create_dataset(str(i), data=np.reshape(blob.data, blob.shape))


def read_state(path: str | PathLike) -> SolverState:
    """Read a .solverstate or .solverstate.h5.

    Raises:
        FileError: The file cannot be read, is damaged, or is not a solver state.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise cannot_open(path, error) from None
    if data.startswith(HDF5_SIGNATURE):
        return _read_hdf5(path)
    if not data:
        raise FileError(f"{path}: the file is empty")
    message = decode(data, load_schema("ssd")["SolverState"], Source(str(path)))  # which has all that the others have
    if not message.has("iter") or not message.history:
        raise FileError(f"{path}: has no iteration or no history; is this a solver state, rather than the weights?")
    history = tuple(_blob(path, blob) for blob in message.history)
    plateau = (message.minimum_loss, message.iter_last_event) if message.has("minimum_loss") else None
    return SolverState(message.iter, message.current_step, message.learned_net, history, plateau)


def _blob(path: str | PathLike, blob: Message) -> StoredBlob:
    try:
        return blob_from_proto(blob)
    except FileError as error:
        raise FileError(f"{path}: its history: {error}; the file is damaged") from None


def _read_hdf5(path: str | PathLike) -> SolverState:
    root = open_hdf5(path)
    history = root.get("history")
    if not isinstance(history, Group):
        raise FileError(f"{path}: has no group 'history'; is this a solver state?")
    blobs = [_array(path, history, str(i), "f") for i in range(len(history))]
    plateau = None
    if {"minimum_loss", "iter_last_event"} <= set(root):
        plateau = (float(_array(path, root, "minimum_loss", "f").reshape(-1)[0]),
                   int(_array(path, root, "iter_last_event", "iu").reshape(-1)[0]))
    learned = _array(path, root, "learned_net", "S").reshape(-1)[:1] if "learned_net" in list(root) else ()
    return SolverState(
        int(_array(path, root, "iter", "iu").reshape(-1)[0]),
        int(_array(path, root, "current_step", "iu").reshape(-1)[0]),
        b"".join(learned).decode("utf-8", "surrogateescape"),
        tuple(StoredBlob(values.shape, values.reshape(-1)) for values in blobs), plateau)


def _array(path: str | PathLike, group: Group, name: str, kinds: str) -> np.ndarray:
    """A dataset's values; FileError if there is no such dataset, or none of these kinds."""
    found = group.get(name)
    if not isinstance(found, Dataset):
        raise FileError(f"{path}: has no dataset {group.name.rstrip('/')}/{name}; is this a solver state?")
    values = found.read(kinds)
    if not values.size:
        raise FileError(f"{path}: its dataset {name!r} is empty; the file is damaged")
    return values
