"""Weights as .safetensors with the network as .json beside them (see network_json.py)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rmpe_legacy.caffe.weights import read_trained, write_safetensors

from .base import Format, NetRunner, Network, Setting, SourceOptions, Writer, refuse_setting
from .caffemodel import parse_with_inputs
from .network_json import load_converted, network_json, read_json_network


def is_converted(path: Path) -> bool:
    """Return whether ``rmpe convert`` wrote this .json, or this .safetensors with its .json: a whole network."""
    return path.suffix == ".json" or (path.suffix == ".safetensors" and os.path.exists(path.with_suffix(".json")))


def _read(sources: Sequence[Path], setting: Setting, options: SourceOptions, to_run: bool) -> Network:
    path = sources[0]
    refuse_setting(path, setting, "a network that rmpe convert wrote")
    parsed, weights, setting = read_json_network(path, setting.allow_python)
    parsed, notes = parse_with_inputs(parsed.message, setting, options, to_run, path.name)
    trained = None if weights is None else read_trained(weights, parsed.specs)
    return Network(path.name, path.stem, parsed, setting, trained, None, notes=notes)


def _run(path: Path, title: str, setting: Setting, options: SourceOptions) -> NetRunner:
    return NetRunner(load_converted(path, allow_python=bool(setting.allow_python)), title)


def _prepare(network: Network, files: Sequence[Path]) -> Writer:
    layers, weights = network.layers, network.weights
    text = network_json(network.message, network.setting, files[0].name)

    def write(paths: list[Path]) -> None:
        write_safetensors(paths[0], layers, weights)
        paths[1].write_text(text, "utf-8")

    return Writer(write)


def _marks(files: Sequence[Path]) -> Mapping[Path, tuple[Path, str]]:
    mark = f'"weights": {json.dumps(files[0].name, ensure_ascii=False)}'
    return dict.fromkeys(files, (files[1], mark))


SAFETENSORS = Format("safetensors, and the network as .json", (".safetensors", ".json"), is_converted, _read, _run,
                     _prepare, marks=_marks)
