"""A network up to some of its blobs: the layers that these depend on, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from rmpe_legacy.caffe.net import Step
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.errors import NetError


def up_to(steps: Sequence[Step], message: Message, blobs: Sequence[str]) -> Message:
    """The NetParameter `message`, of which `steps` were made, with only the layers of this phase that `blobs` need.

    A blob's name refers to its final value, after all in-place layers have run. NetError lists names that no blob has.
    """
    known = [top for step in steps for top in step.top]
    for blob in blobs:
        if blob not in known:
            near = get_close_matches(blob, known, n=1)
            raise NetError(f"no blob {blob!r}" + (f"; did you mean {near[0]!r}?" if near else "")
                           + "; `rmpe show` lists them under top")
    wanted, kept = set(blobs), []
    for step in reversed(steps):
        if wanted & {*step.top, *step.alters}:
            kept.append(step.layer.spec.message)
            wanted |= set(step.bottom)
    found = {id(layer) for layer in kept}
    return message.replace(layer=[layer for layer in message.layer if id(layer) in found])
