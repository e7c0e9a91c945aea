"""``Registry``: a table that modules fill with decorators, where each key can be taken once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Registry(Mapping[K, V]):
    """Maps keys, such as layer types, to registered objects; read it like a dict.

    A second registration of a key raises ValueError, so that no module silently replaces another's work.
    """

    def __init__(self, kind: str):
        """
        Args:
            kind: What a key is, for error messages: "layer type", "filler".
        """
        self.kind = kind
        self._entries: dict[K, V] = {}

    def register(self, *keys: K) -> Callable[[V], V]:
        """Return a decorator that registers a class or function under each of `keys`."""

        def decorate(value: V) -> V:
            for key in keys:
                self.add(key, value)
            return value

        return decorate

    def add(self, key: K, value: V) -> None:
        """Register `value` under `key`.

        Raises:
            ValueError: The key is taken.
        """
        if key in self._entries:
            owner = self._entries[key]
            raise ValueError(f"{self.kind} {key!r} is taken by {getattr(owner, '__qualname__', owner)}")
        self._entries[key] = value

    def pop(self, key: K, default: V | None = None) -> V | None:
        """Forget a registration, for example one that a test made; returns what was registered, or `default`."""
        return self._entries.pop(key, default)

    def get(self, key: K, default: Any = None) -> Any:
        return self._entries.get(key, default)  # Mapping's own catches an exception

    def __getitem__(self, key: K) -> V:
        return self._entries[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
