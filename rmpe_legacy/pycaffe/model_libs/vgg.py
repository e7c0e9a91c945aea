"""VGG-16 in the forms that SSD and RMPE use, and ZF's network."""
# ruff: noqa: N802  the scripts' names

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rmpe_legacy.errors import InputError
from rmpe_legacy.pycaffe.net_spec import NetSpec, layers, params
from rmpe_legacy.wording import shorten_list

from .blocks import FROZEN, STATISTICS, XAVIER, of_rmpe

_CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each stage


@dataclass(frozen=True)
class _Widths:
    """How many channels a network has."""

    stages: tuple[int, ...]
    strided: tuple[int, ...]  # of the convolutions that stand where there is no pooling
    full: int  # fc6 and fc7
    fc6_kernel: int = 3  # where these are reduced


_VGG = _Widths((64, 128, 256, 512, 512), (64, 128, 256, 512, 512), 4096)
_BN = _Widths((64, 32, 64, 128, 128), (32, 64, 64, 128, 128), 2048)
_BN_KERNEL_1 = _Widths((64, 64, 128, 256, 256), (64, 128, 128, 256, 256), 2048, fc6_kernel=1)


def VGGNetBody(net: NetSpec, from_layer: str, need_fc: bool = True, fully_conv: bool = False, reduced: bool = False,
               dilated: bool = False, nopool: bool = False, dropout: bool = True, freeze_layers: Sequence[str] = (),
               dilate_pool4: bool = False) -> NetSpec:
    """Add VGG-16 up to relu5_3, or with fc6 and fc7.

    Args:
        net: The NetSpec that receives the layers.
        from_layer: The blob that the first layer reads.
        need_fc: Add fc6 and fc7.
        fully_conv: Make fc6 and fc7 convolutions.
        reduced: Give fc6 and fc7 1024 channels instead of 4096.
        dilated: Give pool5 stride 1, and dilate fc6 to compensate.
        nopool: Use strided convolutions instead of poolings.
        dropout: Add Dropouts after fc6 and fc7.
        freeze_layers: Names of layers that do not learn.
        dilate_pool4: Give pool4 stride 1, and dilate the fifth stage to compensate (SSD's).
    """
    return _body(net, from_layer, _VGG, False, need_fc, fully_conv, reduced, dilated, nopool, dropout, freeze_layers,
                 dilate_pool4)


def VGGNetBodyBN(net: NetSpec, from_layer: str, need_fc: bool = True, fully_conv: bool = False, reduced: bool = False,
                 dilated: bool = False, nopool: bool = False, dropout: bool = True,
                 freeze_layers: Sequence[str] = ()) -> NetSpec:
    """Add RMPE's VGG-16 with batch normalisation and fewer channels; options as for ``VGGNetBody``."""
    return _body(net, from_layer, _BN, True, need_fc, fully_conv, reduced, dilated, nopool, dropout, freeze_layers)


def VGGNetBodyBNkernel1(net: NetSpec, from_layer: str, need_fc: bool = True, fully_conv: bool = False,
                        reduced: bool = False, dilated: bool = False, nopool: bool = False, dropout: bool = True,
                        freeze_layers: Sequence[str] = ()) -> NetSpec:
    """Add RMPE's VGG-16 with batch normalisation and a 1 x 1 fc6; options as for ``VGGNetBody``."""
    return _body(net, from_layer, _BN_KERNEL_1, True, need_fc, fully_conv, reduced, dilated, nopool, dropout,
                 freeze_layers)


