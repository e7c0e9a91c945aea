"""Inception v3."""
# ruff: noqa: N802  the scripts' names

from __future__ import annotations

from typing import Any

from rmpe_legacy.pycaffe.net_spec import NetSpec, layers, params

from .blocks import ConvBNLayer, InceptionTower

_Layers = list[dict[str, Any]]


def InceptionV3Body(net: NetSpec, from_layer: str, output_pred: bool = False, **bn_param: Any) -> NetSpec:
    """Add Inception v3; output_pred adds the classifier of 1008 classes."""
    below = _stem(net, from_layer, bn_param)
    for name, towers in _MODULES:
        below = _module(net, below, name, towers, bn_param)
    for number, pool in ((9, params.Pooling.AVE), (10, params.Pooling.MAX)):
        below = _split_module(net, below, f"mixed_{number}", pool, bn_param)
    if output_pred:
        net.pool_3 = layers.Pooling(net[below], pool=params.Pooling.AVE, kernel_size=8, pad=0, stride=1)
        net.softmax = layers.InnerProduct(net.pool_3, num_output=1008)
        net.softmax_prob = layers.Softmax(net.softmax)
    return net


def _stem(net: NetSpec, below: str, bn_param: dict[str, Any]) -> str:
    for name, width, kernel, pad, stride in (
            ("conv", 32, 3, 0, 2), ("conv_1", 32, 3, 0, 1), ("conv_2", 64, 3, 1, 1), ("pool", 0, 3, 0, 2),
            ("conv_3", 80, 1, 0, 1), ("conv_4", 192, 3, 0, 1), ("pool_1", 0, 3, 0, 2)):
        if width:
            ConvBNLayer(net, below, name, use_bn=True, use_relu=True, num_output=width, kernel_size=kernel, pad=pad,
                        stride=stride, use_scale=False, **bn_param)
        else:
            net[name] = layers.Pooling(net[below], pool=params.Pooling.MAX, kernel_size=kernel, stride=stride, pad=pad)
        below = name
    return below


def _conv(name: str, width: int, kernel: Any = 1, stride: int = 1, pad: Any = None) -> dict[str, Any]:
    """A convolution of a tower; its pad keeps the size, unless it is strided or says otherwise."""
    if isinstance(kernel, list):
        return {"name": name, "num_output": width, "kernel_size": kernel, "pad": [size // 2 for size in kernel],
                "stride": [stride, stride]}
    pad = (0 if stride > 1 else kernel // 2) if pad is None else pad
    return {"name": name, "num_output": width, "kernel_size": kernel, "pad": pad, "stride": stride}


def _pool(kind: int, stride: int = 1) -> dict[str, Any]:
    return {"name": "pool", "pool": kind, "kernel_size": 3, "pad": 2 - stride, "stride": stride}


_MAX, _AVE = 0, 1  # PoolingParameter's numbers


def _small(last: int) -> list[tuple[str, _Layers]]:
    """1 x 1, 5 x 5, two 3 x 3, and a pooling."""
    return [("", [_conv("conv", 64)]),
            ("/tower", [_conv("conv", 48), _conv("conv_1", 64, 5)]),
            ("/tower_1", [_conv("conv", 64), _conv("conv_1", 96, 3), _conv("conv_2", 96, 3)]),
            ("/tower_2", [_pool(_AVE), _conv("conv", last)])]


def _long(width: int) -> list[tuple[str, _Layers]]:
    """1 x 1, and rows of 1 x 7 and 7 x 1."""
    wide, tall = [1, 7], [7, 1]
    return [("", [_conv("conv", 192)]),
            ("/tower", [_conv("conv", width), _conv("conv_1", width, wide), _conv("conv_2", 192, tall)]),
            ("/tower_1", [_conv("conv", width), _conv("conv_1", width, tall), _conv("conv_2", width, wide),
                          _conv("conv_3", width, tall), _conv("conv_4", 192, wide)]),
            ("/tower_2", [_pool(_AVE), _conv("conv", 192)])]


_MODULES: list[tuple[str, list[tuple[str, _Layers]]]] = [
    ("mixed", _small(32)), ("mixed_1", _small(64)), ("mixed_2", _small(64)),
    ("mixed_3", [("", [_conv("conv", 384, 3, 2)]),
                 ("/tower", [_conv("conv", 64), _conv("conv_1", 96, 3), _conv("conv_2", 96, 3, 2)]),
                 ("", [_pool(_MAX, 2)])]),
    ("mixed_4", _long(128)), ("mixed_5", _long(160)), ("mixed_6", _long(160)), ("mixed_7", _long(192)),
    ("mixed_8", [("/tower", [_conv("conv", 192), _conv("conv_1", 320, 3, 2)]),
                 ("/tower_1", [_conv("conv", 192), _conv("conv_1", 192, [1, 7]), _conv("conv_2", 192, [7, 1]),
                               _conv("conv_3", 192, 3, 2)]),
                 ("", [_pool(_MAX, 2)])]),
]


def _module(net: NetSpec, below: str, name: str, towers: list[tuple[str, _Layers]], bn_param: dict[str, Any]) -> str:
    """Towers side by side; returns the name of what joins them."""
    tops = [InceptionTower(net, below, f"{name}{suffix}", stack, **bn_param) for suffix, stack in towers]
    net[f"{name}/join"] = layers.Concat(*tops, axis=1)
    return f"{name}/join"


def _split_module(net: NetSpec, below: str, name: str, pool: int, bn_param: dict[str, Any]) -> str:
    """The last modules: two of their towers end in a 1 x 3 beside a 3 x 1."""
    tops = [InceptionTower(net, below, name, [_conv("conv", 320)], **bn_param)]
    stacks = {"/tower": [_conv("conv", 384)], "/tower_1": [_conv("conv", 448), _conv("conv_1", 384, 3)]}
    for suffix, stack in stacks.items():
        tower = f"{name}{suffix}"
        InceptionTower(net, below, tower, stack, **bn_param)
        source = f"{tower}/{stack[-1]['name']}"
        ends = [InceptionTower(net, source, f"{tower}/mixed", [end], **bn_param)
                for end in (_conv("conv", 384, [1, 3]), _conv("conv_1", 384, [3, 1]))]
        net[f"{tower}/mixed"] = layers.Concat(*ends, axis=1)
        tops.append(net[f"{tower}/mixed"])
    tops.append(InceptionTower(net, below, f"{name}/tower_2", [_pool(pool), _conv("conv", 192)], **bn_param))
    net[f"{name}/join"] = layers.Concat(*tops, axis=1)
    return f"{name}/join"
