"""What every format has: seeds, mutations, a place for the input, readers to call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from mutate import mutate_bytes, mutate_message, mutate_text

GOLDEN = Path(__file__).parents[3] / "tests" / "golden"
Readers = Iterable[Callable[[], Any]]


def golden(pattern: str, largest: int, most: int = 60) -> list[bytes]:
    """Files of tests/golden, a fair choice where there are many."""
    paths = sorted(path for path in GOLDEN.glob(pattern) if 0 < path.stat().st_size <= largest)
    return [path.read_bytes() for path in Random(1).sample(paths, min(most, len(paths)))]


class Target:
    """A format. Subclasses say what differs."""

    suffix = ""

    def __init__(self) -> None:
        self.all = self.seeds()

    def seeds(self) -> Sequence[bytes]:
        raise NotImplementedError

    def mutant(self, random: Random) -> bytes:
        return self.mutate(random, random.choice(self.all))

    def mutate(self, random: Random, seed: bytes) -> bytes:
        return mutate_bytes(random, seed, self.all)

    def place(self, data: bytes, folder: Path) -> Path:
        """Write the input where readers look for it."""
        path = folder / f"input{self.suffix}"
        path.write_bytes(data)
        return path

    def readers(self, path: Path, random: Random) -> Readers:
        """What is to be called; each may raise an RmpeError, and nothing else."""
        raise NotImplementedError


class TextTarget(Target):
    """A format of words and numbers."""

    def mutate(self, random: Random, seed: bytes) -> bytes:
        if random.random() < 0.1:
            return mutate_bytes(random, seed, self.all)
        others = [random.choice(self.all).decode("utf-8", "replace")]
        return mutate_text(random, seed.decode("utf-8", "replace"), others).encode("utf-8", "surrogatepass")


class MessageTarget(Target):
    """A format of protobuf messages."""

    def mutate(self, random: Random, seed: bytes) -> bytes:
        change = mutate_message if random.random() < 0.6 else mutate_bytes
        return change(random, seed, self.all)
