"""Descriptors of places from soft assignments to clusters.

Sources: netvlad_layer.cpp, intranorm_layer.cpp and spfilter_layer.cpp of hyojinie/crn@a88e0b3.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, count, shape_text
from .l2_normalize import UnitRows
from .registry import register


@register("Netvlad", form="")
class Netvlad(Layer):
    """Assignments (N, cluster_num, H, W) and features (N, local_dim, H, W) -> (N, cluster_num * local_dim): for each
    cluster, the sum over all places of the assignment times (feature + center). Centers are a parameter, (cluster_num,
    local_dim), and stand for the negative ones of the paper.
    """

    params = ("netvlad_param",)
    bottoms = 2
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("netvlad_param")
        self.size = param.cluster_num, param.local_dim
        if param.vlad_dim != param.cluster_num * param.local_dim:
            raise self.spec.error(f"vlad_dim {param.vlad_dim} must be cluster_num {param.cluster_num} times local_dim "
                                  f"{param.local_dim}")
        self.declare("centers", self.size, param.weight_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        assignment, features = bottom
        clusters, dims = self.size
        if (len(assignment) != 4 or assignment[1] != clusters
                or features != (assignment[0], dims, *assignment[2:])):
            raise self.spec.error(f"needs assignments (N, {clusters}, H, W) and features (N, {dims}, H, W); its "
                                  f"bottoms are {shape_text(assignment)} and {shape_text(features)}")
        return [(assignment[0], clusters * dims)]

    def forward(self, assignment: Tensor, features: Tensor) -> Tensor:
        (centers,) = self.blobs()
        share, feature = assignment.flatten(2), features.flatten(2)
        own = share @ feature.transpose(1, 2) + share.sum(2, keepdim=True) * centers
        return own.flatten(1)


@register("Intranorm", form="")
class Intranorm(UnitRows):
    """Each of a row's cluster_num equal parts, divided by sqrt(sum of its squares + 1e-12): any shape -> the same."""

    params = ("intranorm_param",)
    epsilon = 1e-12

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.parts = self.spec.get("intranorm_param").cluster_num
        size = count(bottom[0][1:])
        if not self.parts or size % self.parts:
            raise self.spec.error(f"cluster_num {self.parts} does not divide the {size} values of a row")
        return [bottom[0]]


@register("Normalize", form="crn")
class NormalizeRows(UnitRows):
    """Each row divided by sqrt(sum of its squares + 1e-12): any shape -> the same."""

    epsilon = 1e-12


@register("Spfilter", form="")
class Spfilter(Layer):
    """Bottoms (N, C, H, W), then a map (N, 1, H, W) -> each bottom times the map."""

    bottoms = (2, None)
    tops = (1, None)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        *values, (n, *rest) = bottom
        if self.top_count != len(values):
            raise self.spec.error(f"needs one bottom more than it has tops, for the map; it has {self.top_count} tops "
                                  f"and {len(bottom)} bottoms")
        if any(len(x) != 4 or x[0] != n or x[2] * x[3] != count(tuple(rest)) for x in values):
            raise self.spec.error("its last bottom must have one value for each place of the others, (N, C, H, W); its "
                                  f"bottoms are {', '.join(map(shape_text, bottom))}")
        return values

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        *values, places = bottoms
        return tuple(x * places.reshape(len(x), 1, *x.shape[2:]) for x in values)
