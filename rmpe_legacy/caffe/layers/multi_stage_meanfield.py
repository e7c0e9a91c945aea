"""A conditional random field as a recurrent network (CRF-RNN).

Sources: multi_stage_meanfield.cpp and meanfield_iteration.cpp of torrvision/caffe@d779ee3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.proto.blobs import StoredBlob
from rmpe_legacy.errors import RmpeError

from .base import Layer, Shape, shape_text
from .permutohedral import Filtered, Lattice
from .registry import register

TINY = 1e-20  # keeps a norm of 0 from dividing


@register("MultiStageMeanfield", form="")
class MultiStageMeanfield(Layer):
    """num_iterations of mean field inference: scores (N, C, H, W), those to begin with (usually the same) and images
    (N, 3, H, W) -> scores (N, C, H, W).

    Blobs, each (1, 1, C, C): the weights of the spatial and of the bilateral filter, and the compatibility of classes.
    Nothing but the thetas and num_iterations has an effect, as published. Differs: without a file of weights the
    published layer reads the first two from spatial.par and bilateral.par; here they are 0.
    """

    params = ("multi_stage_meanfield_param",)
    bottoms = 3
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("multi_stage_meanfield_param")
        self.iterations = param.num_iterations
        self.thetas = param.theta_alpha, param.theta_beta, param.theta_gamma
        if self.iterations < 2 or min(self.thetas) <= 0:
            raise self.spec.error("num_iterations must be above 1, and theta_alpha, theta_beta and theta_gamma above 0")
        scores, start, image = bottom
        if len(scores) != 4 or start != scores or image != (scores[0], 3, *scores[2:]):
            raise self.spec.error("needs scores (N, C, H, W) twice and images (N, 3, H, W); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        self.size = scores[1:]
        for name in ("spatial", "bilateral", "compatibility"):
            self.declare(name, (1, 1, scores[1], scores[1]))
        self._spatial: Lattice | None = None

    def make(self, index: int, stored: StoredBlob | None) -> nn.Parameter:
        param = super().make(index, stored)
        if index == 2 and stored is None and index >= len(self.spec.message.blobs):
            with torch.no_grad():
                param[0, 0].fill_diagonal_(-1)
        return param

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        scores, start, image = bottom
        if scores[1:] != self.size or start != scores or image != (scores[0], 3, *scores[2:]):
            raise self.spec.error(f"was set up for images of {shape_text(self.size)}, which cannot change; its bottoms "
                                  "are "
                                  + ", ".join(map(shape_text, bottom)))
        return [scores]

    def forward(self, scores: Tensor, start: Tensor, image: Tensor) -> Tensor:
        spatial, bilateral, compatibility = (blob[0, 0] for blob in self.blobs())
        if self._spatial is None:
            self._spatial = self._lattice(self.positions(self.thetas[2]))
        norm = self._norm(self._spatial, scores)
        found = []
        for one, begin, picture in zip(scores, start, image, strict=True):
            lattice = self._bilateral(picture)
            found.append(self._image(one, begin, compatibility, (
                (spatial, self._spatial, norm), (bilateral, lattice, self._norm(lattice, scores)))))
        return torch.stack(found)

    def _image(self, scores: Tensor, begin: Tensor, compatibility: Tensor,
               filters: Sequence[tuple[Tensor, Lattice, Tensor]]) -> Tensor:
        flat, current = scores.flatten(1), begin.flatten(1)
        for _ in range(self.iterations):
            shares = current.softmax(0)
            message = sum(weight @ (Filtered.apply(shares, lattice) * norm)
                          for weight, lattice, norm in filters)
            current = flat - compatibility @ message
        return current.view_as(scores)

    def positions(self, theta: float) -> np.ndarray:
        """Column and row of each pixel by theta, (H * W, 2)."""
        rows, columns = np.mgrid[: self.size[1], : self.size[2]].astype(np.float32)
        return np.stack([columns.ravel(), rows.ravel()], 1) / np.float32(theta)

    def _bilateral(self, image: Tensor) -> Lattice:
        colors = image.detach().flatten(1).T.cpu().float().numpy() / np.float32(self.thetas[1])
        return self._lattice(np.concatenate([self.positions(self.thetas[0]), colors], 1))

    def _lattice(self, features: np.ndarray) -> Lattice:
        try:
            return Lattice(features)
        except RmpeError as error:
            raise self.spec.error(str(error)) from None

    def _norm(self, lattice: Lattice, like: Tensor) -> Tensor:
        """What filtered values are multiplied by so that the weights' sum is 1, (N,), in the precision of `like`."""
        return 1 / (lattice.filter(like.new_ones(1, lattice.points))[0] + TINY)
