"""docs/fidelity.md names tests and cases: each of them exists."""

import re

from harness import GOLDEN, KINDS
from paths import TESTS

PAGE = TESTS.parent / "docs" / "fidelity.md"
ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]


def test_every_row_has_its_five_columns():
    assert len(ROWS) > 100
    assert [row for row in ROWS if row.count(" | ") != 4] == []


def test_the_tests_that_it_names_exist():
    source = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert {name for name in named if f"def {name}(" not in source} == set()


def test_the_cases_that_it_names_exist():
    named = set(re.findall(r"`([A-Z]\w+__\w+)`", PAGE.read_text()))
    assert {name for name in named if not any((GOLDEN / kind / name).is_dir() for kind in KINDS)} == set()


def test_the_files_that_it_names_exist():
    text = PAGE.read_text()
    for name in {*re.findall(r"`(tests/\w+\.py)`", text)}:
        assert (TESTS.parent / name).is_file(), name
    for name in re.findall(r"\]\(([^)#]+)\)", text):
        assert (PAGE.parent / name).exists(), name
