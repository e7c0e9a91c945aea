"""The results of a test net: the means of its outputs over the test batches, or their mAP.

Sources: Solver::TestClassification, Solver::TestDetection (solver.cpp) of RMPE@5188c23.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import NetError

from .detection_ap import DetectionScores

Values = Sequence[tuple[str, float | np.floating]]  # an output's name and one of its values


class Scores:
    """The outputs of a test net, summed batch by batch."""

    def __init__(self, ap_version: str | None = None):
        """ap_version: compute the mAP of DetectionEvaluate's rows by this version; None for plain means."""
        self.ap_version = ap_version
        self._sums: list[tuple[str, np.float32]] = []
        self._batches = 0
        self._detections: dict[str, DetectionScores] = {}

    def add(self, net: Net) -> list[tuple[str, np.float32]]:
        """Add the outputs of the network's last forward, and return them.

        Raises:
            NetError: This batch's outputs have another number of values than the first batch's.
        """
        values = output_values(net)
        self._batches += 1
        if self.ap_version is not None:
            for name in net.outputs:
                self._detections.setdefault(name, DetectionScores()).add(net.blobs[name].cpu().numpy())
        elif self._batches == 1:
            self._sums = values
        else:
            if len(values) != len(self._sums):
                raise NetError(f"the outputs of test batch {self._batches - 1} have {len(values)} values, those of the "
                               f"first have {len(self._sums)}, so they cannot be averaged; for a detector, set "
                               'eval_type: "detection" in the solver')
            self._sums = [(name, np.float32(total + value))
                          for (name, total), (_, value) in zip(self._sums, values, strict=True)]
        return values

    def results(self) -> list[tuple[str, float]]:
        """Return (output, mean of one of its values) for each value in order; or (output, mAP)."""
        if self.ap_version is not None:
            return [(name, scores.mean_ap(self.ap_version)) for name, scores in self._detections.items()]
        return [(name, float(np.float32(total / np.float32(self._batches)))) for name, total in self._sums]


def output_values(net: Net) -> list[tuple[str, np.float32]]:
    """Return each value of each output of the last forward, in Caffe's order."""
    return [(name, np.float32(value)) for name in net.outputs
            for value in net.blobs[name].detach().cpu().reshape(-1).tolist()]


def weighted(net: Net, name: str, value: float | np.floating) -> str:
    """Return the end of an output's log line, " (* 1 = 0.5 loss)"; empty for an output that is not a loss."""
    weight = net.loss_weights.get(name, 0)
    return f" (* {weight:g} = {np.float32(weight) * np.float32(value):g} loss)" if weight else ""
