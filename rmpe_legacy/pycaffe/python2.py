"""Python 2 as the scripts of Caffe's time use it, translated so that it runs here, and what they import besides.

Grammar and library names are translated by fissix, which is lib2to3 kept alive (lib2to3 itself where fissix is not
installed). What no grammar shows is done on the syntax tree, by calls of the functions in python2_values.py.
"""

from __future__ import annotations

import ast
import io
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

from .old_libraries import restore_when_imported
from .python2_files import restore_pickle
from .python2_lmdb import take_text
from .python2_values import python2_names, take_float_sizes

_PACKAGE = Path(__file__).parents[1]
_STRING_IO = re.compile(r"^(\s*)from\s+c?StringIO\s+import\s+StringIO\b", re.M)
_TRUE_DIVISION = re.compile(r"^from\s+__future__\s+import\s[^\n]*\bdivision\b", re.M)
_INDENT = re.compile(r"^[ \t]*\t[ \t]*", re.M)
_FUNCTIONS = {"int", "float", "str", "open"}  # that mean something else than today's
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
    refuse_nulls(text, path)
    text = _INDENT.sub(lambda match: match[0].expandtabs(8), text.replace("\r\n", "\n"))
    text = _STRING_IO.sub(r"\1from io import BytesIO as StringIO", text)
    tool, refused = _translator(in_package)
    try:
        tree = ast.parse(str(tool.refactor_string(text.rstrip() + "\n", path)), path)
    except refused as error:
        try:
            return ast.parse(text, path)  # Python 3 then, with its own division
        except SyntaxError as ours:
            place = getattr(error, "context", None)
            line, column = place[1] if place else (ours.lineno, ours.offset)
            raise ScriptError(f"{path}:{line}:{column}: neither Python 2 nor Python 3: {shorten(str(error))}") from None
    return ast.fix_missing_locations(_Meaning(_TRUE_DIVISION.search(text) is not None).visit(tree))


def refuse_nulls(text: str, path: str) -> None:
    """Raise a ScriptError, with its place, for a null byte."""
    if (nul := text.find("\0")) >= 0:
        line, column = text.count("\n", 0, nul) + 1, nul - text.rfind("\n", 0, nul)
        raise ScriptError(f"{path}:{line}:{column}: contains a null byte; this is not a Python script")


def not_python_3(path: str, error: Exception) -> ScriptError:
    """The sentence for what Python's own compiler refuses."""
    if not isinstance(error, SyntaxError):
        return ScriptError(f"{path}: not Python: {shorten(str(error))}")
    place = f"{path}:{max(error.lineno or 1, 1)}:{max(error.offset or 1, 1)}"
    return ScriptError(f"{place}: not Python 3: {shorten(error.msg)}; --py2 translates Python 2")


def _decoded(source: bytes) -> str:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        return source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return source.decode("latin-1")


