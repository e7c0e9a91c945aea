"""``import caffe`` finds this package: for scripts and for modules with Python layers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = __name__.rpartition(".")[0]


class _Alias(MetaPathFinder, Loader):
    """Finds caffe.io, caffe.proto and so on as this package's modules of these names, rather than second copies."""

    def find_spec(self, name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith("caffe.") or sys.modules.get("caffe") is not sys.modules.get(PACKAGE):
            return None
        try:
            real = import_module(PACKAGE + name[len("caffe"):])
        except ModuleNotFoundError as error:
            if error.name is not None and error.name.startswith(PACKAGE):
                return None
            raise
        spec = ModuleSpec(name, self, is_package=hasattr(real, "__path__"))
        spec.loader_state = real.__spec__
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return import_module(PACKAGE + spec.name[len("caffe"):])

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None  # the one that find_spec made
        module.__spec__ = module.__spec__.loader_state  # which importing it under this name has replaced


def find_parts() -> None:
    """Make ``import caffe.io`` and similar imports find this package's modules whenever ``caffe`` is this package."""
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alias())


def install() -> ModuleType:
    """Make every later ``import caffe`` find this package, and return it."""
    package = import_module(PACKAGE)
    sys.modules["caffe"] = package
    find_parts()
    return package


@contextmanager
def importable_as_caffe() -> Iterator[None]:
    """Let the modules of Python layers ``import caffe`` while a network is built, unless another caffe is imported
    already.
    """
    if "caffe" in sys.modules:
        yield
        return
    install()
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == "caffe" or name.startswith("caffe.")]:
            del sys.modules[name]
