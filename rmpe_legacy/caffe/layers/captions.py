"""Captions by attention and beam search. Sources: lstm_node_layer.cpp, beam_search_node_layer.cpp,
base_beam_search_layer.cpp and beam_search_layer.cpp of peteanderson80/caffe@eeafa98;
layers/{scst_layers,rcnn_layers,efficient_rcnn_layers}.py of peteanderson80/Up-Down-Captioner@0b4e8e5.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .base import UNWRITTEN, Layer, Shape, count, rows, shape_text
from .fed import FedLayer
from .gradient import pointwise
from .known_python import known_python, number, parameters
from .registry import register
from .uncomputed import Uncomputed
from .uncomputed_python import UncomputedPython

FEATURES = 2048  # of a region, by ResNet-101


@register("LSTMNode", form="")
class LSTMNode(Layer):
    """One step of an LSTM: inputs (N, ...), cells (N, num_cells) and perhaps a value for each sample, 0 where a
    sequence begins -> states and cells, (N, num_cells) both.

    The state before is part of the inputs. Gates are in the order input, forget, output, new.
    """

    params = ("lstm_param",)
    bottoms = (2, 3)
    tops = 2
    works_in_place = False
    not_exportable = UNWRITTEN

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("lstm_param")
        self.size = param.num_cells
        if self.size < 1 or not bottom[0]:
            raise self.spec.error(f"needs num_cells above 0 and inputs (N, ...); num_cells is {self.size}, its bottom "
                                  f"{shape_text(bottom[0])}")
        self.declare("weight", (4 * self.size, count(bottom[0][1:])))
        if param.bias_term:
            self.declare("bias", (4 * self.size,))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        inputs = self.declared[0].shape[1]
        if not bottom[0] or count(bottom[0][1:]) != inputs:
            raise self.spec.error(f"was set up for {inputs} inputs of each sample; its bottom is "
                                  f"{shape_text(bottom[0])}")
        n = bottom[0][0]
        if count(bottom[1]) != n * self.size or any(count(shape) != n for shape in bottom[2:]):
            raise self.spec.error(f"needs {n} x {self.size} cells, and {n} values that say whether a sequence goes on; "
                                  f"its bottoms are {', '.join(map(shape_text, bottom))}")
        return [(n, self.size)] * 2

    def forward(self, x: Tensor, before: Tensor, goes_on: Tensor | None = None) -> tuple[Tensor, Tensor]:
        i, f, o, new = F.linear(rows(x), *self.blobs()).chunk(4, 1)
        on = 1 if goes_on is None else goes_on.detach().reshape(-1, 1)
        # the published Backward takes the product for the gate, which matters where a value is neither 0 nor 1
        forget = pointwise(f, lambda f: f.sigmoid() * on, lambda f, y, dy: dy * y * (1 - y))
        cells = forget * before.reshape(-1, self.size) + i.sigmoid() * new.tanh()
        return o.sigmoid() * cells.tanh(), cells


@register("BeamSearchNode", form="")
class BeamSearchNode(Uncomputed):
    """One step of a beam search: scores (N, words), and after the first step the sums and the words before them ->
    sums (N, 1), words (N, steps), the last of these (N, 1), and the recurrent bottoms of the samples that were kept."""

    params = ("beam_search_param",)
    bottoms = (1, None)
    tops = (3, None)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(len(shape) != 2 for shape in bottom) or self.top_count - len(bottom) not in (0, 2):
            raise self.spec.error(f"needs bottoms of 2 axes, and as many tops or 2 more; it has {self.top_count} tops, "
                                  f"and its bottoms are {', '.join(map(shape_text, bottom))}")
        goes_on = self.top_count == len(bottom)
        n, first = bottom[0][0], 3 if goes_on else 1
        if any(shape[0] != n for shape in bottom[:first]):
            raise self.spec.error(f"needs as many rows of sums, words and scores; its bottoms are "
                                  f"{', '.join(map(shape_text, bottom))}")
        steps = bottom[1][1] + 1 if goes_on else 1
        return [(n, 1), (n, steps), (n, 1), *bottom[first:]]


@register("BeamSearch", form="")
class BeamSearch(Uncomputed):
    """A beam search that runs a network of its own for each step: bottoms (N, ...) -> words
    (N, 1, beam_size, sequence_length), their summed scores (N, 1, beam_size), and a score for each word.

    Its parameters, which are that network's, are not declared.
    """

    params = ("beam_search_param",)
    bottoms = (1, None)
    tops = 3

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("beam_search_param")
        if not all(bottom) or len({shape[0] for shape in bottom}) != 1:
            raise self.spec.error("needs bottoms with as many samples; its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        if param.beam_size < 1 or param.sequence_length < 1:
            raise self.spec.error("needs beam_size and sequence_length above 0")
        words = (bottom[0][0], 1, param.beam_size, param.sequence_length)
        return [words, words[:3], words]


@known_python(("scst_layers", "SCSTLayer"))
class PyCaptionScores(UncomputedPython):
    """Numbers of images and captions (N, 1, beams, words) -> weights, inputs and targets (N * beams, words), and a mean
    score (1)."""

    bottoms = 2
    tops = 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[1]) != 4:
            raise self.spec.error(f"needs captions (N, 1, beams, words), not {shape_text(bottom[1])}")
        n, _, beams, words = bottom[1]
        return [*[(n * beams, words)] * 3, (1,)]


class _RegionData(FedLayer):
    """Base: numbers and sizes of images (n, 3), how many regions each has (n, 1), the regions (n, R, 4) and their
    features (n, R, 2048), fed; R is max_boxes, with `pool` one more. The files tell how long features are; published
    ones have 2048 values."""

    params = ("python_param",)
    guesses = True

    def above_0(self, name: str, default: float | None = None) -> int:
        """A whole number above 0 from param_str."""
        value = number(self.spec, parameters(self.spec), name, default)
        if value < 1:
            raise self.spec.error(f"{name} in its param_str must be above 0, not {value}")
        return int(value)

    def images(self) -> list[Shape]:
        """The shapes of the four blobs."""
        n, regions = self.above_0("batch_size"), self.above_0("max_boxes", 100)
        if parameters(self.spec).get("pool"):
            regions += 1
        return [(n, 3), (n, 1), (n, regions, 4), (n, regions, FEATURES)]


@known_python(("rcnn_layers", "RCNNTestDataLayer"), ("efficient_rcnn_layers", "RCNNTestDataLayer"))
class PyRegionData(_RegionData):
    """Images alone."""

    tops = 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return self.images()


@known_python(("rcnn_layers", "RCNNCaptionTrainDataLayer"), ("efficient_rcnn_layers", "RCNNCaptionTrainDataLayer"))
class PyCaptionData(_RegionData):
    """With captions: after the numbers, words that go in and words that should come out, (n, sequence_length)."""

    tops = 6

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        first, *rest = self.images()
        return [first, *[(first[0], self.above_0("sequence_length"))] * 2, *rest]
