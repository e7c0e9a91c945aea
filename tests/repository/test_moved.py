"""Names and import paths that the README or the docs have shown keep working for one release, with a warning."""

import subprocess
import sys
from importlib import import_module

import pytest

from rmpe_legacy.moved import MOVED, new_name

# (old module, a name in it): as shown in README.md and docs/ before the packages were reorganised
SHOWN = [
    ("rmpe_legacy.convert.caffemodel", "write_caffemodel"),
    ("rmpe_legacy.data.image", "load_image"),
    ("rmpe_legacy.evaluation.paper", "TABLE_3"),
    ("rmpe_legacy.layers.gradient", "pointwise"),
    ("rmpe_legacy.layers.pooling", "Pooling"),
    ("rmpe_legacy.pipeline.detect", "load_detector"),
    ("rmpe_legacy.pipeline.draw", "draw_poses"),
    ("rmpe_legacy.pipeline.geometry", "uncrop"),
    ("rmpe_legacy.pipeline.nms", "pose_nms"),
    ("rmpe_legacy.pipeline.pose", "load_pose_network"),
    ("rmpe_legacy.pipeline.run", "load_pipeline"),
    ("rmpe_legacy.proto.caffemodel", "blob_from_proto"),
    ("rmpe_legacy.solver.solver", "Solver"),
    ("rmpe_legacy.torch7.theta", "to_caffe"),
]


@pytest.fixture
def forget():
    """Import a module as if for the first time."""
    def forget(name: str) -> None:
        for part in [name.rsplit(".", i)[0] for i in range(name.count("."))]:
            if new_name(part):
                sys.modules.pop(part, None)

    return forget


@pytest.mark.parametrize(("old", "name"), SHOWN, ids=lambda value: value)
def test_what_the_docs_have_shown_still_imports(old, name, forget):
    forget(old)
    module = import_module(old)
    with pytest.warns(DeprecationWarning, match=f"{old} has moved to {new_name(old)}"):
        value = getattr(module, name)
    assert value is getattr(import_module(new_name(old)), name)


@pytest.mark.parametrize("old", MOVED)
def test_every_moved_module_is_where_the_table_says(old, forget):
    forget(f"rmpe_legacy.{old}")
    module, present = import_module(f"rmpe_legacy.{old}"), import_module(f"rmpe_legacy.{MOVED[old]}")
    assert module.__doc__ == present.__doc__
    assert dir(module) == dir(present)


def test_the_warning_names_the_line_that_imports(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from rmpe_legacy.evaluation.paper import TABLE_3\nprint(TABLE_3.row('full')['Total'])\n")
    run = subprocess.run([sys.executable, "-W", "always", script], capture_output=True, text=True, check=True)
    assert run.stdout == "80.8\n"
    assert f"{script}:1: DeprecationWarning: rmpe_legacy.evaluation.paper has moved" in run.stderr


def test_a_name_that_never_was_is_an_import_error():
    with pytest.raises(ModuleNotFoundError):
        import_module("rmpe_legacy.nonsense")
    with pytest.raises(ModuleNotFoundError):
        import_module("rmpe_legacy.pipeline.nonsense")
