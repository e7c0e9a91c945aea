"""Python 2 as the scripts of Caffe's time use it, translated so that it runs here, and what they import besides.

Grammar and library names are translated by fissix, which is lib2to3 kept alive (lib2to3 itself where fissix is not
installed). What no grammar shows is done on the syntax tree: integers are divided as Python 2 divides them, ``round``
rounds halves away from zero, and an array of one value counts as a number where NumPy let it.
"""

from __future__ import annotations

import ast
import io
import math
import re
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from rmpe_legacy.errors import PrototxtError, RmpeError
from rmpe_legacy.wording import shorten

_PACKAGE = Path(__file__).parents[1]
_STRING_IO = re.compile(r"^(\s*)from\s+c?StringIO\s+import\s+StringIO\b", re.M)
_TRUE_DIVISION = re.compile(r"^from\s+__future__\s+import\s[^\n]*\bdivision\b", re.M)
_INDENT = re.compile(r"^[ \t]*\t[ \t]*", re.M)
_NOT_WANTED = {"import"}  # fixers: relative imports are looked at where a module lies in a package, and only there


class ScriptError(PrototxtError):
    """A script that is neither Python 2 nor Python 3."""


# --- translation ----------------------------------------------------------------------------------------------------


def compile_python2(source: bytes | str, path: str, in_package: bool = False) -> CodeType:
    """The code of a Python 2 source, to be run among the names of ``python2_names``.

    in_package: whether a bare ``import name`` may mean a module beside this one.

    Raises:
        ScriptError: If it is neither Python 2 nor Python 3; names line and column.
        RmpeError: If there is no translator.
    """
    return compile(translated(source, path, in_package), path, "exec")


def translated(source: bytes | str, path: str, in_package: bool = False) -> ast.Module:
    """The syntax tree of a Python 2 source, as ``compile_python2`` compiles it."""
    text = source if isinstance(source, str) else _decoded(source)
    text = _INDENT.sub(lambda match: match[0].expandtabs(8), text.replace("\r\n", "\n"))
    text = _STRING_IO.sub(r"\1from io import BytesIO as StringIO", text)
    tool, refused = _translator(in_package)
    try:
        tree = ast.parse(str(tool.refactor_string(text.rstrip() + "\n", path)), path)
    except (refused, SyntaxError, tokenize.TokenError) as error:
        try:
            return ast.parse(text, path)  # Python 3 then, with its own division
        except SyntaxError as ours:
            place = getattr(error, "context", None)
            line, column = place[1] if place else (ours.lineno, ours.offset)
            raise ScriptError(f"{path}:{line}:{column}: neither Python 2 nor Python 3: {shorten(str(error))}") from None
    return ast.fix_missing_locations(_Arithmetic(_TRUE_DIVISION.search(text) is not None).visit(tree))


def _decoded(source: bytes) -> str:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        return source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return source.decode("latin-1")


