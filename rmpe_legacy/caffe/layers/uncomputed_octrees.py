"""Layers of octrees, of Microsoft/O-CNN@1797f37: they have shapes, and refuse to run.

A map of octrees is (1, C, nodes, 1), with as many nodes as the octrees of a batch have at a depth. Before an octree is
read there are 8, as in the fork, whose layers take this for their first Reshape.
"""

from __future__ import annotations

from collections.abc import Sequence

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Count, Shape, count, shape_text
from .fed import FedLayer
from .registry import register
from .uncomputed import Uncomputed

NODES = 8  # children of a node
DEEPEST = 10  # a blob of 2^11 x 2^11 x 2^11 would have more values than Caffe's blobs hold
_PROPERTIES = ("key", "child", "neigh", "feature", "label", "split")


class _Octree(Uncomputed):
    """Base: a map of octrees, (1, C, nodes, 1), and perhaps the octrees."""

    params: tuple[str, ...] = ("octree_param",)
    bottoms: Count = (1, 2)
    tops: Count = 1
    needs_depth = True

    def setup(self, *bottom: Shape) -> None:
        if self.needs_depth and not self.spec.get("octree_param").has("curr_depth"):
            raise self.spec.error("needs curr_depth, the depth of its bottom in the octrees")

    def nodes_changed(self, bottom: Shape, channels: int | None = None, nodes: int = NODES) -> Shape:
        """The shape of a map with other nodes. Raises LayerError if the bottom is no map."""
        if len(bottom) != 4:
            raise self.spec.error(f"takes a map of octrees (1, C, nodes, 1), not {shape_text(bottom)}")
        return bottom[0], bottom[1] if channels is None else channels, nodes, bottom[3]

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.nodes_changed(bottom[0])]


@register("OctreeDataBase", form="")
class OctreeDataBase(FedLayer):
    """Octrees' features (1, signal_channel, nodes, 1), labels (batch_size,) and the octrees themselves, fed. Source:
    octree_database_layer.cpp."""

    params = ("octree_param", "data_param")
    tops = (1, 3)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        channels = self.spec.get("octree_param").signal_channel
        return [(1, channels, NODES, 1), (max(1, self.spec.get("data_param").batch_size),), (1,)][: self.top_count]


@register("OctreeProperty", form="")
class OctreeProperty(_Octree):
    """What nodes have, one top for each word in content_flag: (1, signal_channel, nodes, 1). Source:
    octree_property_layer.cpp."""

    bottoms = (0, 1)
    tops = (1, len(_PROPERTIES))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("octree_param")
        asked = param.content_flag.lower() if param.has("content_flag") else "key, child"
        words = [word for word in _PROPERTIES if word in asked]
        if len(words) != self.top_count:
            raise self.spec.error(f"its content_flag asks for {len(words)} tops, but it has {self.top_count}")
        return [(1, param.signal_channel, NODES, 1)] * self.top_count


class _OctreeConvolution(_Octree):
    """Base of the convolutions over neighbours, with kernels of up to 3 x 3 x 3."""

    params = ("convolution_param", "octree_param")

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        param, channels = self.spec.get("convolution_param"), self.nodes_changed(bottom[0])[1]
        sizes = list(param.kernel_size) * (3 if len(param.kernel_size) == 1 else 1)
        if len(sizes) != 3 or not all(0 < size < 4 for size in sizes) or not param.num_output:
            raise self.spec.error("needs num_output above 0 and one kernel_size or three, of 1 to 3")
        if len(param.stride) > 1 or any(stride not in (1, 2) for stride in param.stride):
            raise self.spec.error("needs one stride at most, 1 or 2")
        self.declare("weight", (*self.outwards(channels, param.num_output), count(tuple(sizes)), 1),
                     param.weight_filler)
        if param.bias_term:
            self.declare("bias", (param.num_output,), param.bias_filler)

    def outwards(self, channels: int, num_output: int) -> Shape:
        """The first axes of the weights."""
        return num_output, channels

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.nodes_changed(bottom[0], self.spec.get("convolution_param").num_output)]


