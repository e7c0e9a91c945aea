"""The tool that trains the demo's models, as a module."""

import importlib
import sys

from paths import ROOT

TOOLS = ROOT / "tools"


def tool(name: str):
    sys.path.insert(0, str(TOOLS))  # they import one another
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(TOOLS))
