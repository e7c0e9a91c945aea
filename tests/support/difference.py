"""One array of a golden beside ours, and the sentence that a failing test prints about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from paths import TESTS


@dataclass(frozen=True)
class Difference:
    """An array as the original gave it, and as we give it."""

    name: str  # as in the case's file: blob_conv1, diff_data, pdiff_conv1_0
    want: np.ndarray
    got: np.ndarray
    source: Path | str = ""  # the file that holds `want`
    original: str = "Caffe"  # the program that gave `want`
    largest: float | None = None  # what `error` is relative to; None: the largest finite value of `want`

    @property
    def absolute(self) -> float:
        """The largest difference; inf where shapes differ, or where one is not finite and the other is another."""
        apart = self._apart()
        return np.inf if apart is None else float(apart.max(initial=0))

    @property
    def error(self) -> float:
        """The largest difference, relative to `largest`; inf where shapes differ.

        Values that are not finite must be the same ones.
        """
        return self.absolute / self._largest() if self.absolute else 0.0

    @property
    def ulp(self) -> float:
        """The largest difference in units of the last place, in single precision, of the array's largest value."""
        return self.error * float(2.0**24 * np.frexp(np.float32(self._largest()))[0])

    def _largest(self) -> float:
        if self.largest is not None:
            return self.largest
        return float(np.abs(self.want[np.isfinite(self.want)]).max(initial=np.finfo(np.float32).tiny))

    def _apart(self) -> np.ndarray | None:
        """The distance of each value; None where shapes differ."""
        want, got = np.asarray(self.want, np.float64), np.asarray(self.got, np.float64)
        if want.shape != got.shape:
            return None
        same = (want == got) | (np.isnan(want) & np.isnan(got))
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0.0, np.abs(want - got))
        return np.where(np.isnan(apart), np.inf, apart)

    def sentence(self, limit: float, relative: bool = True) -> str:
        """Array, index, the original's value, ours, the error, the limit and the file."""
        source = Path(self.source)
        where = f" ({source.relative_to(TESTS.parent) if source.is_relative_to(TESTS) else source})"
        where = where if self.source else ""
        apart = self._apart()
        if apart is None:
            return f"{self.name}: {self.original} gave shape {self.want.shape}, we gave {self.got.shape}{where}"
        index = np.unravel_index(int(apart.argmax()), apart.shape)
        error = f"{self.error:.3g} of the largest value" if relative else f"{self.absolute:.3g}"
        place = "".join(f"[{i}]" for i in index)
        return (f"{self.name}{place}: {self.original} {self.want[index]!s}, ours {self.got[index]!s}, "
                f"error {error}, limit {limit:.3g}{where}")

    def is_within(self, limit: float, relative: bool = True) -> bool:
        """Whether the error, relative or absolute, is at most `limit`."""
        return (self.error if relative else self.absolute) <= limit


def beyond(differences: Iterable[Difference], limit: float, relative: bool = True) -> list[str]:
    """A sentence about each that is further apart than `limit`."""
    return [d.sentence(limit, relative) for d in differences if not d.is_within(limit, relative)]


class Golden(dict[str, np.ndarray]):
    """The arrays of one case; a check against one fails with its sentence."""

    def __init__(self, arrays: Mapping[str, np.ndarray], source: Path | str, original: str = "Caffe"):
        super().__init__(arrays)
        self.source, self.original = source, original

    @classmethod
    def read(cls, path: Path, original: str = "Caffe") -> Golden:
        """The arrays of an .npz file."""
        return cls(np.load(path), path, original)

    def difference(self, name: str, got: np.ndarray, shape: tuple[int, ...] | None = None) -> Difference:
        """From the array of this name, which may be reshaped first."""
        want = self[name] if shape is None else self[name].reshape(shape)
        return Difference(name, want, np.asarray(got), self.source, self.original)

    def check(self, name: str, got: np.ndarray, limit: float = 0, shape: tuple[int, ...] | None = None) -> None:
        """Fail if a value is further than `limit`, an absolute number, from the array of this name."""
        wrong = beyond([self.difference(name, got, shape)], limit, relative=False)
        assert not wrong, wrong[0]
