"""Files that were damaged or made to harm, in tests/hostile: each ends in an answer or a sentence, soon, and in memory
that its size accounts for. What is trusted, and what not: docs/security.md.

They are read in two processes, with and without torch, that may take 1 GB: a crash or a hang costs that process only.
"""

import json
import lzma
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from paths import TESTS

HOSTILE = TESTS / "hostile"
READER = TESTS / "support" / "hostile_reader.py"
SECONDS = 2.0  # of the processor, for a file of less than 1 MB
MEMORY, SPARE = 64 << 20, 16 << 20  # bytes beyond four times the file; and what allocators keep
STARTS = 60  # seconds for the imports of a process, and for one file at most

LIGHT = {
    "bracket-left-open.npz": "data: not an array that can be read",
    "driver-block-of-gigabytes.h5": "read: {'data': (20, 2, 6, 6), 'label': (20,)}",
    "comma-in-descr.npz": "not a readable .npz file: File is not a zip file",
    "cell-of-many-dimensions.mat": "20000 dimensions, more than 32",
    "label-of-text.h5": "/label: holds text, not numbers",
    "descr-left-open.npz": "read: {}",
    "dimensions-without-end.caffemodel": "a blob's shape with 100000 dimensions, more than 32",
    "dimensions-without-end.mat": "1000000 dimensions, more than 32",
    "empty-layers-without-end.caffemodel": "more than 65536 messages and unknown fields",
    "groups-linked-in-all-ways.h5": "/data/top/b is a second link to /data/top/a",
    "groups-without-end.h5": "more than 32 nested groups",
    "header-left-open.npy": "its header does not give type, order and shape once each",
    "heap-of-a-gigabyte.h5": "no object header at byte 0",
    "huge-and-plain.gif": "claims to be 13000 x 13000 pixels, which its 35 bytes cannot hold",
    "huge-and-plain.pbm": "claims to be 20000 x 20000 pixels, more than 178956970",
    "huge-and-plain.png": "claims to be 13000 x 13000 pixels, which its 20625 bytes cannot hold",
    "huge-and-plain.tiff": "claims to be 30000 x 30000 pixels, more than 178956970",
    "a-million-tiles.jp2": "not a readable image",
    "keys-with-a-long-beginning.leveldb": "a key of 500008 bytes",
    "negative-shape.npy": "its header does not give type, order and shape once each",
    "no-values.h5": "/data/c/0: holds no values",
    "nothing-times-huge.mat": "dimensions (0, 2147483647, 2147483647, 2147483647, 2147483647)",
    "one-block-without-end.leveldb": "two links to the block at byte 0",
    "one-table-in-all-levels.leveldb": "table 5 at level 1, which is listed twice or too deep",
    "pages-linked-in-all-ways.mdb": "two links to page 32",
    "struct-of-many-dimensions.mat": "600 dimensions, more than 32",
    "text-that-unpacks-to-gigabytes.png": "read: (4, 4, 3)",
    "two-numbers-in-one-place.npy": "holds values other than numbers and text",
    "unpacks-to-more-than-it-says.npz": "not a readable .npz file: Bad CRC-32",
    "values-in-many-pieces.caffemodel": "a blob's shape () with 170000 values",
    "zeros-without-end.h5": "/data: claims 268435456 bytes, too much for a file of 265520 bytes",
    "zeros-without-end.mat": "holds more than 39 MB, too much for a file of its size",
    "zeros-without-end.npz": "data claims 134217800 bytes, too much for a file of 130653 bytes",
}
TORCH = {
    "70-dimensions.safetensors": "a.w has a shape of 70 dimensions, which no array has",
    "a-billion-modules.t7": "more than 100000 modules, counted where they are used",
    "a-long-line.t7": "holds <torch.IntStorage of 1 at byte 0>, not a network",
    "code.pt": "a call of posix.system, which is never executed",
    "graph-that-ends-in-nothing.t7": "node 8 lacks an input",
    "half-a-surrogate-pair.json": "holds half of a surrogate pair",
    "input-of-terabytes.onnx": "its input 'x' is 1048576 x 1048576, too large for a random input",
    "lists-in-many-places.t7": "more than 100000 modules, counted where they are used",
    "name-of-an-output-that-is-not-utf8.onnx": "'utf-8' codec can't decode byte 0xa0",
    "name-that-is-not-utf8.onnx": "'utf-8' codec can't decode byte 0xff",
    "nested.json": "not a readable JSON file: nested too deep",
    "nested.safetensors": "not a readable safetensors file: Error while deserializing header",
    "number-of-21-digits.json": "read: 0.8999",
    "number-of-300-digits.json": "read: 2",
    "one-person.json": "is not an rmpe_legacy network",
    "two-gigabytes.pt": "a call of builtins.bytearray, which is never executed",
}
FAMILIES = {"light": LIGHT, "torch": TORCH}


def unpacked(folder: Path) -> None:
    """Every file as its reader wants it: without .xz, and a store as a folder."""
    for path in HOSTILE.iterdir():
        if path.name.endswith(".tar.xz"):
            with tarfile.open(path) as archive:
                archive.extractall(folder / path.name.removesuffix(".tar.xz"), filter="data")
        elif path.suffix == ".xz":
            (folder / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
        else:
            (folder / path.name).write_bytes(path.read_bytes())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    """What became of each file; a file that ended its process, or took too long, has {"wrong": why}."""
    folder = tmp_path_factory.mktemp("hostile")
    unpacked(folder)
    found: dict[str, dict] = {}
    for family, cases in FAMILIES.items():
        left = [folder / name for name in cases]
        while left:
            said, why = run(family, left)
            found |= {each["file"]: each for each in said}
            left = left[len(said) :]
            if left:
                found[left.pop(0).name] = {"wrong": why}
    return found | {"folder": folder}


def run(family: str, paths: list[Path]) -> tuple[list[dict], str]:
    """One process: what it said of the first files, and how it ended at the next one."""
    command = [sys.executable, READER, family]
    given = "".join(f"{path}\n" for path in paths)
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False,
                              timeout=STARTS + 2 * SECONDS * len(paths))
        out, why = done.stdout, f"exit code {done.returncode}: {done.stderr[-1500:]}"
    except subprocess.TimeoutExpired as error:
        out, why = (error.stdout or b"").decode(), "it hangs"
    return [json.loads(line) for line in out.splitlines()], why


def test_every_file_has_a_case():
    names = {path.name.removesuffix(".xz").removesuffix(".tar") for path in HOSTILE.iterdir()}
    assert names == {*LIGHT, *TORCH}


@pytest.mark.parametrize("name", [*LIGHT, *TORCH])
def test_ends_in_an_answer_or_a_sentence(outcomes, name):
    outcome, words = outcomes[name], (LIGHT | TORCH)[name]
    assert "wrong" not in outcome, outcome["wrong"]
    assert words in outcome["said"]
    assert outcome["said"].startswith(("read: ", f"{outcomes['folder'] / name}"))
    assert len(outcome["said"]) < 500
    path = outcomes["folder"] / name
    size = sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
    assert outcome["seconds"] < SECONDS * max(1, size / 1e6)
    assert outcome["memory"] < 4 * size + MEMORY + SPARE
