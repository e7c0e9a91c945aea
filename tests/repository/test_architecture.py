"""Rules of the code base that a machine can check: who may import whom, who may print."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

PACKAGE = ROOT / "rmpe_legacy"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module imports from its own floor and those before it, never from a later one. Parts of one floor do not import
# each other.
FLOORS = [
    {"errors", "moved", "wording"},
    {"files", "registry", "optional", "prototxts"},
    {"text_table", "reading", "silence", "distributed"},
    {"readers", "ops"},
    {"caffe.proto"},
    {"caffe.data"},
    {"caffe.spec"},
    {"caffe.layers"},
    {"caffe.step"},
    {"caffe.wiring", "caffe.params"},
    {"caffe.net", "caffe.mixed_defaults"},
    {"caffe.weights", "caffe.unknown", "caffe.choose_dialect"},
    {"caffe.load"},
    {"caffe.inputs", "caffe.describe", "caffe.solver"},
    {"optim", "caffe.drawing"},
    {"torch7", "synthetic", "evaluation", "pycaffe"},
    {"export"},
    {"formats"},
    {"compare"},
    {"engines"},
    {"pose"},
    {"runs"},
    {"training", "serve"},
    {"paper"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}
NO_TORCH = {"errors", "moved", "wording", "text_table", "files", "registry", "optional", "prototxts", "reading",
            "silence", "readers", "caffe.proto", "caffe.data", "caffe.spec", "evaluation", "synthetic"}
TABLES = {"rmpe_legacy"}  # packages whose __init__ names modules of every floor, and imports them when asked


def module_of(path: Path) -> str:
    """The dotted name of a file's module."""
    return ".".join(["rmpe_legacy", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def part_of(module: str) -> str:
    """The part of the package, as FLOORS has it, that a module belongs to; "" for the package itself."""
    names = module.split(".")[1:3]
    return next((name for name in (".".join(names), names[0] if names else "") if name in FLOOR), "")


def imports(path: Path, at_load: bool = False) -> Iterator[str]:
    """The modules of this package that a file imports. at_load: only those imported together with it."""
    package = module_of(path).split(".") if path.name == "__init__.py" else module_of(path).split(".")[:-1]
    tree = ast.parse(path.read_text())
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) or is_type_checking(f)
              for n in ast.walk(f)}
    for node in ast.walk(tree):
        if at_load and id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*(package[: len(package) - node.level + 1] if node.level else ()),
                             *filter(None, [node.module])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
class TestFile:
    def test_imports_no_floor_above_its_own(self, path: Path):
        own = part_of(module_of(path))
        if not own:
            assert path.name == "__init__.py", f"{path.name} is on no floor"
            return
        for name in imports(path):
            other = part_of(name)
            if name.startswith("rmpe_legacy.") and other and other != own:
                assert FLOOR[other] < FLOOR[own], f"{module_of(path)} imports {name}, which is not below it"

    def test_protobuf_stops_at_proto_and_torch_where_it_is_not_needed(self, path: Path):
        names = list(imports(path))
        if path.name != "protobuf.py":
            assert not [n for n in names if n.startswith("google.protobuf")]
        if part_of(module_of(path)) in NO_TORCH and path.name != "torch_file.py":  # which makes torch's tensors
            assert not [n for n in names if n.split(".")[0] == "torch"]

    def test_only_the_command_line_prints_and_through_one_place(self, path: Path):
        """``cli.terminal`` escapes what a file's names could do to a terminal."""
        tree = ast.parse(path.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        prints = [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
        assert not prints, f"prints in lines {prints}"


def test_every_floor_is_there():
    there = {part_of(module) for module in MODULES}
    assert FLOOR.keys() <= there


def test_no_import_circles():
    graph = {module: {name for name in imports(path, at_load=True) if name in MODULES and name != module}
             for module, path in MODULES.items() if module not in TABLES}
    done: set[str] = set()

    def visit(module: str, open_: list[str]) -> None:
        assert module not in open_, f"a circle: {' -> '.join([*open_[open_.index(module):], module])}"
        if module in done or module not in graph:
            return
        for name in sorted(graph[module]):
            if not module.startswith(f"{name}."):  # a package is loaded before its modules
                visit(name, [*open_, module])
        done.add(module)

    for module in sorted(graph):
        visit(module, [])


def test_what_a_written_model_copies_stands_alone():
    """Each part's source is pasted into model.py, where there is nothing but torch and the other parts."""
    names = []
    for path in (PACKAGE / "export" / "parts").glob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.append(node.name)
            elif isinstance(node, ast.Import):
                assert [(name.name, name.asname) for name in node.names] in (
                    [("torch", None)], [("torch.nn.functional", "F")]), path.name
            elif isinstance(node, ast.ImportFrom):
                assert node.module == "torch" or node.level == 1, path.name
                assert all(name.asname is None for name in node.names), path.name
            else:
                assert isinstance(node, ast.Expr), f"{path.name} defines something that would not be copied"
    assert len(names) > 100
    assert len(names) == len(set(names)), "two parts have the same name"


def test_importing_the_package_does_not_import_torch():
    code = "import sys, rmpe_legacy, rmpe_legacy.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
