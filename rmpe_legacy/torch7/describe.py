"""Describes a .t7 file as text: its encoding, which network it is, its modules and other contents."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any

from .network_kind import Part, kind, part_of_object
from .objects import Function, Storage, Table, Tensor, Torch7Object, is_module, text
from .reader import Torch7File, read_torch7, walk

MAX_LINES = 60  # per object, and maximum number of objects, so that a table of a million entries stays readable
_SHOWN = ("nInputPlane", "nOutputPlane", "kW", "kH", "dW", "dH", "padW", "padH", "groups", "eps", "scale_factor",
          "dimension", "height", "width", "p", "threshold", "val", "inplace", "ceil_mode", "train")


def describe_torch7(path: str | PathLike, depth: int = 3, long_size: int | None = None) -> str:
    """Describe a .t7 file as text.

    Args:
        path: The file.
        depth: Levels of modules or tables to list.
        long_size: See ``read_torch7``.

    Raises:
        FileError: The file cannot be read.
    """
    file = read_torch7(path, long_size)
    lines = [f"{file.path}: a Torch7 file, {_encoding(file)}, {file.size:,} bytes"]
    for i, root in enumerate(file.objects[:MAX_LINES]):
        if len(file.objects) > 1:
            lines += ["", f"object {i + 1} of {len(file.objects)}:"]
        lines += _network(root, depth) if is_module(root) else _limited(_contents(root, depth))
    if len(file.objects) > MAX_LINES:
        lines += ["", f"... and {len(file.objects) - MAX_LINES:,} more objects"]
    if file.trailing:
        lines += ["", f"{file.trailing:,} bytes at the end hold no object"]
    return "\n".join(lines)


def _encoding(file: Torch7File) -> str:
    return file.encoding if file.encoding == "ascii" else f"{file.encoding}, longs of {file.long_size} bytes"


def _network(root: Torch7Object, depth: int) -> Iterator[str]:
    what = kind(part_of_object(root))
    yield f"network: {what}" if what else f"network: {root.class_name}"
    modules = list(_modules(root))
    values, storages = _parameters(modules)
    yield f"{values:,} parameters ({4 * values / 1e6:.1f} MB in single precision) in {_many(storages, 'storage')}; " \
          f"{_many(len(modules), 'module')}"
    training = sum(m.get("train") is True for m in modules)
    yield "mode: " + (f"training, in {_many(training, 'module')}" if training else "evaluation")
    if functions := sum(isinstance(value, Function) for value in walk(root)):
        yield f"{_many(functions, 'Lua function')}, never run"
    yield ""
    yield from _limited(_tree(root, depth), 200)


def _modules(root: Torch7Object) -> Iterator[Torch7Object]:
    """Yield each module once, from the outside in."""
    seen, waiting = set(), [root]
    while waiting:
        module = waiting.pop()
        if id(module) in seen or not isinstance(module, Torch7Object):
            continue
        seen.add(id(module))
        yield module
        children = module.get("modules")
        waiting += reversed(children.seq()) if isinstance(children, Table) else []


def _parameters(modules: list[Torch7Object]) -> tuple[int, int]:
    """Count the (values, storages) of all weights and biases; shared ones count once."""
    views = {}
    for module in modules:
        for name in ("weight", "bias"):
            value = module.get(name)
            if isinstance(value, Tensor) and value.storage is not None:
                views[id(value.storage), value.start, value.count] = value.count
    return sum(views.values()), len({storage for storage, _, _ in views})


def _tree(root: Torch7Object, depth: int) -> Iterator[str]:
    """List nested modules, `depth` levels deep."""
    known: dict[int, Part] = {}
    waiting = [iter([("", root)])]  # by level: what is left of it, in no list of its own, as a file can make it long
    while waiting:
        label, module = next(waiting[-1], (None, None))
        if label is None:
            waiting.pop()
            continue
        level = len(waiting) - 1
        children = module.get("modules") if isinstance(module, Torch7Object) else None
        parts = children.seq() if isinstance(children, Table) else []
        hidden = f", {_many(len(parts), 'module')}" if parts and level >= depth else ""
        yield f"{'  ' * level}{label}{_module(module, known)}{hidden}"
        waiting.append((f"({i}) ", part) for i, part in enumerate(parts if level < depth else [], 1))


def _module(module: Any, known: dict[int, Part]) -> str:
    if not isinstance(module, Torch7Object):
        return repr(module)
    settings = [f"{name} {_scalar(module.get(name))}" for name in _SHOWN if module.get(name) not in (None, False)]
    weights = [f"{name} {_sizes(module.get(name))}" for name in ("weight", "bias", "running_mean")
               if isinstance(module.get(name), Tensor)]
    what = kind(part_of_object(module, known))
    return module.class_name + (f" [{what}]" if what else "") + "".join(f", {s}" for s in settings + weights)


def _contents(root: Any, depth: int) -> Iterator[str]:
    """Describe any value; tables and unknown objects with their entries."""
    waiting: list[tuple[int, str, Any]] = [(0, "", root)]
    seen: set[int] = set()
    while waiting:
        level, label, value = waiting.pop()
        again = id(value) in seen and isinstance(value, (Table, Torch7Object))
        yield f"{'  ' * level}{label}{_value(value)}{' (see above)' if again else ''}"
        table = value.fields if isinstance(value, Torch7Object) else value
        if isinstance(table, Table) and not again and level < depth:
            seen.add(id(value))
            entries = [(level + 1, f"{_key(k)} = ", v) for k, v in table.items()]
            waiting += reversed(entries)


def _value(value: Any) -> str:
    if isinstance(value, Table):
        return f"table of {len(value)}"
    if isinstance(value, Torch7Object):
        return f"{value.class_name}, version {value.version:g}"
    if isinstance(value, Tensor):
        return f"{value.class_name} {_sizes(value)}"
    if isinstance(value, Storage):
        return f"{value.class_name} of {len(value)}"
    if isinstance(value, Function):
        return f"function, {len(value.code)} bytes of bytecode"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, bytes):
        short = text(value[:60]).encode("utf-8", "replace").decode("utf-8")
        return ascii(short) + (f"... ({len(value)} bytes)" if len(value) > 60 else "")
    return repr(value)


def _key(key: Any) -> str:
    return text(key) if isinstance(key, bytes) and text(key).isidentifier() else f"[{_value(key)}]"


def _sizes(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.size)) or "empty"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _limited(lines: Iterator[str], most: int = MAX_LINES) -> Iterator[str]:
    """Return the first lines; the rest is not counted."""
    for i, line in enumerate(lines):
        if i == most:
            yield "..."
            return
        yield line
