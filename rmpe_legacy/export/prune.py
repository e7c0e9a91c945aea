"""Reduces a network to the layers that some of its blobs depend on."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.step import Step
from rmpe_legacy.errors import NetError


def up_to(steps: Sequence[Step], message: Message, blobs: Sequence[str]) -> Message:
    """Return `message` with only the layers that `blobs` depend on.

    Args:
        steps: The steps of the network.
        message: The NetParameter that the network was made from.
        blobs: Names of blobs; a name refers to the final value, after all in-place layers have run.

    Raises:
        NetError: A name is unknown.
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
