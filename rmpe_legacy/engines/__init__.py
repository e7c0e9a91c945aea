"""Engines: fast ways to run a network, each of which is compared with the network before it is used.

``net.compiled(engine="torch")`` returns a ``CompiledNet``. See docs/engines.md.
"""

from . import onnx_engines, torch_engines
from .base import AUTO, ENGINES, EXACT, Engine
from .compiled import CompiledNet, compile_net
from .passes import PASSES
from .proof import Proof

__all__ = ["AUTO", "ENGINES", "EXACT", "PASSES", "CompiledNet", "Engine", "Proof", "compile_net", "onnx_engines",
           "torch_engines"]