def _body(net: NetSpec, from_layer: str, widths: _Widths, norm: bool, need_fc: bool, fully_conv: bool, reduced: bool,
          dilated: bool, nopool: bool, dropout: bool, freeze_layers: Sequence[str],
          dilate_pool4: bool = False) -> NetSpec:
    check_there(net, from_layer)
    below, dilation = from_layer, 1
    for stage, count in enumerate(_CONVOLUTIONS, 1):
        explicit = {} if stage < 5 or of_rmpe() or norm else {"dilation": dilation}
        for i in range(1, count + 1):
            _conv(net, f"{stage}_{i}", below, widths.stages[stage - 1], norm, pad=dilation, **explicit)
            below = f"relu{stage}_{i}"
        if stage == 5 and not need_fc:
            break
        unstrided = (stage == 5 and dilated) or (stage == 4 and dilate_pool4)
        below = _shrink(net, stage, count, below, widths, norm, nopool, unstrided)
        if stage == 4 and dilate_pool4 and not nopool:
            dilation = 2
    if need_fc:
        _full(net, below, widths, norm, fully_conv, reduced, dilated, dropout, dilation)
    freeze(net, freeze_layers)
    return net


def _conv(net: NetSpec, number: str, below: str, width: int, norm: bool, pad: int, **more: Any) -> None:
    name = f"conv{number}"
    net[name] = layers.Convolution(net[below], num_output=width, pad=pad, kernel_size=3, **more, **XAVIER)
    if norm:
        _norm(net, name)
    net[f"relu{number}"] = layers.ReLU(net[name], in_place=True)


def _norm(net: NetSpec, name: str) -> None:
    net[f"{name}_bn"] = layers.BatchNorm(net[name], in_place=True, param=STATISTICS, eps=0.001)
    net[f"{name}_sb"] = layers.Scale(net[f"{name}_bn"], in_place=True, bias_term=True,
                                     param=[{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 1, "decay_mult": 0}],
                                     filler={"type": "constant", "value": 1.0},
                                     bias_filler={"type": "constant", "value": 0.0})


def _shrink(net: NetSpec, stage: int, count: int, below: str, widths: _Widths, norm: bool, nopool: bool,
            unstrided: bool) -> str:
    """What ends a stage: a pooling, or a strided convolution; returns its name."""
    if nopool:
        name = f"conv{stage}_{count + 1}"
        stride = 1 if unstrided and stage == 5 else 2
        net[name] = layers.Convolution(net[below], num_output=widths.strided[stage - 1], pad=1, kernel_size=3,
                                       stride=stride, **XAVIER)
        if norm and stage <= 2:
            _norm(net, name)
        return name
    name = f"pool{stage}"
    window = {"pad": 1, "kernel_size": 3, "stride": 1} if unstrided else {"kernel_size": 2, "stride": 2}
    net[name] = layers.Pooling(net[below], pool=params.Pooling.MAX, **window)
    return name


def _full(net: NetSpec, below: str, widths: _Widths, norm: bool, fully_conv: bool, reduced: bool, dilated: bool,
          dropout: bool, dilation: int) -> None:
    """fc6 and fc7."""
    width = 1024 if reduced and fully_conv else widths.full
    if fully_conv:
        kernel, factor = (3, 6 if dilated else 3) if reduced else (7, 2 if dilated else 1)
        dilation *= factor
        explicit = {"dilation": dilation} if dilation > 1 or not (of_rmpe() or norm) else {}
        net.fc6 = layers.Convolution(net[below], num_output=width, pad=(kernel - 1) * dilation // 2,
                                     kernel_size=widths.fc6_kernel if reduced else kernel, **explicit, **XAVIER)
    else:
        net.fc6 = layers.InnerProduct(net.pool5, num_output=width)
    _finish(net, 6, norm and reduced and fully_conv, dropout)
    if fully_conv:
        net.fc7 = layers.Convolution(net.relu6, num_output=width, kernel_size=1, **XAVIER)
    else:
        net.fc7 = layers.InnerProduct(net.relu6, num_output=width)
    _finish(net, 7, norm and reduced and fully_conv, dropout)


def _finish(net: NetSpec, number: int, norm: bool, dropout: bool) -> None:
    if norm:
        _norm(net, f"fc{number}")
    net[f"relu{number}"] = layers.ReLU(net[f"fc{number}"], in_place=True)
    if dropout:
        net[f"drop{number}"] = layers.Dropout(net[f"relu{number}"], dropout_ratio=0.5, in_place=True)


