"""Runs one golden case: what the real Caffe gave, beside what we give.

A case is a folder: net.prototxt, meta.json, case.npz, and the files that its layers read
(tests/golden/layers/README.md).
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from difference import Difference
from paths import GOLDEN

import rmpe_legacy
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.dialects import dialects
from rmpe_legacy.caffe.step import Step
from rmpe_legacy.cli.layer_report import Gap

ALSO = json.loads((GOLDEN / "same_in.json").read_text())  # case -> "dialect PHASE" in which Caffe gave the same bits
# Layers that give as many rows as the values say.
DATA_DEPENDENT = {"AnchorEmbeddingExtractor", "ArgMaxAll", "ArgMaxMy", "BoxGroupOutput", "BoxOutput", "DecodeBBox",
                  "DetectionEvaluate", "DetectionOutput", "DetectionOutputExtended", "Filter", "FlagsToIndices",
                  "FrcnnOutput", "FrcnnProposal", "Proposal", "ProposalTarget", "Python", "ScaleRoute",
                  "SlidingWindowIndex", "YoloDetectionOutput", "Yolov3DetectionOutput"}


def dialect_of(meta: dict) -> str:
    """The dialect that a case was run in: the fork's, where its meta.json names one."""
    if "fork" not in meta:
        return meta.get("dialect", "rmpe")
    named = [d.name for d in dialects().values() if d.repository == meta["fork"] and meta["type"] in d.types]
    return named[0] if named else "auto"


