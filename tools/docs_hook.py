"""MkDocs hook: adds pages from outside docs/, and generates the command-line reference and the table of layers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from rmpe_legacy.cli import make_parser
from rmpe_legacy.cli.layer_report import layers_table, read_evidence

ROOT = Path(__file__).parents[1]
OUTSIDE = ("benchmarks/*.md", "prototxt/README.md", "tests/README.md")
_CODE_WITH_BARS = re.compile(r"`[^`\n]*\\\|[^`\n]*`")
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that belong to other folders of the repository."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in generated parts, turn links to files that are not on the site into plain text, and unescape bars in code:
    in a table GitHub asks for the backslash, and Python-Markdown shows it."""
    markdown = markdown.replace("<!-- generated: cli -->", "\n".join(_cli()))
    markdown = markdown.replace("<!-- generated: layers -->", "\n".join(_layers()))
    markdown = _CODE_WITH_BARS.sub(lambda code: code[0].replace(r"\|", "|"), markdown)
    return _LINK.sub(lambda link: _resolved(link, page.file.src_uri, files), markdown)


def _resolved(link: re.Match[str], page: str, files: Files) -> str:
    text, target, anchor = link[1], link[2], link[3] or ""
    if "://" in target:
        return link[0]
    source = ROOT / page if page.startswith(("benchmarks/", "prototxt/", "tests/")) else ROOT / "docs" / page
    path = (source.parent / target).resolve()
    if not path.exists():
        return link[0]  # a broken link, which MkDocs reports
    for base in (ROOT / "docs", ROOT):
        uri = str(path.relative_to(base)) if path.is_relative_to(base) else ""
        if uri and files.get_file_from_path(uri):
            here = Path(page).parent
            up = "../" * len(here.parts)
            return f"[{text}]({up}{uri}{anchor})"
    return text if text.startswith("`") else f"`{path.relative_to(ROOT)}`" if text == target else text


def _cli() -> Iterator[str]:
    for name, command in _commands(make_parser()):
        yield f"## {name}\n\n```\n{command.format_help().rstrip()}\n```\n"


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command.prog, command
                yield from _commands(command)


def _layers() -> Iterator[str]:
    evidence = read_evidence()
    rows = layers_table(evidence)
    yield f"{len(rows)} layer types, {len(evidence.proofs)} cases, run in {evidence.caffe}.\n"
    yield "| type | dialects | phases | cases | runs | largest relative difference | in ulp |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        numbers = ("not compared", "") if row["relative"] is None else (f"{row['relative']:.2g}", f"{row['ulp']:.3g}")
        yield (f"| {row['type']} | {', '.join(row['dialects'])} | {', '.join(row['phases'])} | {row['cases']} | "
               f"{row['runs']} | {numbers[0]} | {numbers[1]} |")
