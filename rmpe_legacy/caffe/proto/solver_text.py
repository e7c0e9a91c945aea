"""The network that a solver's text contains, as net_param or train_net_param: a user who names the solver means it."""

from __future__ import annotations

import re

_NETS = ("net_param", "train_net_param")
_PIECE = re.compile(r"""(?P<name>[A-Za-z_]\w*) | (?P<begin>[{<]) | (?P<end>[}>])
                        | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | \#[^\n]*""", re.X | re.A)


def network_within(text: str) -> str:
    """Return a solver's text with all but the network in it blank, so that places stay; another text as it is."""
    if not any(name in text for name in _NETS):
        return text
    depth, name, start = 0, "", -1
    for piece in _PIECE.finditer(text):
        if piece["name"] and not depth:
            name = piece["name"]
        elif piece["begin"]:
            if not depth and name in _NETS:
                start = piece.end()
            depth += 1
        elif piece["end"]:
            depth -= 1
            if not depth and start >= 0:
                return _blank(text[:start]) + text[start : piece.start()] + _blank(text[piece.start() :])
    return text


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
