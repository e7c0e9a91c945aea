"""Networks written in Python: ``NetSpec``, ``layers``, ``params`` and ``to_proto``.

Source: python/caffe/net_spec.py of RMPE@5188c23, which adds keys, vals, update and del to BVLC's.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rmpe_legacy.wording import did_you_mean

from . import settings
from .errors import ArgumentError, NameOfBlobError, NoFieldError
from .proto import caffe_pb2

_Names = dict[Any, str]


class Top:
    """One output blob of a layer: the n-th of `fn`."""

    def __init__(self, fn: Function, n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> Any:
        """Return a NetParameter with the layers that make this blob."""
        return to_proto(self)

    def _to_proto(self, layers: OrderedDict, names: _Names, autonames: Counter) -> None:
        self.fn._to_proto(layers, names, autonames)

    def _update(self, params: Mapping[str, Any]) -> None:
        self.fn.params.update(params)


class Function:
    """A layer: its type, the Tops that it reads, and its parameters.

    Two of the parameters are not the layer's own: ntop, the number of its tops (1 by default), and in_place, whether
    its tops are the blobs that it reads.
    """

    def __init__(self, type_name: str, inputs: Sequence[Top], params: Mapping[str, Any]):
        for i, value in enumerate(inputs):
            if not isinstance(value, Top):
                raise ArgumentError(f"{type_name} input {i} is not a Top (type is {type(value)})")
        self.type_name = type_name
        self.inputs = tuple(inputs)
        self.params = dict(params)
        self.ntop = self.params.pop("ntop", 1)
        self.in_place = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def _name_of(self, item: Function | Top, names: _Names, autonames: Counter) -> str:
        """The name that was given to a layer or blob, or the next free "Convolution1" of its type."""
        if item not in names:
            autonames[self.type_name] += 1
            names[item] = f"{self.type_name}{autonames[self.type_name]}"
        return names[item]

    def _to_proto(self, layers: OrderedDict, names: _Names, autonames: Counter) -> None:
        """Put the layers that this one reads into `layers`, and then itself."""
        if self in layers:
            return
        for value in self.inputs:
            value._to_proto(layers, names, autonames)
        layer = caffe_pb2.LayerParameter(type=self.type_name)
        layer.bottom.extend(layers[value.fn].top[value.n] for value in self.inputs)
        layer.top.extend(layer.bottom if self.in_place else
                         [self._name_of(top, names, autonames) for top in self.tops])
        if self not in names and self.tops:
            names[self] = self._name_of(self.tops[0], names, autonames)
        layer.name = self._name_of(self, names, autonames)
        own = _own_param(self.type_name)
        for name, value in self.params.items():
            message = layer if own is None or name.endswith("param") else getattr(layer, own)
            self._assign(message if name in message.DESCRIPTOR.fields_by_name else layer, name, value)
        layers[self] = layer

    def _assign(self, message: Any, name: str, value: Any) -> None:
        if name not in message.DESCRIPTOR.fields_by_name:
            near = did_you_mean(name, message.DESCRIPTOR.fields_by_name)
            raise NoFieldError(f"{self.type_name}: a layer of dialect {settings.current.messages!r} has no parameter "
                               f"{name!r}{near or '; give those of another message as convolution_param=dict(...)'}")
        assign_proto(message, name, value)


def _own_param(type_name: str) -> str | None:
    """The field of a LayerParameter that holds the parameters of a type: "convolution_param"; None if it has none."""
    for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields:
        message = field.message_type
        if message is not None and message.name == f"{type_name}Parameter" and field.name.endswith("_param"):
            return field.name
    return None


def assign_proto(proto: Any, name: str, val: Any) -> None:
    """Set a message's field from Python values: a dict for a message, a list for a repeated field.

    A single value for a repeated field stands for a list of one.
    """
    field = getattr(proto, name)
    if hasattr(field, "extend"):
        values = val if isinstance(val, list | tuple) else [val]
        if values and isinstance(values[0], Mapping):
            for value in values:
                _fill(field.add(), value)
        else:
            field.extend(values)
    elif isinstance(val, Mapping):
        _fill(field, val)
    else:
        setattr(proto, name, val)


def _fill(message: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        assign_proto(message, name, value)


class NetSpec:
    """A network under construction: ``n.conv1 = layers.Convolution(n.data, ...)`` names a blob, and its layer after it.
    """

    tops: OrderedDict[str, Any]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by copy and pickle
            raise AttributeError(name)
        if name not in self.tops:
            near = did_you_mean(name, self.tops)
            raise NameOfBlobError(f"the NetSpec has no blob {name!r}{near or '; assign it first'}")
        return self.tops[name]

    def __delitem__(self, name: str) -> None:
        del self.tops[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getitem__(self, name: str) -> Any:
        return self.__getattr__(name)

    def keys(self) -> list[str]:
        """Return the names, in the order of assignment."""
        return list(self.tops)

    def vals(self) -> list[Any]:
        """Return the Tops, in the order of assignment."""
        return list(self.tops.values())

    def update(self, name: str, params: Mapping[str, Any]) -> None:
        """Set parameters of the layer that makes a blob."""
        self[name]._update(params)

    def to_proto(self) -> Any:
        """Return a NetParameter with the layers that make the blobs, each after those that it reads."""
        return _net(self.tops.values(), {top: name for name, top in self.tops.items()})


def to_proto(*tops: Top) -> Any:
    """Return a NetParameter with the layers that make these blobs, named after the layers' types."""
    return _net(tops, {})


def _net(tops: Iterable[Any], names: _Names) -> Any:
    layers: OrderedDict[Function, Any] = OrderedDict()
    autonames: Counter[str] = Counter()
    for top in tops:
        top._to_proto(layers, names, autonames)
    net = caffe_pb2.NetParameter()
    net.layer.extend(layers.values())
    return net


class Layers:
    """Makes layers: ``layers.Convolution(bottom, num_output=64)`` returns the Top of a new layer.

    Returns several Tops if ntop is above 1, and the Function itself if it is 0.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def make(*inputs: Top, **params: Any) -> Any:
            fn = Function(name, inputs, params)
            return fn if fn.ntop == 0 else fn.tops[0] if fn.ntop == 1 else fn.tops
        return make


class _Enums:
    """The values of the enums of one parameter message."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(caffe_pb2, f"{self._name}Parameter"), name)


class Parameters:
    """Enum values by name: ``params.Pooling.MAX`` is the number of that value of PoolingParameter."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Enums(name)


layers = Layers()
params = Parameters()
