"""What a network's attributes give a script: blobs and layers by name, and one layer's parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from rmpe_legacy.caffe.layers.pycaffe_layer import BlobVec
from rmpe_legacy.wording import did_you_mean, shorten_list

from .blob import ParameterBlob
from .errors import NameOfBlobError


class Named(OrderedDict):
    """Blobs or layers of a network by name. The error for an unknown name suggests similar ones."""

    def __init__(self, what: str, items: Iterable[tuple[str, Any]]):
        super().__init__(items)
        self.what = what

    def __missing__(self, name: object) -> Any:
        near = did_you_mean(str(name), self)
        known = near or f"; it has {shorten_list(list(self)) or 'none'}"
        raise NameOfBlobError(f"the network has no {self.what} {name!r}{known}")

    def __reduce__(self) -> tuple:
        return Named, (self.what, list(self.items()))


class LayerView:
    """One entry of ``net.layers``: a layer's type, and its parameters as blobs.

    ``blobs.add_blob`` adds a blob that the layer does not read, and that ``net.save`` stores with the others.
    """

    def __init__(self, kind: str, blobs: Iterable[ParameterBlob]):
        self.type = kind
        self.blobs = BlobVec(blobs)
