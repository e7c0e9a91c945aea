"""Captions by attention and beam search. Sources: lstm_node_layer.cpp, beam_search_node_layer.cpp,
base_beam_search_layer.cpp and beam_search_layer.cpp of peteanderson80/caffe@eeafa98;
layers/{scst_layers,rcnn_layers,efficient_rcnn_layers}.py of peteanderson80/Up-Down-Captioner@0b4e8e5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.proto.upgrade import upgrade_net
from rmpe_legacy.caffe.spec import LayerSpec, NetState, layer_specs

from .base import Layer, Shape, count, rows, shape_text
from .embed import Embed
from .fed import FedLayer
from .gradient import pointwise
from .known_python import known_python, number, parameters
from .registry import Choice, chooses, create, register
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
class BeamSearchNode(Layer):
    """One step of a beam search: scores (N, words), and after the first step the sums (N, 1) and the words (N, steps)
    before them -> sums (N, 1), words (N, steps + 1), the last of these (N, 1), and the recurrent bottoms of the samples
    that were kept; N is samples times beam_size.

    Of equal sums, that with the higher number of sample and word goes first. A sample that has ended stays as it is.
    Differs: recurrent rows of an ended sample are 0; the published layer leaves what was there.
    """

    params = ("beam_search_param",)
    bottoms = (1, None)
    tops = (3, None)
    works_in_place = False
    chooses_rows = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("beam_search_param")
        self.beams, self.end, self.repeats = param.beam_size, param.end_of_sequence, not param.prevent_repeats
        self.goes_on = self.top_count == len(bottom)
        self.unforced = (1,) if self.goes_on else ()

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(len(shape) != 2 for shape in bottom) or self.top_count - len(bottom) not in (0, 2):
            raise self.spec.error(f"needs bottoms of 2 axes, and as many tops or 2 more; it has {self.top_count} tops, "
                                  f"and its bottoms are {', '.join(map(shape_text, bottom))}")
        first = 3 if self.goes_on else 1
        n, words = bottom[first - 1]
        if any(shape[0] != n for shape in bottom) or self.beams < 1 or n % self.beams:
            raise self.spec.error("needs as many rows of sums, words and scores, a multiple of beam_size; its bottoms "
                                  f"are {', '.join(map(shape_text, bottom))}")
        if words <= max(self.beams, self.end):
            raise self.spec.error(f"needs more than {max(self.beams, self.end)} words, its beam_size and "
                                  f"end_of_sequence; its scores are {shape_text(bottom[first - 1])}")
        steps = bottom[1][1] + 1 if self.goes_on else 1
        return [(n, 1), (n, steps), (n, 1), *bottom[first:]]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        sums, said, scores = bottoms[:3] if self.goes_on else (None, None, bottoms[0])
        n, words = scores.shape
        ended = torch.zeros(n, 1, dtype=torch.bool, device=scores.device)
        if sums is not None and said is not None:
            ended, last = said[:, -1:] == self.end, said[:, -1:].detach().long()
            scores = torch.where(ended, sums, sums + scores)
            may_follow = self._may_follow(last, ended, words)
        else:
            may_follow = (torch.arange(n, device=scores.device) % self.beams == 0).view(-1, 1).expand(n, words)
        flat = scores.detach().masked_fill(~may_follow, -torch.inf).view(-1, self.beams * words)
        best = flat.flip(1).sort(stable=True, dim=1, descending=True).indices[:, : self.beams]
        first = torch.arange(len(flat), device=scores.device).view(-1, 1) * self.beams * words
        chosen = (first + self.beams * words - 1 - best).view(-1)
        source, word = chosen // words, chosen % words
        spoken = word.view(-1, 1).to(scores.dtype)
        before = () if said is None else (said.detach()[source],)
        rest = (self._kept(x, source, ended, spoken == self.end) for x in bottoms[3 if self.goes_on else 1 :])
        return scores.reshape(-1)[chosen].view(-1, 1), torch.cat([*before, spoken], 1), spoken, *rest

    def _may_follow(self, last: Tensor, ended: Tensor, words: int) -> Tensor:
        """Which words may follow in each sample, (N, words)."""
        word = torch.arange(words, device=last.device)
        return torch.where(ended, word == self.end, (word != last) | self.repeats)

    def _kept(self, x: Tensor, source: Tensor, ended: Tensor, ends: Tensor) -> Tensor:
        """Rows of a recurrent bottom. As published, a row that ends is not written, but its gradient counts."""
        rows_of_x = torch.where(ended, x.detach(), x)[source]
        return torch.where(ends, rows_of_x - rows_of_x.detach(), rows_of_x)


@register("BeamSearch", form="")
class BeamSearch(Uncomputed):
    """A beam search that runs a network of its own for each step: bottoms (N, ...) -> words
    (N, 1, beam_size, sequence_length), their summed scores (N, 1, beam_size), and a score for each word.

    Its parameters are those of that network, net_param, each once.
    """

    params = ("beam_search_param",)
    bottoms = (1, None)
    tops = 3

    def setup(self, *bottom: Shape) -> None:
        shared: set[str] = set()
        for layer in self._layers_of_net():
            for i, declared in enumerate(layer.declared):
                name = layer.spec.params[i].name if i < len(layer.spec.params) else ""
                if not name or name not in shared:
                    self.declare(f"parameter_{len(self.declared)}", declared.shape, declared.filler, learns=False)
                shared.add(name)

    def _layers_of_net(self) -> Iterator[Layer]:
        """The layers of net_param, which know their parameters."""
        net = upgrade_net(self.spec.get("beam_search_param").net_param)
        shapes: dict[str, Shape] = {}
        for spec in layer_specs(net, NetState(self.spec.phase, 0, tuple(net.state.stage))):
            if not set(spec.bottom) <= set(shapes):
                raise self.spec.error(f"its net_param has no layer that makes a bottom of {spec.name!r}")
            layer, bottoms = create(spec), [shapes[name] for name in spec.bottom]
            layer.setup(*bottoms)
            shapes |= zip(spec.top, layer.reshape(*bottoms), strict=False)
            yield layer

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("beam_search_param")
        if not all(bottom) or len({shape[0] for shape in bottom}) != 1:
            raise self.spec.error("needs bottoms with as many samples; its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        if param.beam_size < 1 or param.sequence_length < 1:
            raise self.spec.error("needs beam_size and sequence_length above 0")
        words = (bottom[0][0], 1, param.beam_size, param.sequence_length)
        return [words, words[:3], words]


@register("Embed", form="up-down")
class EmbedInLastAxis(Embed):
    """The same, where a last axis of 1 becomes the vectors': (..., 1) -> (..., num_output). Source: embed_layer.cpp."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.top = (*(bottom[0][:-1] if bottom[0][-1:] == (1,) else bottom[0]), self.num_output)
        return [self.top]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).reshape(self.top)


@chooses("Embed")
def _choose(spec: LayerSpec) -> Choice:
    """A layer does not tell; the fork that has LSTMNode has its own form."""
    return Choice("", ("up-down",))


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
