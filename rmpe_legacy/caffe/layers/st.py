"""The paper's STN and SDTN. Source: st_layer.{cpp,cu} of RMPE@5188c23, which runs only on a GPU."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from rmpe_legacy import ops
from rmpe_legacy.ops.spatial_transformer import DeTransform

from .base import Layer, Shape, count, rows, shape_text
from .registry import register

_THETA = ("theta_1_1", "theta_1_2", "theta_1_3", "theta_2_1", "theta_2_2", "theta_2_3")


@register("SpatialTransformer", dialects=("rmpe",))
class SpatialTransformer(Layer):
    """Warps each image by its own affine map: (N, C, H, W), theta (N, ...) -> (N, C, output_H, output_W).

    theta holds, in order, those of the map's six numbers that the prototxt does not fix. The output size is
    output_H x output_W, by default the size of the image that the network was built with; later images do not change
    it. Multiply-adds are fused as in a GPU build. See ops.spatial_transformer.

    ``de_transform: true`` means the inverse map, or what load_net(..., de_transform=...) says. The published layer
    never reads the option; it tests an uninitialised byte instead (st_layer.hpp:68).
    Differs: Backward writes the image's gradient even if propagate_down is false; here it does not.
    Differs: a batch larger than the first overruns a buffer there (st_layer.cpp:128); here it works.
    """

    params = ("st_param",)
    exact = True  # sums, but in the published order
    bottoms = 2
    caffe_source = "st_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("st_param")
        for option, only in (("transform_type", "affine"), ("sampler_type", "bilinear")):
            if getattr(param, option) != only:
                raise self.spec.error(f"{option} {getattr(param, option)!r} does not exist in Caffe either; "
                                      f"the only one is {only!r}")
        self._check_image(bottom[0])
        self.out = tuple(getattr(param, name) if param.has(name) else size
                         for name, size in (("output_H", bottom[0][2]), ("output_W", bottom[0][3])))
        if min(self.out) < 1:
            raise self.spec.error(f"output_H x output_W is {self.out[0]} x {self.out[1]}; each must be at least 1")
        self.fixed = [getattr(param, name) if param.has(name) else None for name in _THETA]
        self.mode = self._mode() if param.de_transform else None
        # st_layer.cu:406: either one makes it compute the image's gradient
        self.image_learns = param.to_compute_dU or self.mode in ("paper", "published-identity")

    def _mode(self) -> DeTransform:
        if self.spec.de_transform is None:
            warnings.warn(f"{self.spec.where}: {self.spec.name}: de_transform: true is taken as the inverse of theta, "
                          "as the paper means it; the published layer ignores the option. Choose with --de-transform "
                          "(in Python, de_transform=): 'paper', 'published-identity' or 'published-ignored'",
                          stacklevel=2)
        return cast("DeTransform", self.spec.de_transform or "paper")  # parse_net refuses any other

    def _check_image(self, image: Shape) -> None:
        if len(image) != 4:
            raise self.spec.error(f"needs an image (N, C, H, W) as its first bottom, not {shape_text(image)}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        image, theta = bottom
        self._check_image(image)
        free = self.fixed.count(None)
        if len(theta) < 1 or count(theta[1:]) != free:
            raise self.spec.error(f"theta must have {free} numbers for each image, because the prototxt fixes "
                                  f"{6 - free} of 6; its second bottom is {shape_text(theta)}")
        if theta[0] != image[0]:
            raise self.spec.error(f"has {image[0]} images and {theta[0]} thetas; give one theta for each image")
        return [(*image[:2], *self.out)]

    def forward(self, image: Tensor, theta: Tensor) -> Tensor:
        theta = self._full(rows(theta))
        if not self.image_learns:
            image = image.detach()
        h, w = self.out
        if self.mode is None:
            return ops.spatial_transformer(image, theta, h, w)
        return ops.spatial_de_transformer(image, theta, h, w, mode=self.mode)

    def _full(self, free: Tensor) -> Tensor:
        """Return all six numbers of each map, (N, 6)."""
        if free.shape[1] == 6:
            return free
        fixed = torch.tensor([value or 0.0 for value in self.fixed], dtype=torch.float64).to(free)  # overflow: inf
        columns = iter(free.unbind(1))
        return torch.stack([next(columns) if value is None else fixed[i].expand(free.shape[0])
                            for i, value in enumerate(self.fixed)], 1)
