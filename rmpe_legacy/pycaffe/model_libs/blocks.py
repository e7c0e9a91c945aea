"""The parts that the networks are made of: convolution with batch normalisation, residual block, Inception tower."""
# ruff: noqa: N802, N803  the scripts' names

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rmpe_legacy.errors import InputError
from rmpe_legacy.pycaffe import settings
from rmpe_legacy.pycaffe.net_spec import NetSpec, layers

FROZEN = {"lr_mult": 0, "decay_mult": 0}
STATISTICS = [FROZEN] * 3  # of a BatchNorm: mean, variance, and how much they weigh
XAVIER = {"param": [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
          "weight_filler": {"type": "xavier"}, "bias_filler": {"type": "constant", "value": 0}}


def of_rmpe() -> bool:
    """Return whether RMPE's builders are selected rather than SSD's."""
    return settings.current.messages == "rmpe"


def UnpackVariable(var: Any, num: int) -> list:
    """Return a list of `num` values: `var` if it is such a list, otherwise `var` or its only item repeated.

    Raises:
        InputError: `var` has another number of items.
    """
    values = var if isinstance(var, list) else [var]
    if len(values) not in (1, num):
        raise InputError(f"{len(values)} values are given for {num}; give one, or {num}")
    return values * num if len(values) == 1 else values


def ConvBNLayer(net: NetSpec, from_layer: str, out_layer: str, use_bn: bool, use_relu: bool, num_output: int,
                kernel_size: Any, pad: Any, stride: Any, for_HG_module: bool = False, use_scale: bool = True,
                eps: float = 0.001, conv_prefix: str = "", conv_postfix: str = "", bn_prefix: str = "",
                bn_postfix: str = "_bn", scale_prefix: str = "", scale_postfix: str = "_scale", bias_prefix: str = "",
                bias_postfix: str = "_bias", dilation: int = 1, lr_mult: float = 1, **bn_params: Any) -> None:
    """Add a Convolution and, if requested, BatchNorm with Scale (or Bias) and an in-place ReLU.

    Sizes are numbers, or [h, w]. for_HG_module is RMPE's hourglass: a bias in the convolution, and EltwiseAffine
    instead of Scale. dilation, lr_mult and bn_params (moving_average_fraction, use_global_stats) are SSD's.
    """
    name = f"{conv_prefix}{out_layer}{conv_postfix}"
    weights = {"lr_mult": lr_mult, "decay_mult": 1}
    bias = {"lr_mult": 2 * lr_mult, "decay_mult": 0}
    filler: dict[str, Any] = {"type": "gaussian", "std": 0.01} if use_bn else {"type": "xavier"}
    options: dict[str, Any] = {"weight_filler": filler}
    if not use_bn or for_HG_module:
        options |= {"param": [weights, bias], "bias_filler": {"type": "constant", "value": 0}}
    else:
        options["param"] = [weights]
    if use_bn:
        options["bias_term"] = for_HG_module
    if dilation > 1:
        options["dilation"] = dilation
    options |= _sizes(kernel_size, pad, stride)
    net[name] = layers.Convolution(net[from_layer], num_output=num_output, **options)
    if use_bn:
        _batch_norm(net, name, f"{bn_prefix}{out_layer}{bn_postfix}", f"{scale_prefix}{out_layer}{scale_postfix}",
                    f"{bias_prefix}{out_layer}{bias_postfix}", for_HG_module, use_scale, eps, lr_mult, bn_params)
    if use_relu:
        net[f"{name}_relu"] = layers.ReLU(net[name], in_place=True)


def _sizes(kernel_size: Any, pad: Any, stride: Any) -> dict[str, Any]:
    """The fields of a ConvolutionParameter: one size where the kernel is square, else those of each axis."""
    pairs = {"kernel": UnpackVariable(kernel_size, 2), "pad": UnpackVariable(pad, 2),
             "stride": UnpackVariable(stride, 2)}
    if pairs["kernel"][0] == pairs["kernel"][1]:
        return {"kernel_size" if name == "kernel" else name: h for name, (h, _) in pairs.items()}
    return {f"{name}_{axis}": size for name, pair in pairs.items() for axis, size in zip("hw", pair, strict=True)}


def _batch_norm(net: NetSpec, conv: str, bn: str, scale: str, bias: str, for_hourglass: bool, use_scale: bool,
                eps: float, lr_mult: float, bn_params: dict[str, Any]) -> None:
    options: dict[str, Any] = {"param": STATISTICS, "eps": bn_params.get("eps", eps)}
    if bn_params.get("use_global_stats", False):
        options["use_global_stats"] = True
        lr_mult = 0
    elif not of_rmpe():
        options["moving_average_fraction"] = bn_params.get("moving_average_fraction", 0.999)
    net[bn] = layers.BatchNorm(net[conv], in_place=True, **options)
    learned = {"lr_mult": lr_mult, "decay_mult": 0}
    if not use_scale:
        net[bias] = layers.Bias(net[bn], in_place=True, param=[learned], filler={"type": "constant", "value": 0.0})
    elif for_hourglass:
        net[scale] = _affine(net, bn)
    else:
        first = {"lr_mult": lr_mult, "decay_mult": 1} if of_rmpe() else learned
        net[scale] = layers.Scale(net[bn], in_place=True, bias_term=True, param=[first, learned],
                                  filler={"type": "constant", "value": 1.0},
                                  bias_filler={"type": "constant", "value": 0.0})


def _affine(net: NetSpec, blob: str) -> Any:
    return layers.EltwiseAffine(net[blob], in_place=True, channel_shared=False,
                                param=[{"lr_mult": 1, "decay_mult": 0}] * 2)


def ResBody(net: NetSpec, from_layer: str, block_name: str, out2a: int, out2b: int, out2c: int, stride: int,
            use_branch1: bool, for_HG_module: bool = False, dilation: int = 1, **bn_param: Any) -> None:
    """Add a residual block, "res<block_name>": 1 x 1, 3 x 3 and 1 x 1 convolutions, added to the block's input or, with
    use_branch1, to a 1 x 1 convolution of it.

    In RMPE's hourglass the batch normalisation and the ReLU come before each convolution.
    """
    def conv(source: str, branch: str, size: int, kernel: int, before_sum: bool, **more: Any) -> str:
        ConvBNLayer(net, source, branch, not (before_sum and for_HG_module), not before_sum, size, kernel,
                    for_HG_module=for_HG_module, conv_prefix=f"res{block_name}_", bn_prefix=f"bn{block_name}_",
                    bn_postfix="", scale_prefix=f"scale{block_name}_", scale_postfix="", **more, **bn_param)
        return f"res{block_name}_{branch}"

    shortcut = from_layer
    if use_branch1:
        shortcut = conv(from_layer, "branch1", out2c, 1, before_sum=True, pad=0, stride=stride)
    if for_HG_module:
        norm = f"{from_layer}_bn"
        net[norm] = layers.BatchNorm(net[from_layer], param=STATISTICS, eps=0.001)
        net[f"{norm}_scale"] = _affine(net, norm)
        from_layer = f"{norm}_scale_relu"
        net[from_layer] = layers.ReLU(net[f"{norm}_scale"], in_place=True)
    a = conv(from_layer, "branch2a", out2a, 1, before_sum=False, pad=0, stride=stride)
    b = conv(a, "branch2b", out2b, 3, before_sum=False, pad=dilation, stride=1, dilation=dilation)
    c = conv(b, "branch2c", out2c, 1, before_sum=True, pad=0, stride=1)
    name = f"res{block_name}"
    net[name] = layers.Eltwise(net[shortcut], net[c])
    if not for_HG_module:
        net[f"{name}_relu"] = layers.ReLU(net[name], in_place=True)


def InceptionTower(net: NetSpec, from_layer: str, tower_name: str, layer_params: Sequence[dict[str, Any]],
                   **bn_param: Any) -> Any:
    """Add a chain of layers named "<tower_name>/<name>": poolings if the name contains "pool", otherwise convolutions.

    Args:
        net: The NetSpec that receives the layers.
        from_layer: The blob that the chain reads.
        tower_name: The prefix of the layers' names.
        layer_params: The name and options of each layer.
        bn_param: Options of the batch normalisations (SSD's).

    Returns:
        The last layer's Top.
    """
    for params in layer_params:
        options = {key: value for key, value in params.items() if key != "name"}
        layer = f"{tower_name}/{params['name']}"
        if "pool" in layer:
            net[layer] = layers.Pooling(net[from_layer], **options)
        else:
            ConvBNLayer(net, from_layer, layer, use_bn=True, use_relu=True, use_scale=False, **options, **bn_param)
        from_layer = layer
    return net[from_layer]
