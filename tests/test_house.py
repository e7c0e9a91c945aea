"""Rules of the house that a machine can hold: who may import whom, who may print."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rmpe_legacy"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module imports from its own floor and those before it, never from a later one.
FLOORS = [
    {"errors"},
    {"files", "reading", "silence", "terminal", "wording"},
    {"hdf5"},
    {"proto", "ops"},
    {"data"},
    {"spec"},
    {"layers"},
    {"net"},
    {"torch_file"},
    {"weights", "unknown"},
    {"load"},
    {"torch7", "convert", "evaluation", "show", "forward", "layers_table", "solver"},
    {"pipeline"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}


def part(path: Path) -> str:
    """The top-level module or package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Absolute names of what a file imports, also inside functions."""
    package = ("rmpe_legacy", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", [p for p in FILES if part(p) != "__init__"],
                         ids=lambda p: str(p.relative_to(PACKAGE)))
class TestFile:
    def test_imports_no_floor_above_its_own(self, path: Path):
        own = FLOOR[part(path)]
        for name in imports(path):
            if name.startswith("rmpe_legacy.") and (target := name.split(".")[1]) in FLOOR:
                assert FLOOR[target] <= own, f"{path.name} imports {name}, which stands above it"

    def test_protobuf_stops_at_proto_and_torch_before_evaluation(self, path: Path):
        names = list(imports(path))
        if path.name != "protobuf.py":
            assert not [n for n in names if n.startswith("google.protobuf")]
        if part(path) in ("evaluation", "proto", "errors", "spec", "data", "hdf5", "reading"):
            assert not [n for n in names if n.split(".")[0] == "torch"]

    def test_only_the_command_line_prints_and_through_one_place(self, path: Path):
        """``terminal`` escapes what a file's names could do to a terminal."""
        tree = ast.parse(path.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        prints = [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
        assert not prints, f"prints in lines {prints}"
        assert path.name == "cli.py" or not [n for n in imports(path) if n.startswith("rmpe_legacy.terminal")]


def test_importing_the_package_does_not_import_torch():
    code = "import sys, rmpe_legacy, rmpe_legacy.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
