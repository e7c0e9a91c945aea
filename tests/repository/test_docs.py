"""What the README and the docs tell people to type: commands that exist, and pages that the site has."""

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from paths import ROOT

from rmpe_legacy.cli import make_parser

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md")),
         ROOT / "prototxt" / "README.md", ROOT / "examples" / "README.md"]


def commands(page: Path) -> list[str]:
    """The commands of a page, in blocks and in its text."""
    return [*blocks(page), *spans(page)]


def blocks(page: Path) -> Iterator[str]:
    """The lines of a page's code blocks that run rmpe."""
    text = page.read_text()
    for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        yield from (part.strip() for line in lines for part in re.split(r"; (?=rmpe)", line.strip().removeprefix("$ "))
                    if part.strip().startswith("rmpe "))


def spans(page: Path) -> list[str]:
    """The commands in a page's text, which need not be complete."""
    return re.findall(r"`(rmpe [^`|\n]*)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))


def is_pattern(command: str) -> bool:
    """Whether a command stands for several: rmpe COMMAND, rmpe demo ..., rmpe reproduce mpii|coco."""
    return bool(re.search(r"\.\.\.|COMMAND|\||\[", command)) or len(command.split()) < 3


def parse(command: str) -> str:
    """What argparse says of wrong usage; "" if it is right."""
    words = shlex.split(command, comments=True)
    words = words[1 : words.index(">")] if ">" in words else words[1:]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            make_parser().parse_args(words)
        except SystemExit as stopped:
            return said.getvalue().strip().splitlines()[-1] if stopped.code else ""
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_can_be_typed(page: Path):
    errors = {command: parse(command) for command in blocks(page) if not is_pattern(command)}
    parts = {command: parse(command) for command in spans(page) if not is_pattern(command)}
    errors |= {command: error for command, error in parts.items() if not re.search("are required:|expected", error)}
    assert {command: error for command, error in errors.items() if error} == {}


def test_there_are_commands_to_check():
    assert sum(not is_pattern(command) for page in PAGES for command in commands(page)) > 60


def test_every_page_is_on_the_site():
    """MkDocs warns of a page that is not in the navigation, and warnings are errors there."""
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    pages |= {str(page.relative_to(ROOT)) for page in (ROOT / "benchmarks").glob("*.md")}
    assert pages | {"prototxt/README.md", "tests/README.md"} == set(re.findall(r"[\w/-]+\.md", nav))


def test_bars_in_the_code_of_a_table_have_no_backslash_on_the_site(monkeypatch):
    """GitHub asks for it inside a table; Python-Markdown would show it."""
    pytest.importorskip("mkdocs", reason="the hook of the site needs mkdocs, of the extra [docs]")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    hook = importlib.import_module("docs_hook")
    page = SimpleNamespace(file=SimpleNamespace(src_uri="pipeline.md"))
    table = "| `rmpe detect IMAGE\\|DIR` | a \\| b |"
    assert hook.on_page_markdown(table, page, None, None) == "| `rmpe detect IMAGE|DIR` | a \\| b |"


def test_pictures_are_small():
    assert all(path.stat().st_size < 150_000 for path in (ROOT / "docs").rglob("*.jpg"))
