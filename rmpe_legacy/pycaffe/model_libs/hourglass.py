"""RMPE's stacked hourglass."""
# ruff: noqa: N802, N803  the scripts' names

from __future__ import annotations

from rmpe_legacy.pycaffe.net_spec import NetSpec, layers, params

from .blocks import FROZEN, ConvBNLayer, ResBody


def HourGlass(net: NetSpec, from_layer: str, name: str, n: int, In: int, out: int, final_relu: bool = False) -> None:
    """Add an hourglass of n sizes, from In channels to out, whose last blob is `name`.

    Differs: RMPE's function fails with final_relu, because it uses an undefined name; here a ReLU follows.
    """
    def residual(below: str, part: str, width: int, branch: bool) -> str:
        ResBody(net, below, f"{name}_{part}", width // 2, width // 2, width, stride=1, use_branch1=branch,
                for_HG_module=True)
        return f"res{name}_{part}"

    up = residual(from_layer, "up1", 256, In != 256)
    up = residual(residual(up, "up2", 256, False), "up4", out, out != 256)
    net[f"{name}_pool1"] = layers.Pooling(net[from_layer], pool=params.Pooling.MAX, kernel_size=2, stride=2)
    low = residual(f"{name}_pool1", "low1", 256, In != 256)
    low = residual(residual(low, "low2", 256, False), "low5", 256, False)
    if n > 1:
        HourGlass(net, low, f"{name}_low6", n - 1, 256, out)
        low = f"{name}_low6"
    else:
        low = residual(low, "low6", out, out != 256)
    low = residual(low, "low7", out, False)
    net[f"{name}_Up5"] = layers.Deconvolution(net[low], param=[FROZEN], convolution_param={
        "num_output": out, "group": out, "kernel_size": 2, "stride": 2, "pad": 0, "bias_term": False,
        "weight_filler": {"type": "nearest"}})
    net[name] = layers.Eltwise(net[up], net[f"{name}_Up5"])
    if final_relu:
        net[f"{name}_relu"] = layers.ReLU(net[name], in_place=True)


def HGStacked(net: NetSpec, from_layer: str) -> NetSpec:
    """Add two stacked hourglasses, whose last blob `output` holds the heatmaps of 16 joints."""
    def conv(below: str, name: str, width: int, norm: bool, kernel: int = 1, pad: int = 0, stride: int = 1) -> None:
        ConvBNLayer(net, below, name, use_bn=norm, use_relu=norm, use_scale=norm, num_output=width,
                    kernel_size=kernel, pad=pad, stride=stride, for_HG_module=True, bn_prefix="bn_", bn_postfix="",
                    scale_prefix="scale_", scale_postfix="")

    def residual(below: str, block: str, width: int, branch: bool) -> None:
        ResBody(net, below, block, width // 2, width // 2, width, stride=1, use_branch1=branch, for_HG_module=True)

    conv(from_layer, "conv1_b", 64, norm=True, kernel=7, pad=3, stride=2)
    residual("conv1_b", "1", 128, branch=True)
    net.pool1 = layers.Pooling(net.res1, pool=params.Pooling.MAX, kernel_size=2, stride=2)
    residual("pool1", "4", 128, branch=False)
    residual("res4", "5", 128, branch=False)
    residual("res5", "6", 256, branch=True)

    HourGlass(net, "res6", "hg1", n=4, In=256, out=512)
    conv("hg1", "linear1", 512, norm=True)
    conv("linear1", "linear2", 256, norm=True)
    conv("linear2", "out1", 16, norm=False)
    conv("out1", "out1_", 384, norm=False)
    net.concat1 = layers.Concat(net.linear2, net.pool1, axis=1)
    conv("concat1", "concat1_CN", 384, norm=False)
    net.int1 = layers.Eltwise(net.concat1_CN, net.out1_)

    HourGlass(net, "int1", "hg2", n=4, In=384, out=512)
    conv("hg2", "linear3", 512, norm=True)
    conv("linear3", "linear4", 512, norm=True)
    conv("linear4", "output", 16, norm=False)
    return net
