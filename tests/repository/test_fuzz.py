"""The fuzzer itself: inputs that can be made again, and a judge that sees every kind of finding."""

import os
import subprocess
import sys
import time
from random import Random

import pytest
from paths import ROOT

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.reading import reading

TOOL = ROOT / "tools" / "fuzz"


@pytest.fixture
def fuzz(monkeypatch):
    """The tool's modules."""
    monkeypatch.syspath_prepend(str(TOOL))
    import minimise
    import targets
    import worker

    yield type("Fuzz", (), {"worker": worker, "targets": targets, "minimise": minimise})
    for name in ("minimise", "targets", "worker", "mutate"):
        sys.modules.pop(name, None)


def _refuse() -> None:
    raise FileError("input: is damaged")


def _unchecked() -> None:
    with reading("input", "file"):
        raise MemoryError


def _busy() -> None:
    end = time.process_time() + 2.3
    while time.process_time() < end:
        pass


READERS = {
    "an answer": (lambda: 1, ""), "a sentence": (_refuse, ""),
    "another exception": (lambda: [][0], "IndexError at"), "an allocation": (_unchecked, "unchecked allocation at"),
    "a long line": (lambda: _raise("x" * 3000), "long message at"),
    "a printed line": (lambda: sys.stdout.write("x\n"), "prints"),
    "a line of a library": (lambda: os.write(2, b"x\n"), "prints"),
    "much memory": (lambda: bytes(range(256)) * (1 << 20), "memory"), "much time": (_busy, "slow"),
}


def _raise(text: str) -> None:
    error = RmpeError()
    error.args = (text,)  # past the cut that RmpeError makes
    raise error


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.usefixtures("capfd")  # standard output and standard error are files, as in the fuzzer
def test_the_judge_sees(fuzz, tmp_path, kind):
    read, wrong = READERS[kind]

    class Only(fuzz.targets.Target):
        def seeds(self):
            return [b"seed"]

        def readers(self, path, random):
            return [read]

    found = fuzz.worker.Judge(Only(), tmp_path)(b"data", Random(1))
    assert found.startswith(wrong) if wrong else found == ""


@pytest.mark.parametrize("name", ["caffemodel", "h5", "t7", "npz", "mat", "lmdb", "leveldb", "json", "safetensors",
                                  "pt", "picture", "text", "prototxt"])
def test_an_input_has_a_number(fuzz, name):
    """The same in every run, and different from the others."""
    target = fuzz.targets.TARGETS[name]()
    first = [fuzz.worker.case(target, "1", number)[0] for number in range(40)]
    again = [fuzz.worker.case(target, "1", number)[0] for number in reversed(range(40))]
    assert first == again[::-1]
    assert len(set(first)) > 30
    assert first != [fuzz.worker.case(target, "2", number)[0] for number in range(40)]


def test_a_small_input_is_left(fuzz):
    data = bytes(range(1, 200)) * 5
    small = fuzz.minimise.minimise(data, lambda smaller: b"\x07" in smaller and b"\x63" in smaller, 10)
    assert sorted(small) == [0x07, 0x63]


def test_a_run(tmp_path):
    done = subprocess.run([sys.executable, TOOL, "npz", "1", "--seed", "3", "--keep", tmp_path / "found"],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("npz: ")
    assert done.stdout.rstrip().endswith("no findings (seed 3)")
    assert list((tmp_path / "found").iterdir()) == []


def test_a_run_of_so_many_inputs(tmp_path):
    done = subprocess.run([sys.executable, TOOL, "npz", "300", "--inputs", "25", "--keep", tmp_path / "found"],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("npz: 25 mutated inputs in ")


def test_one_input_again(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK")
    done = subprocess.run([sys.executable, TOOL, "npz", "--replay", tmp_path / "a.npz"], capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no finding\n", "")
