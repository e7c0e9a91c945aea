"""Other people's data, which is not part of the repository: the folder that RMPE_SHARED names."""

import os
from pathlib import Path

import pytest


def shared(*parts: str) -> Path:
    """A path in it; skips the test where it is not at hand."""
    if not os.environ.get("RMPE_SHARED"):
        pytest.skip("RMPE_SHARED is not set: the authors' data and what their programs gave on it are not at hand")
    return Path(os.environ["RMPE_SHARED"], *parts)
