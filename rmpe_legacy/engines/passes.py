"""The ``torch`` engine's passes: pure functions in the order they run, each of which can be switched off by name.

The first ones rewrite the graph of layers, and are shared with the ONNX that ``rmpe convert`` writes; the others put
kernels in place of layers, and join them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import replace

from rmpe_legacy.caffe.layers.conv import Convolution
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.export.fold import channel_affine, drop_copies, fold_affine
from rmpe_legacy.export.graph import Graph, Node, Value
from rmpe_legacy.wording import did_you_mean

from .kernels import Affine, Conv, Kernel, Nearest, PackedConv, Pool, Relu, Sum, WinogradConv, can_pack, nearest_times
from .plan import Call, LayerCall, Plan, make_plan
from .small import use_small_net

LEAST_PRODUCTS = 4_000_000  # of an image; a smaller convolution takes longer as a packed one
# Where Winograd's algorithm is faster, measured in networks: with fewer channels it is not; with fewer pixels in all
# images only if the transformed weights stay in a processor's cache; and not where more of the outputs of all tiles lie
# outside.
LEAST_CHANNELS, LEAST_PIXELS, FEW_WEIGHTS, LEAST_INSIDE = 8, 16 * 16, 64 * 64, 0.5
MOST_IMAGES = 16  # with which it must become faster


def use_kernels(plan: Plan) -> Plan:
    """Replace layers by kernels that compute the same with less overhead."""
    return plan.with_calls(_with_kernel(call, _kernel_for) for call in plan.calls)


def use_nearest(plan: Plan) -> Plan:
    """Replace a Deconvolution that only repeats each value by nearest-neighbour upsampling."""
    return plan.with_calls(_with_kernel(call, _nearest_for) for call in plan.calls)


def fuse_relu(plan: Plan) -> Plan:
    """Apply a ReLU in the kernel that makes its bottom, if nothing else reads that; otherwise in place."""
    readers, makers = plan.readers(), plan.makers()
    calls: list[Call | None] = list(plan.calls)
    for i, call in enumerate(plan.calls):
        if not isinstance(call.kernel, Relu) or readers[call.bottom[0]] != 1 or call.bottom[0] not in makers:
            continue
        before = makers[call.bottom[0]]
        maker = calls[before]
        if maker is None:
            continue
        if isinstance(maker.kernel, Conv | Sum | Affine) and not maker.kernel.relu:
            calls[before] = None
            calls[i] = replace(maker, kernel=maker.kernel.fused(relu=True), top=call.top)
        elif maker.kernel.fresh:
            calls[i] = replace(call, kernel=Relu(in_place=True), overwrites=call.bottom)
    return plan.with_calls(call for call in calls if call is not None)


def fuse_sum(plan: Plan) -> Plan:
    """Fuse a sum into the convolution that makes one of its terms, as in the last step of a residual block."""
    readers, makers = plan.readers(), plan.makers()
    calls: list[Call | None] = list(plan.calls)
    for i, call in enumerate(plan.calls):
        if not isinstance(call.kernel, Sum) or len(call.bottom) != 2 or call.bottom[0] == call.bottom[1]:
            continue
        for term, other in (call.bottom, call.bottom[::-1]):
            before = makers.get(term, -1)
            maker = calls[before] if before >= 0 else None
            if maker is not None and readers[term] == 1 and _can_add(maker.kernel):
                kernel = maker.kernel.fused(adds=True, relu=call.kernel.relu)
                calls[before] = None
                calls[i] = replace(maker, kernel=kernel, bottom=(*maker.bottom, other), top=call.top)
                break
    return plan.with_calls(call for call in calls if call is not None)


def _can_add(kernel: Kernel) -> bool:
    return isinstance(kernel, Conv) and not kernel.relu and not kernel.adds


def channels_last(plan: Plan) -> Plan:
    """Store images with the channels of a pixel together, and reorder the convolutions' weights accordingly."""
    return plan.with_calls(replace(call, kernel=call.kernel.with_channels_last())
                           if isinstance(call.kernel, Conv) else call for call in plan.calls)


def use_winograd(plan: Plan) -> Plan:
    """On the CPU, compute 3 x 3 convolutions of stride 1 with a quarter of the products.

    Some take longer this way: those of few channels; with many weights and few pixels, because the transformed weights
    are four times as large; or with outputs that are much smaller than the tiles that cover them.
    """
    return plan.with_calls(replace(call, kernel=_by_winograd(call, call.kernel)) for call in plan.calls)


def _by_winograd(call: Call, kernel: Kernel) -> Kernel:
    if not isinstance(kernel, Conv) or not WinogradConv.fits(kernel):
        return kernel
    least = _least_images(call, kernel)
    return WinogradConv(kernel, least) if least <= MOST_IMAGES else kernel


