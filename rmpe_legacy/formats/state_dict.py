"""The state dict of ``load_net``'s Net, .pt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rmpe_legacy.caffe.weights import write_state_dict

from .base import Format, Network, Writer


def _prepare(network: Network, files: Sequence[Path]) -> Writer:
    layers, weights = network.layers, network.weights
    return Writer(lambda paths: write_state_dict(paths[0], layers, weights))


STATE_DICT = Format("a PyTorch state dict", (".pt",), prepare=_prepare)
