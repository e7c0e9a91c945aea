"""A PyTorch module as source code, model.py, with its weights as .pt."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from textwrap import dedent
from types import FrameType, MethodType
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_legacy.errors import FileError, NetError
from rmpe_legacy.export.python_source import PYTHON_MARK, identifier
from rmpe_legacy.reading import first_line

from .base import Arrays, Format, Network, RunResult, Setting, SourceOptions, Writer, has_suffix


class _ReadAnew(SourceFileLoader):
    """Loads a file without Python's cache of compiled files, which takes one of the same size, written in the same
    second, for the same, and would be left beside the user's file."""

    def path_stats(self, path: str) -> NoReturn:
        raise OSError


class PythonRunner:
    """Runs a model.py that ``rmpe convert`` wrote; gives the local variables of its forward."""

    def __init__(self, path: Path, title: str):
        self.title = title
        try:
            loader = _ReadAnew("rmpe_legacy_verified_model", str(path))
            spec = importlib.util.spec_from_file_location(loader.name, path, loader=loader)
            assert spec is not None  # as it has a loader
            module = importlib.util.module_from_spec(spec)
            loader.exec_module(module)
            self.model: nn.Module = module.load()
            self.blobs: dict[str, str] = dict(getattr(module, "BLOBS", {}))  # variable -> blob if they differ
        except OSError as error:
            raise FileError(f"{error.filename or path}: {error.strerror or error}") from None
        except (Exception, SystemExit) as error:  # the file is a program and can raise anything
            raise FileError(f"{path}: cannot be loaded: {first_line(error)}; expected a file that rmpe convert wrote, "
                            "with the weights beside it") from None

    def inputs(self) -> None:
        return None

    def run(self, inputs: Arrays, wanted: Collection[str] | None = None) -> RunResult:
        code = self.model.forward.__code__
        arguments = code.co_varnames[1 : code.co_argcount]
        blob_of = self._blob_of(wanted, inputs)
        variable_of = {blob: variable for variable, blob in blob_of.items()}
        given = {variable_of.get(name, name): torch.from_numpy(np.array(value)) for name, value in inputs.items()}
        if missing := [name for name in arguments if name not in given]:
            raise NetError(f"{self.title}: its forward takes {', '.join(missing)}, but the other network's inputs are "
                           f"{', '.join(inputs)}")
        seen: dict[str, Any] = {}

        def watch(frame: FrameType, event: str, _argument: object) -> None:
            if event == "return" and frame.f_code is code:
                seen.update(frame.f_locals)

        sys.setprofile(watch)
        try:
            with torch.no_grad():
                self.model(*(given[name] for name in arguments))
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            raise NetError(f"{self.title}: cannot be run: {first_line(error)}") from None
        finally:
            sys.setprofile(None)
        blobs = {blob_of.get(name, name): value.numpy() for name, value in seen.items() if isinstance(value, Tensor)}
        return RunResult(blobs, self._outputs(blobs, inputs))

    def run_from(self, inputs: Arrays, wanted: Collection[str], given: Arrays) -> RunResult:
        """Run it with the values of `given`, which replace those of the variables once these are final."""
        blob_of = self._blob_of(wanted, inputs)
        values = {variable: torch.from_numpy(np.array(given[blob]))
                  for variable, blob in blob_of.items() if blob in given}
        made: dict[str, Tensor] = {}

        def give(variable: str, value: Tensor) -> Tensor:
            made[variable] = value
            return values[variable]

        self.model.forward = MethodType(_interrupted(type(self.model).forward, values, give), self.model)
        try:
            ran = self.run(inputs, wanted)
        finally:
            del self.model.forward
        return replace(ran, blobs={**ran.blobs, **{blob_of[variable]: value.numpy()
                                                   for variable, value in made.items()}})

    def _blob_of(self, wanted: Collection[str] | None, inputs: Arrays) -> dict[str, str]:
        """Return variable -> blob."""
        return {identifier(name): name for name in [*(wanted or ()), *inputs]} | self.blobs

    @staticmethod
    def _outputs(blobs: Arrays, inputs: Arrays) -> tuple[str, ...]:
        """Return the candidates for outputs: every variable that is not an unchanged input."""
        return tuple(name for name, value in blobs.items()
                     if name not in inputs or not np.array_equal(value, inputs[name], equal_nan=True))


def _interrupted(forward: Callable, variables: Collection[str], give: Callable[[str, Tensor], Tensor]) -> Callable:
    """Return the function with variable = give("variable", variable) behind the last assignment to each variable."""
    module = ast.parse(dedent(inspect.getsource(forward)))
    function = module.body[0]
    assert isinstance(function, ast.FunctionDef)
    last = {node.id: i for i, statement in enumerate(function.body) for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    name = "<give>"  # which no variable of the file can be called
    body: list[ast.stmt] = []
    for i, statement in enumerate(function.body):
        body.append(statement)
        body += [ast.Assign([ast.Name(variable, ast.Store())], ast.Call(ast.Name(name, ast.Load()), [
            ast.Constant(variable), ast.Name(variable, ast.Load())], [])) for variable in variables
            if last.get(variable) == i]
    function.body = body
    names = {**forward.__globals__, name: give}
    exec(compile(ast.fix_missing_locations(module), forward.__code__.co_filename, "exec"), names)
    return names[function.name]


def _run(path: Path, title: str, setting: Setting, options: SourceOptions) -> PythonRunner:
    return PythonRunner(path, title)


def _prepare(network: Network, files: Sequence[Path]) -> Writer:
    from rmpe_legacy.export.python_source import to_python, write_state

    model = to_python(network.net, network.title, files[1].name)

    def write(paths: list[Path]) -> None:
        paths[0].write_text(model.text, "utf-8")
        write_state(str(paths[1]), model.state)

    fixed = () if model.graph.is_dynamic else (f"the batch has the prototxt's size: {model.graph.why_fixed}",)
    return Writer(write, (*fixed, *model.graph.notes()), few_images=model.graph.few_images(network.net))


def _marks(files: Sequence[Path]) -> Mapping[Path, tuple[Path, str]]:
    return dict.fromkeys(files, (files[0], f"{PYTHON_MARK}{files[1].name!a}."))


PYTHON = Format("a standalone PyTorch module, with its weights as .pt", (".py", ".pt"), has_suffix(".py"), run=_run,
                prepare=_prepare, marks=_marks, runtime="PyTorch")
