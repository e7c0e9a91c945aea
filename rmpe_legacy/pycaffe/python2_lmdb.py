"""``lmdb`` for scripts in Python 2, whose keys were text and bytes alike."""

from __future__ import annotations

from collections.abc import Iterator
from functools import wraps
from types import ModuleType
from typing import Any

from .python2_values import to_text


def take_text(module: ModuleType) -> None:
    """Let the environments of ``lmdb.open``, and their transactions and cursors, accept text as bytes, and return keys
    as text.
    """
    today = module.open

    @wraps(today)
    def opened(*args: Any, **options: Any) -> _TakingText:
        return _TakingText(today(*args, **options), (module.Transaction, module.Cursor))

    module.open = opened  # type: ignore[attr-defined]


class _TakingText:
    """An environment, transaction, cursor or iterator of lmdb's."""

    def __init__(self, real: Any, kinds: tuple[type, ...]):
        self._real, self._kinds = real, kinds

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if not callable(method):
            return method

        @wraps(method)
        def call(*args: Any, **options: Any) -> Any:
            result = method(*map(_raw, args), **{key: _raw(value) for key, value in options.items()})
            if isinstance(result, self._kinds) or hasattr(result, "__next__"):
                return _TakingText(result, self._kinds)
            return to_text(result) if name == "key" else _with_text_key(result)

        return call

    def __enter__(self) -> _TakingText:
        self._real.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._real.__exit__(*error)

    def __iter__(self) -> Iterator[Any]:
        return map(_with_text_key, iter(self._real))

    def __next__(self) -> Any:
        return _with_text_key(next(self._real))


def _raw(value: Any) -> Any:
    if isinstance(value, _TakingText):
        return value._real
    return value.encode("latin-1") if isinstance(value, str) else value


def _with_text_key(entry: Any) -> Any:
    """A key with its value, the key as text; anything else as it is."""
    if type(entry) is tuple and len(entry) == 2 and isinstance(entry[0], bytes):
        return to_text(entry[0]), entry[1]
    return entry
