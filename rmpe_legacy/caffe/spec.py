"""The specification of one layer, and the layers of a network after phase rules and splits. No tensors here.

Source: Net::FilterNet, Net::StateMeetsRule (net.cpp:285-376) and insert_splits.cpp of RMPE@5188c23.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rmpe_legacy.errors import LayerError
from rmpe_legacy.wording import did_you_mean, shorten

from .proto.message import Message
from .proto.schema import load_schema

MAX_REASON = 3000  # characters of one error
PHASES = ("TRAIN", "TEST")
DE_TRANSFORM = ("paper", "published-identity", "published-ignored")


@dataclass(frozen=True)
class NetState:
    """The state that include and exclude rules are matched against."""

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()

    def meets(self, rule: Message) -> bool:
        """Return whether this state satisfies a NetStateRule; fields that the rule does not set always match."""
        if rule.has("phase") and rule.phase != self.phase:
            return False
        if rule.has("min_level") and self.level < rule.min_level:
            return False
        if rule.has("max_level") and self.level > rule.max_level:
            return False
        return set(rule.stage) <= set(self.stages) and not set(rule.not_stage) & set(self.stages)


@dataclass(frozen=True)
class ParamSpec:
    """Sharing and learning rates of one parameter of a layer."""

    name: str = ""
    share_mode: str = "STRICT"
    lr_mult: float = 1.0
    decay_mult: float = 1.0
    propagate_down: bool | None = None  # param_propagate_down, which forks have; None if it is not given


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """One layer after upgrade and phase rules: its blobs, and its parameters as in the file."""

    name: str
    type: str
    bottom: tuple[str, ...]
    top: tuple[str, ...]
    phase: str
    message: Message = field(repr=False)  # the LayerParameter
    where: str = field(repr=False)
    loss_weight: tuple[float, ...] = ()
    propagate_down: tuple[bool, ...] = ()
    params: tuple[ParamSpec, ...] = ()
    de_transform: str | None = None  # the meaning of `de_transform: true`; see DE_TRANSFORM
    is_inserted: bool = False  # a Split that insert_splits added
    strict: bool = True  # False: ignore unsupported options that change no blob
    allow_python: bool | None = False  # whether to import the module of a Python layer; None: as False, but
    # the layer is refused only when it is built
    is_fed: bool = False  # with strict=False: a data layer that is not supported; the caller passes its tops
    # What `reshape` takes for a number of rows that only `forward` can tell; None: what the published layer begins with
    assumed_rows: int | None = None

    @property
    def rows(self) -> int:
        """A number of rows that only `forward` can tell, for layers that begin with 1."""
        return 1 if self.assumed_rows is None else self.assumed_rows

    @property
    def dialect(self) -> str:
        return self.message.descriptor.schema.dialect

    def get(self, name: str) -> Message:
        """Return a field of the LayerParameter, with defaults: ``spec.get("pooling_param").kernel_size``.

        Also returns fields that the schema lacks: ``spec.get("my_param")`` is the parsed message of a user's own layer.

        Raises:
            LayerError: The schema has no such field, and the file does not set it.
        """
        try:
            return getattr(self.message, name)
        except AttributeError:
            given = [f"'{shorten(u.name)}'" for u in self.message.unknown if not u.is_value][:10]
            beside = f"; besides Caffe's fields, the file gives it {', '.join(given)}" if given else ""
            raise self.error(f"has no {name}{beside}") from None

    def has(self, name: str) -> bool:
        """Return whether the file sets this field, which may be Caffe's or the user's own."""
        return self.message.has(name) or any(u.name == name and not u.is_value for u in self.message.unknown)

    def error(self, reason: str) -> LayerError:
        """Return a LayerError with file, line, layer and type before the reason."""
        reason = shorten(reason, MAX_REASON)
        error = LayerError(f"{self.where}: {shorten(self.name)} ({shorten(self.type)}): {reason}")
        error.spec, error.reason = self, reason
        return error

    def __deepcopy__(self, memo: dict) -> LayerSpec:
        return self  # nothing in it changes


def layer_specs(net: Message, state: NetState, **settings: Any) -> list[LayerSpec]:
    """Return the layers of an upgraded NetParameter that the state includes, in file order.

    Args:
        net: A NetParameter in the current layout.
        state: Selects layers by their include and exclude rules.
        settings: As for ``layer_spec``.
    """
    return [layer_spec(layer, state.phase, **settings) for layer in net.layer if _included(layer, state)]


def layer_spec(layer: Message, phase: str = "TEST", **settings: Any) -> LayerSpec:
    """Make a spec from a LayerParameter.

    Args:
        layer: The LayerParameter.
        phase: The network's phase; the layer's own phase, if set, overrides it.
        settings: The LayerSpec fields de_transform, strict and allow_python.

    Raises:
        LayerError: The layer has no type, or the wrong number of propagate_down entries.
    """
    params = tuple(
        ParamSpec(p.name, p.share_mode, p.lr_mult, p.decay_mult, p.fields.get("param_propagate_down"))
        for p in layer.param
    )
    spec = LayerSpec(
        layer.name, layer.fields.get("type", ""), tuple(layer.bottom), tuple(layer.top),
        layer.phase if layer.has("phase") else phase, layer, layer.where,
        tuple(layer.loss_weight), tuple(layer.propagate_down), params, **settings,
    )
    if not spec.type:
        raise spec.error("a layer needs a type")
    if spec.propagate_down and len(spec.propagate_down) != len(spec.bottom):
        raise spec.error(f"propagate_down is given {len(spec.propagate_down)} times for {len(spec.bottom)} bottoms; "
                         "give it once per bottom, or not at all")
    return spec


def _included(layer: Message, state: NetState) -> bool:
    if layer.include and layer.exclude:
        raise layer_spec(layer, state.phase).error("has include rules and exclude rules; keep one kind")
    if layer.include:
        return any(map(state.meets, layer.include))
    return not any(map(state.meets, layer.exclude))


def insert_splits(specs: Sequence[LayerSpec]) -> list[LayerSpec]:
    """Insert a Split layer for each top that is read more than once, named as in Caffe.

    A blob is identified by its last writer, so an in-place layer starts a new top of the same name. A loss weight
    counts as another reader.

    Raises:
        NetError: No earlier layer computes a bottom.
    """
    sources, readers = _wiring(specs)
    taken: Counter[tuple[int, int]] = Counter()  # split tops already handed out
    out = []
    for i, spec in enumerate(specs):
        bottoms = list(spec.bottom)
        for j, source in enumerate(sources[i]):
            if readers[source] > 1:
                bottoms[j] = _split_name(specs[source[0]].name, bottoms[j], source[1], taken[source])
                taken[source] += 1
        splits = []
        kept = spec.loss_weight
        for j, top in enumerate(spec.top):
            if readers[i, j] > 1:
                weight = spec.loss_weight[j] if j < len(spec.loss_weight) else 0.0
                splits.append(_split(spec, top, j, readers[i, j], weight))
                if weight:
                    kept = ()
                    taken[i, j] += 1
        is_same = tuple(bottoms) == spec.bottom and kept == spec.loss_weight
        out.append(spec if is_same else replace(spec, bottom=tuple(bottoms), loss_weight=kept))
        out += splits
    return out


def _wiring(specs: Sequence[LayerSpec]) -> tuple[list[list[tuple[int, int]]], Counter[tuple[int, int]]]:
    """Return, for each layer, the (layer, top) of each bottom; and how often each (layer, top) is read."""
    made: dict[str, tuple[int, int]] = {}
    sources = []
    readers: Counter[tuple[int, int]] = Counter()
    for i, spec in enumerate(specs):
        for bottom in spec.bottom:
            if bottom not in made:
                raise _no_such_bottom(specs, i, bottom)
        sources.append([made[bottom] for bottom in spec.bottom])
        readers.update(sources[-1])
        made |= {top: (i, j) for j, top in enumerate(spec.top)}
        readers.update(made[top] for top, weight in zip(spec.top, spec.loss_weight, strict=False) if weight)
    return sources, readers


def _no_such_bottom(specs: Sequence[LayerSpec], at: int, bottom: str) -> LayerError:
    spec = specs[at]
    if bottom in spec.top:
        return spec.error(f"its bottom '{shorten(bottom)}' is its own top, which no earlier layer produces")
    later = next((s for s in specs[at:] if bottom in s.top), None)
    if later is not None:
        return spec.error(f"its bottom '{shorten(bottom)}' is produced only later, by {shorten(later.name)} "
                          f"({later.where}); layers run in file order, so move that layer up, or break the cycle")
    near = did_you_mean(bottom, [top for s in specs[:at] for top in s.top])
    return spec.error(f"no earlier layer produces its bottom '{shorten(bottom)}'{near}")


def _split_name(layer: str, blob: str, top: int, k: int) -> str:
    return f"{blob}_{layer}_{top}_split_{k}"


def _split(spec: LayerSpec, blob: str, top: int, count: int, weight: float) -> LayerSpec:
    message = Message(load_schema(spec.dialect)["LayerParameter"], None, spec.message.origin, spec.message.position)
    return LayerSpec(
        f"{blob}_{spec.name}_{top}_split", "Split", (blob,),
        tuple(_split_name(spec.name, blob, top, k) for k in range(count)),
        spec.phase, message, spec.where,
        (weight,) + (0.0,) * (count - 1) if weight else (),
        is_inserted=True,
    )