class Case:
    """One folder of goldens."""

    def __init__(self, folder: Path, run: str | None = None):
        """run: the dialect and phase to run it in, as ALSO has them; its own if None."""
        self.folder = folder
        self.meta = json.loads((folder / "meta.json").read_text())
        self.run = run or f"{dialect_of(self.meta)} {self.meta['phase']}"
        self.dialect, self.phase = self.run.split()
        self.data = dict(np.load(folder / "case.npz"))
        # SpatialTransformer: our layer has the multiply-adds that a GPU build fuses
        self.data |= {k.removeprefix("fma_"): self.data.pop(k) for k in list(self.data) if k.startswith("fma_")}
        self.name, self.type = folder.name, self.meta["type"]
        self.types = set(re.findall(r'type: "(\w+)"', (folder / "net.prototxt").read_text()))

    @property
    def id(self) -> str:
        """The folder, below tests/golden."""
        return f"{self.folder.parent.name}/{self.name}"

    @property
    def others(self) -> list[Case]:
        """The same case in other phases and dialects, where Caffe gave the same bits."""
        return [Case(self.folder, run) for run in ALSO.get(self.id, ())]

    def load(self) -> Net:
        weights = self.folder / self.meta["weights"] if self.meta.get("weights") else None
        self.broken_promises: list[str] = []
        if "seed" in self.meta:  # what caffe.set_random_seed was given before the network was built
            torch.manual_seed(self.meta["seed"])
        if "numpy_seed" in self.meta:  # what NumPy's generator was given before the layer ran
            np.random.seed(self.meta["numpy_seed"])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the weights file has nothing for")  # Net__partial_weights is about it
            warnings.filterwarnings("ignore", "filler 'file'")  # Filler__file_short is about it
            warnings.filterwarnings("ignore", ".*: shift_file 'shift.txt' gives 3 of 6")  # as is PowerFile__too_few_4d
            warnings.filterwarnings("ignore", ".*any number here: BNParameter.moving_average")  # BN__segstereo_averages
            net = rmpe_legacy.load_net(
                self.folder / "net.prototxt", weights, self.phase, self.meta.get("level", 0),
                self.meta.get("stages", ()), self.dialect, de_transform="published-identity", keep_blobs=True,
                allow_python=True)
        for step in net.steps:
            step.layer.register_forward_hook(partial(self._check_promise, step))
        return net

    def _check_promise(self, step: Step, _layer, _bottoms, tops) -> None:
        """What `reshape` promises is what `forward` gives, unless that depends on the bottoms' values."""
        tops = (tops,) if isinstance(tops, torch.Tensor) else tops
        given = tuple(tuple(top.shape) for top in tops)
        if given != step.top_shapes and step.layer.spec.type not in DATA_DEPENDENT:
            name = step.layer.spec.name
            self.broken_promises.append(f"{name}: reshape promises {step.top_shapes}, forward gives {given}")

    def compare(self, scratch: Path) -> list[Difference]:
        """All differences, run where the layers find the files that they name; what they write goes to `scratch`."""
        before = Path.cwd()
        os.chdir(scratch if self.type == "HDF5Output" else self.folder)
        try:
            return list(self.differences())
        finally:
            os.chdir(before)

    def differences(self) -> Iterator[Difference]:
        """Run the case forward, and backward where it says so; every array that Caffe wrote, beside ours."""
        net = self.load()
        if self.type == "MemoryData":
            net.steps[0].layer.reset(self.data.pop("in_data"), self.data.pop("in_label"))
        steps = sorted({int(k[4 : k.index("_")]) for k in self.data if k.startswith("step")})
        for step in steps or [None]:
            inputs = self._inputs(net, step)
            if step is None:
                for _ in range(self.meta["n_forward"]):
                    outputs = net(inputs)
            else:
                outputs = net(inputs)
                yield from self._blobs(net, f"step{step}_")
        yield from self._blobs(net, "")
        for key, want in self._named("paramafter_"):
            layer, index = key.rsplit("_", 1)
            yield self._difference(f"paramafter_{key}", want, _array(net.params[layer][int(index)]))
        if self.meta.get("backward"):
            yield from self._backward(net, outputs)

    def _difference(self, name: str, want: np.ndarray, got: np.ndarray) -> Difference:
        return Difference(name, want, got, self.folder / "case.npz")

    def _inputs(self, net: Net, step: int | None) -> dict[str, torch.Tensor]:
        prefix = "in_" if step is None else f"step{step}_in_"
        values = {k: torch.from_numpy(v.copy()) for k, v in self._named(prefix)}
        for value in values.values():
            value.requires_grad_(self.meta.get("backward", False) and net.force_backward)
        return values

    def _blobs(self, net: Net, prefix: str) -> Iterator[Difference]:
        for name, want in self._named(prefix + "blob_"):
            yield self._difference(f"{prefix}blob_{name}", want, _array(net.blobs[name]))

    def _backward(self, net: Net, outputs: dict[str, torch.Tensor]) -> Iterator[Difference]:
        reached = _reached(net)
        heads = [(net.blobs[name], torch.from_numpy(want)) for name, want in self._named("topdiff_") if name in reached]
        heads = [(blob, diff) for blob, diff in heads if blob.requires_grad]
        if heads:
            torch.autograd.backward(*zip(*heads, strict=True))
        diffs = net.diffs
        for name, want in self._named("diff_"):
            if name not in outputs and not self._is_scratch(net, name):
                yield self._difference(f"diff_{name}", want, _array(diffs[name]))
        for key, want in self._named("pdiff_"):
            layer, index = key.rsplit("_", 1)
            param = net.params[layer][int(index)]
            got = torch.zeros_like(param) if param.grad is None else param.grad
            yield self._difference(f"pdiff_{key}", want, _array(got).reshape(want.shape))  # PERMISSIVE sharing reshapes

    @staticmethod
    def _is_scratch(net: Net, name: str) -> bool:
        """Some layers leave their working values in the diff of a bottom that Caffe sends no gradient to."""
        readers = {s.layer.spec.type for s in net.steps if name in s.bottom}
        return name in net.inputs and not net.force_backward and bool(readers & {"Scale", "HingeLoss", "LSTM", "RNN"})

    def _named(self, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
        for key, value in self.data.items():
            if key.startswith(prefix):
                yield key[len(prefix) :], value


def _reached(net: Net) -> set[str]:
    """The outputs whose diff Caffe's Backward reads: those of a layer that contributes to a loss, or all if forced."""
    reached = set(net.loss_weights)
    for step in reversed(net.steps):
        if net.force_backward or reached & set(step.top):
            reached |= {*step.bottom, *step.top}
    return reached


def _array(value: torch.Tensor) -> np.ndarray:
    return value.detach().cpu().numpy()


KINDS = ("layers", "variants", "detection", "data", "forks")


def cases(*kinds: str) -> list[Path]:
    """The folders of these kinds of goldens."""
    return [path.parent for kind in kinds for path in sorted((GOLDEN / kind).glob("*/meta.json"))]


def by_kind(differences: Iterable[Difference]) -> list[list[Difference]]:
    """Those of a case's tops, of its bottoms' diffs and of its parameters' diffs."""
    groups: dict[str, list[Difference]] = {"top": [], "diff": [], "pdiff": []}
    for difference in differences:
        kind = difference.name.partition("_")[0]
        groups[kind if kind in groups else "top"].append(difference)
    return list(groups.values())


def gaps(differences: Iterable[Difference]) -> tuple[Gap | None, Gap | None, Gap | None]:
    """The largest gap of each kind; None without any."""
    return tuple(Gap(max(d.error for d in group), max(d.ulp for d in group)) if group else None
                 for group in by_kind(differences))