def ZFNetBody(net: NetSpec, from_layer: str, need_fc: bool = True, fully_conv: bool = False, reduced: bool = False,
              dilated: bool = False, dropout: bool = True, need_fc8: bool = False,
              freeze_layers: Sequence[str] = ()) -> NetSpec:
    """Add SSD's version of ZF's network up to relu5, or with fc6 and fc7, or also fc8 and prob.

    Options as for ``VGGNetBody``.
    """
    check_there(net, from_layer)
    below = from_layer
    for i, (width, kernel, stride) in enumerate(((96, 7, 2), (256, 5, 2), (384, 3, 1), (384, 3, 1), (256, 3, 1)), 1):
        strided = {"stride": stride} if stride > 1 else {}
        net[f"conv{i}"] = layers.Convolution(net[below], num_output=width, pad=kernel // 2, kernel_size=kernel,
                                             **strided, **XAVIER)
        below = f"relu{i}"
        net[below] = layers.ReLU(net[f"conv{i}"], in_place=True)
        if i <= 2:
            net[f"norm{i}"] = layers.LRN(net[below], local_size=3, alpha=0.00005, beta=0.75,
                                         norm_region=params.LRN.WITHIN_CHANNEL, engine=params.LRN.CAFFE)
            below = f"pool{i}"
            net[below] = layers.Pooling(net[f"norm{i}"], pool=params.Pooling.MAX, pad=1, kernel_size=3, stride=2)
    if need_fc:
        net.pool5 = layers.Pooling(net.relu5, pool=params.Pooling.MAX, pad=1, kernel_size=3, stride=2 - bool(dilated))
        _zf_full(net, fully_conv, reduced, dilated, dropout)
    if need_fc8:
        last = net[net.keys()[-1]]
        net.fc8 = (layers.Convolution(last, num_output=1000, kernel_size=1, **XAVIER) if fully_conv
                   else layers.InnerProduct(last, num_output=1000))
        net.prob = layers.Softmax(net.fc8)
    freeze(net, freeze_layers)
    return net


def _zf_full(net: NetSpec, fully_conv: bool, reduced: bool, dilated: bool, dropout: bool) -> None:
    width = 1024 if reduced and fully_conv else 4096
    if fully_conv:
        dilation = (5 if reduced else 2) if dilated else 2 if reduced else 1
        explicit = {"dilation": dilation} if dilation > 1 else {}
        net.fc6 = layers.Convolution(net.pool5, num_output=width, pad=5 if dilated else 2,
                                     kernel_size=3 if reduced else 6, **explicit, **XAVIER)
    else:
        net.fc6 = layers.InnerProduct(net.pool5, num_output=width)
    _finish(net, 6, False, dropout)
    net.fc7 = (layers.Convolution(net.relu6, num_output=width, kernel_size=1, **XAVIER) if fully_conv
               else layers.InnerProduct(net.relu6, num_output=width))
    _finish(net, 7, False, dropout)


def check_there(net: NetSpec, blob: str) -> None:
    """Check that the blob to build upon exists.

    Raises:
        MissingLayerError: It does not; also an AssertionError, as in the published builders.
    """
    if blob not in net.keys():  # noqa: SIM118  a NetSpec is no dict
        raise MissingLayerError(f"the NetSpec has no blob {blob!r} to start from; it has "
                                f"{shorten_list(net.keys()) or 'none'}")


def freeze(net: NetSpec, names: Sequence[str]) -> None:
    """Set lr_mult and decay_mult of these layers to 0; names that do not exist are ignored."""
    for name in names:
        if name in net.keys():  # noqa: SIM118  a NetSpec is no dict
            net.update(name, XAVIER | {"param": [FROZEN] * 2})


class MissingLayerError(InputError, AssertionError):
    """The blob to build upon does not exist, or lists that must have equal lengths do not."""
