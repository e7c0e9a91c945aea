"""Runs scripts and notebooks that ``import caffe``, as they are, with this package as caffe."""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from rmpe_legacy.files import make_folder
from rmpe_legacy.reading import cannot_open

from . import python2
from .install import install
from .notebook import Shell, read_notebook
from .old_libraries import restore_old_names
from .python2_values import python2_names
from .windows import save_windows

_DISPLAY = ("display", "clear_output", "Image", "HTML", "SVG")


def run_file(path: str | os.PathLike, args: Sequence[str] = (), is_python2: bool = False,
             figures: str | os.PathLike | None = None) -> None:
    """Run a .py or .ipynb file as Python's main program; its exceptions, including SystemExit, are passed on.

    A script runs in the working directory, a notebook in its own folder, as in Jupyter.

    Args:
        path: The file.
        args: The script's arguments, sys.argv[1:].
        is_python2: Translate the file, and the modules of its own that it imports, from Python 2.
        figures: A folder for what would be shown in windows (see ``save_windows``), and for the figures that a
            notebook draws, as cell-<number>-<figure>.png.

    Raises:
        FileError: The file cannot be read.
        ScriptError: The file is not Python.
    """
    file = Path(path).resolve()
    is_notebook = file.suffix == ".ipynb"
    try:
        source = b"" if is_notebook else file.read_bytes()
    except OSError as error:
        raise cannot_open(path, error) from None
    cells = read_notebook(path) if is_notebook else []
    code = python2.compile_python2(source, str(path)) if is_python2 else _compiled(source, str(path))
    install()
    restore_old_names()
    if is_python2:
        python2.translate_imports()
    main = ModuleType("__main__")
    main.__dict__.update({"__file__": str(path if not is_notebook else file), "__builtins__": __builtins__,
                          **(python2_names() if is_python2 else {})})
    if b"get_ipython()." in source:  # a notebook that was exported
        shell = Shell(str(path), main.__dict__)
        main.__dict__["get_ipython"] = lambda: shell
    sys.modules["__main__"] = main
    sys.argv = [str(path), *args]
    sys.path.insert(0, str(file.parent))
    folder = None if figures is None else Path(figures).resolve()
    if folder is not None:
        save_windows(folder, pyplot_too=not is_notebook)
    if not is_notebook:
        exec(code, main.__dict__)
        return
    os.chdir(file.parent)
    _prepare_notebook()
    for cell in cells:
        _run_cell(f"{file.name}[cell {cell.number}]", cell.source, main.__dict__, is_python2)
        _finish_figures(cell.number, folder)


def _compiled(source: bytes, path: str) -> CodeType:
    try:
        return compile(source, path, "exec")
    except (SyntaxError, ValueError) as error:
        python2.refuse_nulls(source.decode("latin-1"), path)
        raise python2.not_python_3(path, error) from None


def _run_cell(name: str, source: str, names: dict[str, Any], is_python2: bool) -> None:
    """Run one cell; the value of an expression at its end is shown, as Python's prompt shows it."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # for tracebacks
    try:
        tree = python2.translated(source, name) if is_python2 else ast.parse(source, name)
    except (SyntaxError, ValueError) as error:
        raise python2.not_python_3(name, error) from None
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, name, "exec"), names)
    if isinstance(last, ast.Expr):
        sys.displayhook(eval(compile(ast.Expression(last.value), name, "eval"), names))


def _prepare_notebook() -> None:
    """Figures are drawn into memory, and IPython's display functions are there."""
    import matplotlib

    matplotlib.use("Agg")
    try:
        import IPython.display  # noqa: F401
    except ImportError:
        module, display = ModuleType("IPython"), ModuleType("IPython.display")
        for function in _DISPLAY:
            setattr(display, function, lambda *args, **options: None)
        vars(module).update(display=display, get_ipython=lambda: None, version_info=(8, 0))  # matplotlib reads these
        sys.modules |= {"IPython": module, "IPython.display": display}


def _finish_figures(number: int, folder: Path | None) -> None:
    """Save the figures that a cell has drawn, if asked for, and close them."""
    plt = sys.modules.get("matplotlib.pyplot")
    if plt is None:
        return
    if folder is not None:
        make_folder(folder)
        for i, figure in enumerate(plt.get_fignums(), 1):
            plt.figure(figure).savefig(folder / f"cell-{number}-{i}.png")
    plt.close("all")
