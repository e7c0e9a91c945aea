"""Images cut in tiles, as puzzles that networks learn to solve. Sources: data_transformer.cpp and merge_data_layer.cpp
of MehdiNoroozi/JigsawPuzzleSolver@8c7ec09."""

from __future__ import annotations

from collections.abc import Sequence

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, shape_text
from .fed import COLORS, PictureLayer
from .registry import Choice, chooses, register
from .uncomputed import Uncomputed


@register("Data", form="tiles")
class TilesData(PictureLayer):
    """The tiles of images beside each other, (batch, 3 * siamese_size, patch_size, patch_size), and the numbers of
    their permutations, (batch,), fed."""

    params = ("data_param", "transform_param")
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, n = self.spec.get("transform_param"), max(1, self.spec.get("data_param").batch_size)
        side = param.patch_size if param.siamese_size > 1 else param.crop_size
        if not side:
            raise self.spec.error("needs patch_size above 0 beside siamese_size")
        return [(n, COLORS * max(1, param.siamese_size), side, side), (n,)][: self.top_count]


@register("MergeData", form="")
class MergeData(Uncomputed):
    """Tiles of an image, and as many of another, all of one shape (N, ...) -> tiles of the first of which a few, drawn
    by chance, are replaced by some of the other, and how many, (N, 1)."""

    params = ("merge_data_param",)
    bottoms = (2, None)
    tops = (2, None)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        tiles = self.top_count - 1
        if len(bottom) != 2 * tiles or len({*bottom}) != 1 or not bottom[0]:
            raise self.spec.error(f"needs {2 * tiles} bottoms of one shape (N, ...) for its {tiles} tiles; its bottoms "
                                  f"are {', '.join(map(shape_text, bottom))}")
        return [*[bottom[0]] * tiles, (bottom[0][0], 1)]


@chooses("Data")
def _choose(spec: LayerSpec) -> Choice:
    """Tiles are recognised by their number or size."""
    param = spec.get("transform_param")
    tiles = any(name in param.fields and param.has(name) for name in ("siamese_size", "patch_size"))
    return Choice("tiles") if tiles else Choice("", ("tiles",))