@cache
def _translator(in_package: bool) -> tuple[Any, type[Exception]]:
    """A tool of fissix or lib2to3, and the exception of its parser."""
    for name in ("fissix", "lib2to3"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of lib2to3, which Python 3.13 lacks
                refactor, parse = import_module(f"{name}.refactor"), import_module(f"{name}.pgen2.parse")
        except ModuleNotFoundError:
            continue
        fixers = refactor.get_fixers_from_package(f"{name}.fixes")
        wanted = [f for f in fixers if in_package or f.rpartition(".fix_")[2] not in _NOT_WANTED]
        return refactor.RefactoringTool(wanted), parse.ParseError
    raise RmpeError("Python 2 cannot be translated without fissix; install it: pip install fissix")


class _Arithmetic(ast.NodeTransformer):
    """Python 2's division, unless the source asks for the true one, its ``round``, and NumPy's numbers of then."""

    def __init__(self, divides_truly: bool):
        self.divides_truly = divides_truly

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Div) and not self.divides_truly:
            return ast.copy_location(_call("__python2_divide__", node.left, node.right), node)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div) or self.divides_truly:
            return node
        value = ast.parse(ast.unparse(node.target), mode="eval").body
        value = self.visit(value)
        call = _call("__python2_divide_in_place__", value, node.value)
        return ast.copy_location(ast.Assign([node.target], call), node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        target = node.targets[0]
        if len(node.targets) == 1 and isinstance(target, ast.Subscript):
            holder = ast.parse(ast.unparse(target.value), mode="eval").body
            node.value = ast.copy_location(_call("__python2_element__", holder, node.value), node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id in ("int", "float"):
            node.func.id = f"__python2_{node.func.id}__"
        self.generic_visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id == "round" and isinstance(node.ctx, ast.Load):
            return ast.copy_location(ast.Name("__python2_round__", node.ctx), node)
        return node


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


# --- names ----------------------------------------------------------------------------------------------------------


def python2_names() -> dict[str, Any]:
    """What a translated source needs among its global names."""
    return {"__python2_divide__": divide, "__python2_divide_in_place__": divide_in_place,
            "__python2_round__": round_half_away, "__python2_int__": to_int, "__python2_float__": to_float,
            "__python2_element__": element}


def divide(a: Any, b: Any) -> Any:
    """``a / b``: rounded down where both are whole numbers, or arrays of such."""
    return a // b if _is_whole(a) and _is_whole(b) else a / b


def divide_in_place(a: Any, b: Any) -> Any:
    """``a /= b`` in the same sense; the value that `a` gets."""
    if _is_whole(a) and _is_whole(b):
        a //= b
    else:
        a /= b
    return a


def round_half_away(number: Any, digits: int = 0) -> float:
    """``round`` of Python 2: a float, halves away from zero."""
    value = float(number)
    if not math.isfinite(value):
        return value
    scale = 10.0 ** digits
    whole = math.floor(abs(value) * scale)
    whole += abs(value) * scale - whole >= 0.5  # exactly: adding 0.5 first would round
    return math.copysign(whole / scale, value)


def to_int(*args: Any) -> int:
    """``int``, of an array of one value too, which today's NumPy refuses."""
    return int(*map(_single, args))


def to_float(*args: Any) -> float:
    """``float`` in the same sense."""
    return float(*map(_single, args))


def element(holder: Any, value: Any) -> Any:
    """What ``holder[...] = value`` stores: in an array, an array of one value counts as the value."""
    if isinstance(holder, np.ndarray) and holder.dtype != object and isinstance(value, np.ndarray) and value.size == 1:
        return value.reshape(())
    return value


def _single(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 else value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) or (isinstance(value, np.ndarray) and value.dtype.kind in "iub")


# --- imports --------------------------------------------------------------------------------------------------------


class _Loader(SourceFileLoader):
    """Loads a module of the script's own from its Python 2 source; compiled files are neither read nor written."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return compile_python2(self.get_data(path), path, "." in fullname or self.is_package(fullname))

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(python2_names())
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the modules that are neither Python's, nor installed, nor this package's."""

    def find_spec(self, name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader or _is_installed(Path(spec.origin or "")):
            return None
        spec.loader = _Loader(name, str(spec.origin))
        return spec


def _is_installed(origin: Path) -> bool:
    origin = origin.resolve()
    if "site-packages" in origin.parts or "dist-packages" in origin.parts or _PACKAGE in origin.parents:
        return True
    return any(Path(sysconfig.get_path(place)).resolve() in origin.parents for place in ("stdlib", "platstdlib"))


def translate_imports() -> None:
    """From now on translate the script's own modules, and have what libraries of that time had.

    NumPy's names float, int and so on for Python's own types, and ``scipy.misc``, which demo scripts import.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name, kind in {"float": float, "int": int, "bool": bool, "object": object, "str": str, "long": int,
                       "unicode": str}.items():
        if name not in np.__dict__:
            setattr(np, name, kind)
    _stand_in("scipy.misc")


def _stand_in(name: str) -> None:
    """Substitute an empty module for one that no longer exists; using a name from it is an error."""
    try:
        import_module(name)
        return
    except ImportError:
        pass
    parent, _, child = name.rpartition(".")
    if parent:
        _stand_in(parent)
    module = sys.modules[name] = ModuleType(name, f"A stand-in for {name}, which is not installed.")
    module.__path__ = []  # type: ignore[attr-defined]

    def missing(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise _MissingModuleError(f"the script uses {name}.{attribute}, and there is no {name} here; install a library "
                                  "that has it, or use another function")

    module.__getattr__ = missing  # type: ignore[method-assign]
    if parent:
        setattr(sys.modules[parent], child, module)


class _MissingModuleError(RmpeError, AttributeError):
    """Something of a module that is not installed."""
