"""ResNet-101 and ResNet-152."""
# ruff: noqa: N802  the scripts' names

from __future__ import annotations

from typing import Any

from rmpe_legacy.pycaffe.net_spec import NetSpec, layers, params

from .blocks import ConvBNLayer, ResBody


def ResNet101Body(net: NetSpec, from_layer: str, use_pool5: bool = True, use_dilation_conv5: bool = False,
                  **bn_param: Any) -> NetSpec:
    """Add ResNet-101; use_dilation_conv5 keeps the size in the fifth stage by dilation."""
    return _body(net, from_layer, 3, 22, use_pool5, use_dilation_conv5, bn_param)


def ResNet152Body(net: NetSpec, from_layer: str, use_pool5: bool = True, use_dilation_conv5: bool = False,
                  **bn_param: Any) -> NetSpec:
    """Add ResNet-152; options as for ``ResNet101Body``."""
    return _body(net, from_layer, 7, 35, use_pool5, use_dilation_conv5, bn_param)


def _body(net: NetSpec, from_layer: str, blocks3: int, blocks4: int, use_pool5: bool, use_dilation_conv5: bool,
          bn_param: dict[str, Any]) -> NetSpec:
    ConvBNLayer(net, from_layer, "conv1", use_bn=True, use_relu=True, num_output=64, kernel_size=7, pad=3, stride=2,
                bn_prefix="bn_", bn_postfix="", scale_prefix="scale_", scale_postfix="", **bn_param)
    net.pool1 = layers.Pooling(net.conv1, pool=params.Pooling.MAX, kernel_size=3, stride=2)
    stages = (
        (64, ["2a", "2b", "2c"], 1),
        (128, ["3a", *(f"3b{i + 1}" for i in range(blocks3))], 2),
        (256, ["4a", *(f"4b{i + 1}" for i in range(blocks4))], 2),
        (512, ["5a", "5b", "5c"], 1 if use_dilation_conv5 else 2),
    )
    below = "pool1"
    for width, blocks, stride in stages:
        dilation: dict[str, Any] = {"dilation": 2} if width == 512 and use_dilation_conv5 else {}
        for block in blocks:
            first = block == blocks[0]
            ResBody(net, below, block, width, width, 4 * width, stride if first else 1, first, **dilation, **bn_param)
            below = f"res{block}"
    if use_pool5:
        net.pool5 = layers.Pooling(net[below], pool=params.Pooling.AVE, global_pooling=True)
    return net
