"""The random numbers of Caffe's data layers, draw by draw: boost's mt19937 and the C library's rand().

Sources: common.cpp:39-75, rng.hpp, math_functions.cpp:230-257 of RMPE@5188c23; boost/random/uniform_real and
uniform_int; glibc's rand() (additive feedback, TYPE_3); std::random_shuffle of libstdc++.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, MutableSequence
from typing import Any

import numpy as np

UINT32 = 1 << 32
RAND_MAX = (1 << 31) - 1
BLOCK = 256  # draws made at a time
MT_WORDS = 624  # of mt19937's state
LIBRARY_WORDS = 34  # of the state of the C library's rand()


class CaffeRandom:
    """One of Caffe's random streams, as started by ``caffe.set_random_seed(seed)``."""

    def __init__(self, seed: int):
        self._bits = np.random.MT19937()
        self._bits._legacy_seeding(seed % UINT32)  # mt19937's own seeding, which differs from numpy's
        self._ahead = np.empty(0, np.uint64)  # drawn, but not used yet
        self._at = 0

    def state(self) -> dict[str, Any]:
        """The stream's position, for `restore`, as JSON-compatible values."""
        state = self._bits.state["state"]
        return {"words": _packed(state["key"]), "at": int(state["pos"]),
                "ahead": _packed(self._ahead[self._at :].astype(np.uint32))}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`.

        Raises:
            KeyError, TypeError, ValueError: The argument is not such a state.
        """
        words, at = _unpacked(state["words"]), state["at"]
        if len(words) != MT_WORDS or not isinstance(at, int) or not 0 <= at <= MT_WORDS:
            raise ValueError("not a state of mt19937")
        ahead = _unpacked(state["ahead"]).astype(np.uint64)
        self._bits.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": at}}
        self._ahead, self._at = ahead, 0

    def peek(self, count: int) -> np.ndarray:
        """Return the next `count` draws of 32 bits without consuming them; (count,) uint64."""
        if self._at + count > len(self._ahead):
            more = self._bits.random_raw(max(count, BLOCK))
            self._ahead, self._at = np.concatenate([self._ahead[self._at :], more]), 0
        return self._ahead[self._at : self._at + count]

    def skip(self, count: int) -> None:
        """Consume draws returned by `peek`."""
        self._at += count

    def raw(self) -> int:
        """Return the next 32 bits: caffe_rng_rand()."""
        value = int(self.peek(1)[0])
        self._at += 1
        return value

    def below(self, n: int) -> int:
        """Return 0 to n - 1 as Caffe does for crops, mirrors and windows: 32 bits modulo n."""
        return self.raw() % n

    def uniform(self, low: float, high: float) -> np.float32:
        """Return a single-precision number from low to high, inclusive: caffe_rng_uniform."""
        while True:
            value, good = uniform_of(np.uint64(self.raw()), np.float32(low), np.float32(high))
            if good:
                return value

    def shuffle(self, items: MutableSequence) -> None:
        """Shuffle in place like caffe::shuffle: Fisher-Yates from the end."""
        for i in range(len(items) - 1, 0, -1):
            bucket, rest = divmod(UINT32 - 1, i + 1)
            bucket += rest == i
            j = self.raw() // bucket
            while j > i:
                j = self.raw() // bucket
            items[i], items[j] = items[j], items[i]


def _packed(words: np.ndarray) -> str:
    return b64encode(np.ascontiguousarray(words, "<u4").tobytes()).decode()


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(b64decode(text, validate=True), "<u4").astype(np.uint32)


def uniform_of(raw, low, high):
    """32 bits each -> (a single-precision number from low to high each, whether boost takes it or draws again)."""
    end = np.nextafter(high, np.float32(np.inf))
    value = raw.astype(np.float32) / np.float32(UINT32) * (end - low) + low
    return value, value < end


class LibraryRandom:
    """The C library's rand() after srand(seed). A program that never calls srand has seed 1."""

    def __init__(self, seed: int = 1):
        word = seed % UINT32 or 1
        word -= UINT32 if word >= UINT32 // 2 else 0
        state = [word % UINT32]
        for _ in range(30):
            high, low = int(word / 127773), word - int(word / 127773) * 127773  # C's division truncates towards zero
            word = 16807 * low - 2836 * high
            word += RAND_MAX if word < 0 else 0
            state.append(word)
        self._state = state + state[:3]
        for _ in range(310):
            self._step()

    def state(self) -> list[int]:
        """The stream's position, for `restore`, as JSON-compatible values."""
        return list(self._state)

    def restore(self, state: list[int]) -> None:
        """Continue from a `state`.

        Raises:
            TypeError, ValueError: The argument is not such a state.
        """
        words = [int(word) for word in state]
        if len(words) != LIBRARY_WORDS or not all(0 <= word < UINT32 for word in words):
            raise ValueError("not a state of rand()")
        self._state = words

    def _step(self) -> int:
        value = (self._state[-31] + self._state[-3]) % UINT32
        self._state.append(value)
        del self._state[0]
        return value

    def rand(self) -> int:
        """Return 0 to RAND_MAX."""
        return self._step() >> 1

    def uniform(self, low: float, high: float) -> np.float32:
        """Return a single-precision number from low to high, as DataHeatmap does for angles
        (data_heatmap.cpp:797-802).
        """
        begin, end = np.float32(low), np.float32(high)
        return begin + np.float32(self.rand()) / np.float32(RAND_MAX) * (end - begin)

    def shuffle(self, items: MutableSequence) -> None:
        """Shuffle in place like std::random_shuffle."""
        for i in range(1, len(items)):
            j = self.rand() % (i + 1)
            if j != i:
                items[i], items[j] = items[j], items[i]
