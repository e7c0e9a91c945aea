"""Caffe's own files: a prototxt, and weights as .caffemodel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rmpe_legacy.caffe.load import ParsedNet, net_state, parse_net, read_message
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.text_writer import format_text
from rmpe_legacy.caffe.proto.upgrade import upgrade_net
from rmpe_legacy.caffe.spec import layer_specs
from rmpe_legacy.caffe.unknown import list_findings
from rmpe_legacy.caffe.weights import read_trained
from rmpe_legacy.export.deploy import with_inputs, without_files

from .base import Format, Network, Setting, SourceOptions, Writer

PROTOTXT_MARK = "# Written by rmpe convert."


def read_caffe(sources: Sequence[Path], setting: Setting, options: SourceOptions, to_run: bool) -> Network:
    """Read a prototxt, and weights in any format if they are given."""
    first, title = sources[0], " and ".join(source.name for source in sources)
    reading = read_message(first, setting.phase, setting.level, setting.stages, setting.dialect, not options.lenient)
    message, setting = reading.message, replace(setting, dialect=reading.dialect)
    parsed, notes = parse_with_inputs(message, setting, options, to_run, title)
    trained = None if len(sources) == 1 else read_trained(sources[1], parsed.specs)
    stem = sources[-1].name.removesuffix(".h5").removesuffix(sources[-1].suffix)
    is_changed = parsed.message is not message and bool(notes or options.input_shapes)
    return Network(title, stem, parsed, setting, trained, None if is_changed else first,
                   notes=(*reading.notes, *notes))


def parse_with_inputs(message: Message, setting: Setting, options: SourceOptions, to_run: bool,
                      title: str) -> tuple[ParsedNet, tuple[str, ...]]:
    """Parse a network after giving its inputs the requested shapes; also returns notes for the user."""
    net, unsaved = without_files(upgrade_net(message)) if to_run else (upgrade_net(message), [])
    state = net_state(net, setting.phase, setting.level, setting.stages)
    specs = layer_specs(net, state, de_transform=setting.de_transform, allow_python=setting.allow_python)
    net, notes = with_inputs(net, specs, options.input_shapes, to_run or bool(options.until), title)
    parsed = parse_net(net, setting.phase, setting.level, setting.stages, setting.de_transform, not options.lenient,
                       setting.allow_python, options.until)
    if parsed.findings:
        notes.append(list_findings(title, "left out", parsed.findings))
    return parsed, (*unsaved, *notes)


def _prepare_caffe(network: Network, files: Sequence[Path]) -> Writer:
    weights, prototxt = _prepare_caffemodel(network, files), _prepare_prototxt(network, files)

    def write(paths: list[Path]) -> None:
        prototxt.write(paths[1:])
        weights.write(paths[:1])

    return Writer(write)


def _prepare_caffemodel(network: Network, files: Sequence[Path]) -> Writer:
    weights, message = network.weights, network.message
    return Writer(lambda paths: write_caffemodel(paths[0], weights, message))


def _prepare_prototxt(network: Network, files: Sequence[Path]) -> Writer:
    text = f"{PROTOTXT_MARK}\n{format_text(network.message)}"

    def write(paths: list[Path]) -> None:
        paths[0].write_text(text, "utf-8")

    return Writer(write)


def _marks(files: Sequence[Path]) -> Mapping[Path, tuple[Path, str]]:
    return {file: (file, PROTOTXT_MARK) for file in files if file.suffix == ".prototxt"}


CAFFE = Format("a caffemodel, and its prototxt unless the source has one", (".caffemodel", ".prototxt"),
               read=read_caffe, prepare=_prepare_caffe, marks=_marks, write_weights=write_caffemodel)
CAFFEMODEL = Format("a caffemodel", (".caffemodel",), prepare=_prepare_caffemodel)
PROTOTXT = Format("the network in the current prototxt layout, without weights", (".prototxt",),
                  prepare=_prepare_prototxt, marks=_marks)