@cache
def _translator(in_package: bool) -> tuple[Any, tuple[type[Exception], ...]]:
    """A tool of fissix or lib2to3, and what it and Python raise for what they cannot read."""
    for name in ("fissix", "lib2to3"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of lib2to3, which Python 3.13 lacks
                refactor, parse, tokens = (import_module(f"{name}.{part}") for part in
                                           ("refactor", "pgen2.parse", "pgen2.tokenize"))
        except ModuleNotFoundError:
            continue
        fixers = refactor.get_fixers_from_package(f"{name}.fixes")
        wanted = [f for f in fixers if in_package or f.rpartition(".fix_")[2] not in _NOT_WANTED]
        refused = (parse.ParseError, tokens.TokenError, SyntaxError, tokenize.TokenError)
        return refactor.RefactoringTool(wanted), refused
    raise RmpeError("Python 2 cannot be translated without fissix; install it: pip install fissix")


class _Meaning(ast.NodeTransformer):
    """What an operator or a function meant in Python 2: a call of the function in python2_values.py."""

    def __init__(self, divides_truly: bool):
        self.divides_truly = divides_truly

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Div) and not self.divides_truly:
            return ast.copy_location(_call("__python2_divide__", node.left, node.right), node)
        if isinstance(node.op, ast.Mod) and not _is_number(node.left):
            return ast.copy_location(_call("__python2_remainder__", node.left, node.right), node)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            return ast.copy_location(_call("__python2_negative__", node.operand), node)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        read = self._again(node.target)
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div) or self.divides_truly:
            return node
        call = _call("__python2_divide_in_place__", read, node.value)
        return ast.copy_location(ast.Assign([node.target], call), node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        target, holder = node.targets[0], None
        if len(node.targets) == 1 and isinstance(target, ast.Subscript) and not _has_call(target.value):
            holder = self._again(target.value)
        self.generic_visit(node)
        if holder is not None:
            node.value = ast.copy_location(_call("__python2_element__", holder, node.value), node.value)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        holder = None if _has_call(node.value) else self._again(node.value)
        self.generic_visit(node)
        if _is_whole_index(node.slice):
            return node
        index = _as_value(node.slice)
        if isinstance(node.ctx, ast.Load):
            return ast.copy_location(_call("__python2_item__", node.value, index), node)
        if holder is not None:
            node.slice = ast.copy_location(_call("__python2_index__", holder, index), node.slice)
        return node

    def _again(self, node: ast.expr) -> ast.expr:
        """The expression once more, translated, to be read."""
        read: ast.expr = self.visit(ast.parse(ast.unparse(node), mode="eval").body)
        return read

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name):
            if node.func.id in _FUNCTIONS:
                node.func.id = f"__python2_{node.func.id}__"
            elif node.func.id == "print":
                node.args = [arg if isinstance(arg, ast.Starred) else
                             ast.copy_location(_call("__python2_printed__", arg), arg) for arg in node.args]
            elif node.func.id == "map":  # map(str, values)
                for name in node.args[:1]:
                    if isinstance(name, ast.Name) and name.id in _FUNCTIONS:
                        name.id = f"__python2_{name.id}__"
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "format":
            node.args.insert(0, node.func.value)
            node.func = ast.copy_location(ast.Name("__python2_format__", ast.Load()), node.func)
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "tostring" and not node.args:
            return ast.copy_location(_call("__python2_tostring__", node.func.value), node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id == "round" and isinstance(node.ctx, ast.Load):
            return ast.copy_location(ast.Name("__python2_round__", node.ctx), node)
        return node


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, str | bytes)


def _is_whole_index(index: ast.expr) -> bool:
    """Whether an index can be no float."""
    if isinstance(index, ast.Tuple):
        return all(map(_is_whole_index, index.elts))
    if isinstance(index, ast.Slice):
        return all(bound is None or _is_whole_index(bound) for bound in (index.lower, index.upper, index.step))
    value = index.operand if isinstance(index, ast.UnaryOp) else index
    return isinstance(value, ast.Constant) and not isinstance(value.value, float)


def _as_value(index: ast.expr) -> ast.expr:
    """An index as an expression that can stand outside brackets."""
    if isinstance(index, ast.Tuple):
        return ast.Tuple([_as_value(part) for part in index.elts], ast.Load())
    if isinstance(index, ast.Slice):
        return _call("__python2_slice__", *(bound or ast.Constant(None) for bound in
                                            (index.lower, index.upper, index.step)))
    return index


def _has_call(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


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
    libraries = [Path(sysconfig.get_path(place)).resolve() for place in ("stdlib", "platstdlib")]
    return any(folder in libraries or _has_distributions(folder) for folder in origin.parents)


@cache
def _has_distributions(folder: Path) -> bool:
    """Whether pip has installed into a folder, as with --target."""
    return next(folder.glob("*.dist-info"), None) is not None


def translate_imports() -> None:
    """From now on translate the script's own modules, read pickles of Python 2, and let NumPy print, and take sizes,
    as it did then."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    restore_pickle()
    restore_when_imported("lmdb", take_text)
    take_float_sizes()
    np.set_printoptions(legacy="1.13")