@register("OctreeConv", form="")
class OctreeConv(_OctreeConvolution):
    """A convolution; with stride 2 to one depth less. Source: octree_base_conv_layer.cpp, octree_conv_layer.cpp."""


@register("OctreeDeconv", form="")
class OctreeDeconv(_OctreeConvolution):
    """The transpose of a convolution; with stride 2 to one depth more. Source: octree_base_conv_layer.cpp,
    octree_deconv_layer.cpp."""

    def outwards(self, channels: int, num_output: int) -> Shape:
        return channels, num_output


@register("OctreePooling", form="")
class OctreePooling(_Octree):
    """The largest value of each 8 children, and perhaps which it was. Source: octree_pooling_layer.cpp."""

    tops = (1, 2)

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        self.batch = next((data.get("data_param").batch_size for data in specs if data.type == "OctreeDataBase"), 1)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        depth = self.spec.get("octree_param").curr_depth
        nodes = self.batch * NODES ** max(0, depth - 1) if depth < 3 else NODES
        pooled = self.nodes_changed(bottom[0], nodes=nodes)
        return [(*pooled[:3], 1), self.nodes_changed(bottom[0], nodes=bottom[0][2] // NODES)][: self.top_count]


@register("OctreeUnpooling", form="")
class OctreeUnpooling(_Octree):
    """Values where the largest were, which the second bottom says. Source: octree_unpooling_layer.cpp."""

    bottoms = (2, 3)


@register("OctreeTile", form="")
class OctreeTile(_Octree):
    """Values for nodes of a larger depth. Source: octree_tile_layer.cpp."""


@register("Octree2FullVoxel", form="")
class Octree2FullVoxel(_Octree):
    """A full depth as voxels, (batch_size, C, 2^depth, 2^depth, 2^depth). Source: octree_full_voxel_layer.cpp."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, channels = self.spec.get("octree_param"), self.nodes_changed(bottom[0])[1]
        if param.curr_depth > DEEPEST or not param.has("batch_size"):
            raise self.spec.error(f"needs batch_size, and curr_depth up to {DEEPEST}")
        return [(param.batch_size, channels, *[2**param.curr_depth] * 3)]


class _Masked(_Octree):
    """Base: maps, and in the last bottom the nodes' labels, one of which is the mask."""

    bottoms = (2, None)
    tops = (1, None)
    needs_depth = False

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if not self.spec.get("octree_param").mask or self.top_count != len(bottom) - 1:
            raise self.spec.error("needs a mask, and a top for each bottom but the last")


@register("OctreeMask", form="")
class OctreeMask(_Masked):
    """The nodes with a label. Source: octree_mask_layer.cpp."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.nodes_changed(shape) for shape in bottom[:-1]]


@register("OctreeZeroize", form="")
class OctreeZeroize(_Masked):
    """Zeros at the nodes with a label. Source: octree_zeroize_layer.cpp."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        nodes = count(bottom[-1])
        if any(len(shape) < 3 or shape[2] != nodes for shape in bottom[:-1]):
            raise self.spec.error(f"needs maps of as many nodes as labels; its bottoms are "
                                  f"{', '.join(map(shape_text, bottom))}")
        return bottom[:-1]


@register("OctreeGrow", form="")
class OctreeGrow(_Octree):
    """Octrees with one depth more: their size is known when they are. Source: octree_grow_layer.cpp."""

    bottoms = (0, 1)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1,)]


@register("OctreeSetFeature", form="")
class OctreeSetFeature(_Octree):
    """Octrees with these features: their size is known when they are. Source: octree_set_feature_layer.cpp."""

    bottoms = (2, None)
    needs_depth = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1,)]


@register("OctreeUpdateLabel", form="")
class OctreeUpdateLabel(_Octree):
    """Octrees whose nodes are split where the labels say. Source: octree_update_label_layer.cpp."""

    bottoms = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [bottom[0]]
