"""JSON as result files hold it: one object a line, so that files can be read, searched and compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def json_list(rows: Sequence[Any]) -> bytes:
    """Format a JSON list with one entry per line."""
    if not rows:
        return b"[]\n"
    return ("[\n " + ",\n ".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]\n").encode()
