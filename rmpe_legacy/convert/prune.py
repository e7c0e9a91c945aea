"""A network up to some of its blobs: the layers that these depend on, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from rmpe_legacy.errors import NetError
from rmpe_legacy.net import Net
from rmpe_legacy.proto.message import Message


def up_to(net: Net, message: Message, blobs: Sequence[str]) -> Message:
    """The NetParameter `message`, of which `net` was made, with the layers of this phase that `blobs` depend on.

    A blob is meant as it is at the end, with all that layers do to it in place. NetError names blobs that are none.
    """
    known = [top for step in net.steps for top in step.top]
    for blob in blobs:
        if blob not in known:
            near = get_close_matches(blob, known, n=1)
            raise NetError(f"no blob {blob!r}" + (f"; did you mean {near[0]!r}?" if near else "")
                           + "; `rmpe show` lists them under top")
    wanted, kept = set(blobs), []
    for step in reversed(net.steps):
        if wanted & {*step.top, *step.alters}:
            kept.append(step.layer.spec.message)
            wanted |= set(step.bottom)
    found = {id(layer) for layer in kept}
    return message.replace(layer=[layer for layer in message.layer if id(layer) in found])
