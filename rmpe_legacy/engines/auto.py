"""``auto``: the engines in order of their time, measured once for a network, its input sizes and this machine.

The order is remembered in ``engines/`` in the package's folder of the user's cache ($XDG_CACHE_HOME, ~/.cache). It may
be deleted at any time; a file that cannot be read is measured anew. Nothing in it is trusted beyond names of engines.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import rmpe_legacy
from rmpe_legacy.compare.content_hash import layers_hash
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.files import make_folder, whole_file
from rmpe_legacy.readers.json_file import read_json

from .base import ENGINES, EXACT, Engine, Job
from .passes import PASSES
from .proof import proof_inputs, unchanged
from .turns import time_in_turns

NOT_MEASURED = ("inductor",)  # its preparation takes a minute or more; ask for it by name
_MAX_FILE = 1 << 16


def rank(job: Job) -> tuple[list[str], dict[str, str]]:
    """Return the engines from the fastest to the slowest, and why others cannot run the network: name -> reason.

    "exact" is always among the first.
    """
    folder = _cache_folder()
    path = folder and folder / f"{_key(job)}.json"
    if path is not None and (known := _read(path)) is not None:
        return known, {}
    times, refused = measure(job)
    order = sorted(times, key=times.__getitem__)
    if path is not None:
        with suppress(FileError):  # a cache that cannot be written only costs time
            make_folder(path.parent)
            with whole_file(path, "w") as file:
                json.dump({"order": order, "milliseconds": {name: round(times[name] * 1e3, 3) for name in order}}, file)
    return order, refused


def measure(job: Job) -> tuple[dict[str, float], dict[str, str]]:
    """Time each engine on the job's inputs: name -> seconds of a run; and why others cannot run the network."""
    engines: dict[str, Engine] = {}
    refused: dict[str, str] = {}
    _, values = next(iter(proof_inputs(job.net.inputs, any_batch=False)))
    inputs = job.net.bind(None, {name: torch.from_numpy(value) for name, value in values.items()})
    with unchanged(job.net):
        for name in ENGINES:
            if name in NOT_MEASURED:
                continue
            try:
                engines[name] = ENGINES[name](job)
                engines[name].run(inputs)
            except RmpeError as error:
                if name == EXACT:
                    raise
                engines.pop(name, None)
                refused[name] = str(error)
        return time_in_turns({name: partial(engine.run, inputs) for name, engine in engines.items()}), refused


def _read(path: Path) -> list[str] | None:
    """Return a remembered order; None if there is none, or not one that can be used."""
    try:
        order: Any = read_json(path, _MAX_FILE)["order"]
    except (FileError, KeyError, TypeError, IndexError):
        return None
    names = [name for name in ENGINES if name not in NOT_MEASURED]
    fits = isinstance(order, list) and len(order) == len(set(map(str, order))) and all(name in names for name in order)
    return order if fits and EXACT in order else None


def _cache_folder() -> Path | None:
    """Return the folder of remembered orders; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        home = Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()
    except RuntimeError:
        return None
    return home / "rmpe_legacy" / "engines"


def _key(job: Job) -> str:
    """Return a hash of all that the times depend on, apart from the values of weights and inputs."""
    device = next((value.device for value in job.net.parameters()), torch.device("cpu"))
    facts = {
        "network": layers_hash(step.layer.spec.message for step in job.net.steps),
        "inputs": {name: list(shape) for name, shape in job.net.inputs.items()},
        "blobs": job.blobs, "passes": [name for name in PASSES if name not in job.without],
        "machine": [platform.machine(), platform.system(), torch.backends.cpu.get_cpu_capability(), os.cpu_count(),
                    torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"],
        "threads": torch.get_num_threads(),
        "versions": [rmpe_legacy.__version__, *map(_version, ("torch", "onnxruntime", "openvino"))],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