def _least_images(call: Call, conv: Conv) -> float:
    """Return for how many images Winograd's algorithm becomes faster; infinity for none."""
    outputs, channels = conv.weight.shape[:2]
    size = _sizes(call.top[0])[2:]
    pixels = math.prod(size)
    tiles = math.prod(math.ceil(side / (4 * step)) * step for side, step in zip(size, conv.dilation, strict=True))
    if channels < LEAST_CHANNELS or pixels <= LEAST_INSIDE * 16 * tiles:
        return math.inf
    return 1 if outputs * channels <= FEW_WEIGHTS else math.ceil(LEAST_PIXELS / pixels)


def pack(plan: Plan) -> Plan:
    """On the CPU, run convolutions as oneDNN primitives with weights that are reordered once.

    Small convolutions are left as they are: calling such a primitive takes about 25 microseconds more.
    """
    if not can_pack():
        return plan
    return plan.with_calls(replace(call, kernel=_packed(call, call.kernel)) for call in plan.calls)


def _packed(call: Call, kernel: Kernel) -> Kernel:
    if isinstance(kernel, WinogradConv) and kernel.direct is not None:
        return kernel.fused(direct=_packed(call, kernel.direct))
    if isinstance(kernel, Conv) and kernel.is_packable and _products(call, kernel) >= LEAST_PRODUCTS:
        return PackedConv(kernel, _sizes(call.bottom[0]))
    return kernel


def _products(call: Call, conv: Conv) -> int:
    """Return how many products a convolution adds up for one image."""
    return math.prod(_sizes(call.top[0])[1:]) * conv.weight[0].numel()


def _sizes(value: Value) -> list[int]:
    return [dim if isinstance(dim, int) else 1 for dim in value.shape]


# --- kernels for layers -------------------------------------------------------------------------------------------


def _with_kernel(call: Call, choose: Callable[[LayerCall, Call], Kernel | None]) -> Call:
    kernel = choose(call.kernel, call) if isinstance(call.kernel, LayerCall) else None
    return call if kernel is None else replace(call, kernel=kernel)


def _kernel_for(own: LayerCall, call: Call) -> Kernel | None:
    layer, shape = own.layer, call.bottom[0].shape if call.bottom else ()
    kind = layer.spec.type
    if isinstance(layer, Convolution):
        is_plain = (layer.is_plain and len(call.bottom) == 1 and len(layer.kernel) == 2 and layer.channel_axis == 1
                    and all(layer.dilation))
        return Conv(layer) if is_plain and not any(layer.sticking_out(_sizes(call.bottom[0])[2:])) else None
    if kind == "ReLU" and not layer.negative_slope:
        return Relu(in_place=False)
    if kind == "Pooling" and Pool.fits(layer, _sizes(call.bottom[0])[2:]):
        return Pool(layer)
    if kind == "Eltwise" and layer.operation == "SUM" and not layer.in_place and set(layer.coeff) == {1.0}:
        return Sum()
    affine = channel_affine(layer, Node(layer, call.bottom, call.top), shape)
    if affine is None:
        return None
    scale, shift = (values.to(next(layer.parameters()).dtype) for values in affine)
    return Affine(scale, shift, len(shape))


def _nearest_for(own: LayerCall, call: Call) -> Kernel | None:
    layer = own.layer
    times = nearest_times(layer) if layer.written_as == "Deconvolution" and len(call.bottom) == 1 else None
    return None if times is None else Nearest(times)


# --- the list -----------------------------------------------------------------------------------------------------

GRAPH_PASSES: dict[str, Callable[[Graph], Graph]] = {"copies": drop_copies, "fold": fold_affine}
PLAN_PASSES: dict[str, Callable[[Plan], Plan]] = {
    "small": use_small_net, "kernels": use_kernels, "nearest": use_nearest, "sum": fuse_sum, "relu": fuse_relu,
    "channels-last": channels_last, "winograd": use_winograd, "pack": pack}
PASSES = (*GRAPH_PASSES, *PLAN_PASSES)
COARSE = frozenset({"winograd"})  # passes whose rounding errors are larger than those of the plain sums


def optimize(graph: Graph, without: Collection[str] = ()) -> Plan:
    """Return a graph's plan after all passes except those in `without`.

    Raises:
        RmpeError: There is no such pass.
    """
    for name in without:
        if name not in PASSES:
            raise RmpeError(f"no pass {name!r}{did_you_mean(name, PASSES)}; the passes are {', '.join(PASSES)}")
    for name, change in GRAPH_PASSES.items():
        graph = graph if name in without else change(graph)
    plan = make_plan(graph)
    for name, rewrite in PLAN_PASSES.items():
        plan = plan if name in without else rewrite(plan)
    return plan
