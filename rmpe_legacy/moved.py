"""Import paths of release 0.1 that have moved. They keep working with a DeprecationWarning until 0.2."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Old module -> new module, both relative to rmpe_legacy. A package stands for its modules of the same names.
MOVED = {
    "convert": "formats",
    "convert.caffemodel": "caffe.proto.caffemodel_writer",
    "convert.command": "compare.convert",
    "convert.hdf5": "caffe.proto.hdf5_writer",
    "convert.html": "compare.html",
    "convert.identity": "compare.content_hash",
    "convert.onnx": "export.onnx",
    "convert.python_source": "export.python_source",
    "convert.sides": "formats.open_runner",
    "convert.source": "formats.read",
    "convert.targets": "formats.write",
    "convert.verify": "compare.verify",
    "data": "caffe.data",
    "data.draws": "caffe.data.caffe_random",
    "data.figures": "synthetic.figures",
    "data.json_file": "readers.json_file",
    "data.npy": "readers.npy",
    "data.picture_file": "caffe.data.image_file",
    "data.resample": "caffe.data.skimage_resize",
    "data.resize": "caffe.data.caffe_resize",
    "data.synthetic": "synthetic.world",
    "data.warp": "caffe.data.opencv_compat",
    "evaluation.paper": "paper.tables",
    "forward": "caffe.inputs",
    "hdf5": "readers.hdf5",
    "layers": "caffe.layers",
    "load": "caffe.load",
    "net": "caffe.net",
    "pipeline": "pose",
    "pipeline.commands": "runs.commands",
    "pipeline.comparison": "paper.comparison",
    "pipeline.geometry": "pose.crop",
    "pipeline.identify": "paper.describe_network",
    "pipeline.job": "runs.batch_run",
    "pipeline.judge": "paper.average_precision",
    "pipeline.nms_command": "runs.nms_files",
    "pipeline.outputs": "runs.outputs",
    "pipeline.panels": "runs.report_images",
    "pipeline.pictures": "runs.inputs",
    "pipeline.pose": "pose.estimate",
    "pipeline.posefiles": "runs.result_files",
    "pipeline.readout": "pose.decode",
    "pipeline.recipe": "pose.published",
    "pipeline.report": "runs.report",
    "pipeline.reproduce": "paper.reproduce",
    "pipeline.reproduce_demo": "paper.reproduce_demo",
    "pipeline.run": "pose.pipeline",
    "pipeline.shipped": "pose.demo_models",
    "pipeline.store": "runs.checkpoint",
    "pipeline.world": "distributed",
    "proto": "caffe.proto",
    "show": "caffe.describe",
    "solver": "caffe.solver",
    "spec": "caffe.spec",
    "torch7.caffe_graph": "torch7.to_caffe.caffe_graph",
    "torch7.conversion": "torch7.to_caffe.conversion",
    "torch7.emitters": "torch7.to_caffe.emitters",
    "torch7.kind": "torch7.network_kind",
    "torch7.module": "torch7.modules.base",
    "torch7.theta": "torch7.to_caffe.theta",
    "torch_file": "readers.torch_file",
    "unknown": "caffe.unknown",
    "weights": "caffe.weights",
}
_ROOT = "rmpe_legacy."


def new_name(old: str) -> str | None:
    """Return the present name of a module by its old one, both absolute; None if it has not moved."""
    name = old.removeprefix(_ROOT)
    if name in MOVED:
        return _ROOT + MOVED[name]
    package, _, module = name.rpartition(".")
    return f"{_ROOT}{MOVED[package]}.{module}" if package in MOVED else None


class _Finder(MetaPathFinder, Loader):
    """Finds moved modules after every other finder has failed, and makes each a proxy for the present module."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
                  ) -> ModuleSpec | None:
        if not name.startswith(_ROOT) or new_name(name) is None:
            return None
        return ModuleSpec(name, self, is_package=name.removeprefix(_ROOT) in MOVED)

    def exec_module(self, module: ModuleType) -> None:
        new = new_name(module.__name__)
        assert new is not None
        present = import_module(new)
        has_warned = False

        def getattr_(name: str) -> object:
            nonlocal has_warned
            value = getattr(present, name)
            if not has_warned and not name.startswith("__"):  # not for a package that is only passed through
                has_warned = True
                warnings.warn(f"{module.__name__} has moved to {new}; the old name will be removed in 0.2",
                              DeprecationWarning, stacklevel=2)
            return value

        module.__doc__ = present.__doc__
        module.__dict__.update(__getattr__=getattr_, __dir__=lambda: dir(present))


def install() -> None:
    """Make the old import paths work in this process."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
