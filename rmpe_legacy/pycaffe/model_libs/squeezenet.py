"""SqueezeNet, as RMPE's spatial transformer localises with it."""
# ruff: noqa: N802, N803  the scripts' names

from __future__ import annotations

from rmpe_legacy.pycaffe.net_spec import NetSpec, layers, params

from .blocks import ConvBNLayer
from .vgg import check_there

_FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}


def SqueezeNetBody(net: NetSpec, from_layer: str, for_HG_module: bool = False) -> NetSpec:
    """Add SqueezeNet with batch normalisation, and `theta`: six numbers that are initialised from its bias filler."""
    check_there(net, from_layer)

    def conv(below: str, name: str, width: int, kernel: int, pad: int) -> str:
        ConvBNLayer(net, below, name, use_bn=True, use_relu=True, num_output=width, kernel_size=kernel, pad=pad,
                    stride=1, for_HG_module=for_HG_module)
        return name

    def pool(below: str, name: str) -> str:
        net[name] = layers.Pooling(net[below], pool=params.Pooling.MAX, kernel_size=3, stride=2)
        return name

    below = pool(conv(from_layer, "conv1", 64, 3, 0), "pool1s")
    for number, (squeezed, expanded) in _FIRES.items():
        fire = f"fire{number}"
        squeeze = conv(below, f"{fire}/squeeze1x1", squeezed, 1, 0)
        parts = [conv(squeeze, f"{fire}/expand1x1", expanded, 1, 0), conv(squeeze, f"{fire}/expand3x3", expanded, 3, 1)]
        below = f"{fire}/concat"
        net[below] = layers.Concat(*(net[part] for part in parts), axis=1)
        if number in (3, 5):
            below = pool(below, f"pool{number}")
    net.drop9 = layers.Dropout(net[below], dropout_ratio=0.5, in_place=True)
    conv("drop9", "conv10", 6, 1, 0)
    net.theta = layers.InnerProduct(
        net.conv10, num_output=6, param={"lr_mult": 1, "decay_mult": 1}, bias_term=True,
        weight_filler={"type": "constant", "value": 0},
        bias_filler={"type": "file", "file": "examples/mppp/util/bias_init.txt"})
    return net
