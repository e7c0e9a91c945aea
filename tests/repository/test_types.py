"""A user's script type-checks: the package carries its types. `.ci/smoke` checks the same script against a wheel."""

import ast
import subprocess
import sys

import pytest
from paths import ROOT

import rmpe_legacy

SCRIPT = ROOT / "tests" / "repository" / "user_script.py"


def mypy(script, tmp_path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", ROOT / ".mypy_cache" / "user_script", script],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_users_script_type_checks_and_its_mistakes_are_found(tmp_path):
    assert mypy(SCRIPT, tmp_path) == (0, "Success: no issues found in 1 source file\n")
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import rmpe_legacy\nrmpe_legacy.load_net(3)\nrmpe_legacy.load_nett('net.prototxt')\n")
    code, output = mypy(wrong, tmp_path)
    assert code == 1
    assert 'wrong.py:2: error: Argument 1 to "load_net" has incompatible type "int"' in output
    assert 'wrong.py:3: error: Module has no attribute "load_nett"' in output


def test_the_names_for_type_checkers_are_the_public_ones():
    tree = ast.parse((ROOT / "rmpe_legacy" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    for_checkers = {alias.asname: ".".join(filter(None, ["rmpe_legacy", node.module]))
                    for node in block.body for alias in node.names}
    at_runtime = {name: "rmpe_legacy" if module == f"rmpe_legacy.{name}" else module  # a module of its own
                  for name, module in rmpe_legacy._PUBLIC.items()}
    assert for_checkers == at_runtime
