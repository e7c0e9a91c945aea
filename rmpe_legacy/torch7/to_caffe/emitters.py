"""The Caffe layers for each Torch7 module, or an error that says why there are none.

docs/torch7.md lists the conversions that are not exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rmpe_legacy.errors import NetError
from rmpe_legacy.torch7.modules import containers, graph, linear, norm, pointwise, shapes, spatial, stn, tables
from rmpe_legacy.torch7.modules.base import Module, dimension

from . import theta
from .conversion import (
    BATCH,
    Converter,
    Grid,
    Item,
    Value,
    emits,
    flat,
    join,
    same_shape,
    shown,
    unsupported,
    values_of,
)

MAX_UPSAMPLING = 64  # a file can request any factor, but its kernel has to be stored

# --- containers


@emits(containers.Sequential, takes=object)
def _sequential(c: Converter, module: containers.Sequential, x: Item, path: str) -> Item:
    for i, part in enumerate(module.parts(), 1):
        x = c.emit(part, x, join(path, i))
    return x


@emits(containers.ConcatTable, takes=object)
def _concat_table(c: Converter, module: containers.ConcatTable, x: Item, path: str) -> list:
    return [c.emit(part, x, join(path, i)) for i, part in enumerate(module.parts(), 1)]


@emits(containers.ParallelTable, takes=list)
def _parallel_table(c: Converter, module: containers.ParallelTable, x: list, path: str) -> list:
    if len(x) < len(module.parts()):
        raise unsupported(module, path, f"is given {len(x)} values for {len(module.parts())} modules")
    return [c.emit(part, x[i], join(path, i + 1)) for i, part in enumerate(module.parts())]


@emits(graph.GModule, takes=object)
def _graph(c: Converter, module: graph.GModule, x: Item, path: str) -> Item:
    return module.evaluate(x, lambda part, value: c.emit(module._modules[part], value, join(path, int(part) + 1)))


@emits(containers.Identity, takes=object)
def _identity(c: Converter, module: Module, x: Item, path: str) -> Item:
    return x


@emits(graph.JustElement, takes=list)
def _just_element(c: Converter, module: Module, x: list, path: str) -> Item:
    return x[0]


@emits(graph.JustTable, takes=object)
def _just_table(c: Converter, module: Module, x: Item, path: str) -> list:
    return [x]


@emits(tables.SelectTable, tables.NarrowTable, tables.FlattenTable, takes=list)
def _pick(c: Converter, module: Module, x: list, path: str) -> Item:
    if isinstance(module, tables.FlattenTable):
        return flat(x)
    try:
        return module.forward(x)  # they only select from the list
    except IndexError:
        raise unsupported(module, path, f"picks from a table of {len(x)}") from None


@emits(containers.Concat, takes=object)
def _concat(c: Converter, module: containers.Concat, x: Item, path: str) -> Value:
    return _concatenated(c, [c.emit(part, x, join(path, i)) for i, part in enumerate(module.parts(), 1)],
                         module.dim, path)


@emits(tables.JoinTable, takes=list)
def _join_table(c: Converter, module: tables.JoinTable, x: list, path: str) -> Value:
    values = [c.plain(value) for value in x]
    return _concatenated(c, values, module.dim(torch.empty(values[0].shape, device="meta")), path)


def _concatenated(c: Converter, x: list, axis: int, path: str) -> Value:
    values = [c.plain(value) for value in x]
    shapes = {value.shape[:axis] + value.shape[axis + 1 :] for value in values}
    if len(shapes) != 1 or not 0 < axis < len(values[0].shape):
        raise NetError(f"module {path or '1'}: cannot join {', '.join(shown(v.shape) for v in values)} along dimension "
                       f"{axis + 1}; Caffe can join samples, but not batches")
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    return c.layer("Concat", path, values, tuple(shape), concat_param={"axis": axis})


# --- images


def _window(prefix: str, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> dict:
    """Return kernel_size, stride and pad: one value if square, otherwise _h and _w; lists for convolutions."""
    once = (lambda n: [n]) if prefix == "convolution" else (lambda n: n)
    fields = {}
    for name, (h, w), default in (("kernel", kernel, None), ("stride", stride, 1), ("pad", pad, 0)):
        if (h, w) == (default, default):
            continue
        if h == w:
            fields["kernel_size" if name == "kernel" else name] = once(h)
        else:
            fields |= {f"{name}_h": h, f"{name}_w": w}
    return fields


@emits(spatial.SpatialConvolution)
def _convolution(c: Converter, module: spatial.SpatialConvolution, x: Value, path: str) -> Value:
    x = c.image(module, x, path)
    seen = c.shape_after(module, x, path=path)
    param = {"num_output": len(module.weight), **_window("convolution", module.kernel, module.stride, module.pad)}
    if module.groups > 1:
        param["group"] = module.groups
    if module.dilation != (1, 1):
        param["dilation"] = list(module.dilation)
    blobs, param = _with_bias(module, param)
    return c.layer("Convolution", path, x, seen, blobs=blobs, learns=module.weight.requires_grad,
                   convolution_param=param)


def _with_bias(module: Module, param: dict) -> tuple[list[np.ndarray], dict]:
    if module.bias is None:
        return [values_of(module.weight)], {**param, "bias_term": False}
    return [values_of(module.weight), values_of(module.bias)], param


@emits(spatial.SpatialFullConvolution, takes=object)
def _full_convolution(c: Converter, module: spatial.SpatialFullConvolution, x: Value, path: str) -> Value:
    if isinstance(x, list) or module.adjust != (0, 0):
        raise unsupported(module, path, "Caffe's Deconvolution has no adjW and adjH")
    x = c.image(module, x, path)
    param = {"num_output": module.weight.shape[1],
             **_window("convolution", module.kernel, module.stride, module.pad)}
    blobs, param = _with_bias(module, param)
    spatial_size = (s * (n - 1) + k - 2 * p for n, s, k, p in zip(
        x.shape[2:], module.stride, module.kernel, module.pad, strict=True))
    return c.layer("Deconvolution", path, x, (BATCH, param["num_output"], *spatial_size), blobs=blobs,
                   learns=module.weight.requires_grad, convolution_param=param)


@emits(spatial.SpatialUpSamplingNearest)
def _upsampling(c: Converter, module: spatial.SpatialUpSamplingNearest, x: Value, path: str) -> Value:
    """Repeat each pixel by a kernel of ones with a stride of its size."""
    x, k = c.image(module, x, path), module.scale
    if k > MAX_UPSAMPLING:
        raise unsupported(module, path, f"its factor is {k}; at most {MAX_UPSAMPLING} is supported")
    channels = x.shape[1]
    param = {"num_output": channels, "bias_term": False, "kernel_size": [k], "group": channels, "stride": [k]}
    return c.layer("Deconvolution", path, x, c.shape_after(module, x, path=path), "up", learns=False,
                   blobs=[np.ones((channels, 1, k, k), np.float32)], convolution_param=param)


@emits(spatial.SpatialMaxPooling, spatial.SpatialAveragePooling)
def _pooling(c: Converter, module: spatial.SpatialMaxPooling, x: Value, path: str) -> Value:
    """Caffe rounds the number of windows up; slice off those that Torch7 lacks, the others are equal."""
    x = c.image(module, x, path)
    seen = c.shape_after(module, x, path=path)
    average = isinstance(module, spatial.SpatialAveragePooling)
    if average and any(module.pad) and not module.count_include_pad:
        raise unsupported(module, path, "Caffe's average counts the padding; this one does not")
    param = {"pool": "AVE"} if average else {"pool": "MAX"}
    param |= _window("pooling", module.kernel, module.stride, module.pad)
    caffe = tuple(_caffe_positions(*v) for v in zip(x.shape[2:], module.kernel, module.stride, module.pad,
                                                    strict=True))
    if caffe != seen[2:]:
        param["engine"] = "CAFFE"  # cuDNN counts differently
    y = c.layer("Pooling", path, x, (*x.shape[:2], *caffe), pooling_param=param)
    for axis in (2, 3):
        if y.shape[axis] > seen[axis]:
            y = _cut(c, y, axis, 0, seen[axis], join(path, "crop_h" if axis == 2 else "crop_w"))
    if average and not module.divide:
        y = c.layer("Power", path, y, y.shape, power_param={"scale": float(math.prod(module.kernel))})
    return y


def _caffe_positions(size: int, kernel: int, stride: int, pad: int) -> int:
    """Return the number of Caffe's windows along an axis (pooling_layer.cpp:86-101 of RMPE@5188c23)."""
    count = -(-(size + 2 * pad - kernel) // stride) + 1
    return count - (pad > 0 and (count - 1) * stride >= size + pad)


def _cut(c: Converter, x: Value, axis: int, start: int, length: int, path: str) -> Value:
    """Slice a blob along an axis."""
    points = [p for p in (start, start + length) if 0 < p < x.shape[axis]]
    shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
    if not points:
        return x
    names = c.graph.add("Slice", path, [x.blob], len(points) + 1,
                        slice_param={"axis": axis, "slice_point": points})
    return Value(names[1 if start else 0], shape)


@emits(norm.BatchNormalization)
def _batch_norm(c: Converter, module: norm.BatchNormalization, x: Value, path: str) -> Value:
    x = c.plain(x)
    c.shape_after(module, x, path=path)
    statistics = [values_of(module.running_mean), values_of(module.running_var), np.ones(1, np.float32)]
    y = c.layer("BatchNorm", path, x, x.shape, blobs=statistics, learns=False,
                batch_norm_param={"use_global_stats": True, "eps": module.eps})
    if module.weight is None:
        return y
    blobs, _ = _with_bias(module, {})
    return c.layer("Scale", path, y, x.shape, blobs=blobs, learns=module.weight.requires_grad,
                   scale_param={"bias_term": module.bias is not None})


@emits(norm.SpatialCrossMapLRN)
def _lrn(c: Converter, module: norm.SpatialCrossMapLRN, x: Value, path: str) -> Value:
    x = c.image(module, x, path)
    if module.size % 2 == 0:
        raise unsupported(module, path, f"its size {module.size} is even; Caffe's LRN takes only odd sizes")
    return c.layer("LRN", path, x, x.shape, lrn_param={
        "local_size": module.size, "alpha": module.alpha, "beta": module.beta, "k": module.k})


# --- elements and tables


@emits(tables.CAddTable, tables.CSubTable, tables.CMulTable, tables.CDivTable, tables.CMaxTable, takes=list)
def _eltwise(c: Converter, module: Module, x: list, path: str) -> Value:
    """Keep the bottoms in the table's order, so that sums are rounded in the same order."""
    two = isinstance(module, tables.CSubTable | tables.CDivTable)
    values = [c.plain(value) for value in (x[:2] if two else x)]
    if any(value.shape != values[0].shape for value in values) or len(values) < 1 + two:
        raise unsupported(module, path, f"cannot combine {', '.join(shown(value.shape) for value in values)}")
    if len(values) == 1:
        return values[0]
    if module.class_name == "nn.CMinTable":
        raise unsupported(module, path, "Caffe has no layer for it")
    if isinstance(module, tables.CDivTable):
        values[1] = c.layer("Power", path, values[1], values[1].shape, power_param={"power": -1.0})
    operation = {tables.CAddTable: "SUM", tables.CSubTable: "SUM", tables.CMaxTable: "MAX"}.get(type(module), "PROD")
    param: dict[str, Any] = {"operation": operation} if operation != "SUM" else {}
    if isinstance(module, tables.CSubTable):
        param["coeff"] = [1.0, -1.0]
    word = {"SUM": "sub" if "coeff" in param else "add", "MAX": "max"}.get(operation, "mul")
    return c.layer("Eltwise", path, values, values[0].shape, word, eltwise_param=param)


@emits(pointwise.Threshold, pointwise.CudnnReLU)
def _relu(c: Converter, module: Module, x: Value, path: str) -> Value:
    if isinstance(module, pointwise.Threshold) and (module.threshold != 0 or module.val != 0):
        raise unsupported(module, path, f"threshold {module.threshold:g}, value {module.val:g}: Caffe has a layer only "
                                        "for threshold 0 and value 0")
    return same_shape(c, "ReLU", x, path)


@emits(pointwise.LeakyReLU)
def _leaky_relu(c: Converter, module: pointwise.LeakyReLU, x: Value, path: str) -> Value:
    return same_shape(c, "ReLU", x, path, relu_param={"negative_slope": module.slope})


@emits(pointwise.PReLU)
def _prelu(c: Converter, module: pointwise.PReLU, x: Value, path: str) -> Value:
    x = c.plain(x)
    slopes = values_of(module.weight)
    if module.per_channel:
        return c.layer("PReLU", path, x, x.shape, blobs=[slopes])
    return c.layer("PReLU", path, x, x.shape, blobs=[slopes.reshape(())], prelu_param={"channel_shared": True})


@emits(pointwise.ELU)
def _elu(c: Converter, module: pointwise.ELU, x: Value, path: str) -> Value:
    return same_shape(c, "ELU", x, path, elu_param={"alpha": module.alpha})


@emits(pointwise.MulConstant, pointwise.AddConstant, pointwise.Power, pointwise.Sqrt)
def _power(c: Converter, module: Module, x: Value, path: str) -> Value:
    if isinstance(module, pointwise.MulConstant):
        param = {"scale": module.constant}
    elif isinstance(module, pointwise.AddConstant):
        if module.vector is not None:
            raise unsupported(module, path, "a constant vector is not supported")
        param = {"shift": module.constant}
    else:
        param = {"power": module.power if isinstance(module, pointwise.Power) else 0.5}
    return same_shape(c, "Power", x, path, power_param=param)


_SAME = {"nn.Sigmoid": "Sigmoid", "cudnn.Sigmoid": "Sigmoid", "nn.Tanh": "TanH", "cudnn.Tanh": "TanH",
         "nn.Abs": "AbsVal", "nn.Exp": "Exp", "nn.Log": "Log"}


@emits(pointwise.Function)
def _function(c: Converter, module: Module, x: Value, path: str) -> Value:
    if module.class_name == "nn.Square":
        return same_shape(c, "Power", x, path, power_param={"power": 2.0})
    if module.class_name not in _SAME:
        raise unsupported(module, path, "Caffe has no layer for it")
    return same_shape(c, _SAME[module.class_name], x, path)


@emits(pointwise.SoftMax, pointwise.LogSoftMax)
def _softmax(c: Converter, module: pointwise.SoftMax, x: Value, path: str) -> Value:
    x = c.plain(x)
    if len(x.shape) not in (2, 4):
        raise unsupported(module, path, f"takes 2 or 4 dimensions with a batch, not {shown(x.shape)}")
    y = c.layer("Softmax", path, x, x.shape)
    return c.layer("Log", path, y, x.shape) if module.log else y


@emits(pointwise.Dropout, pointwise.SpatialDropout)
def _dropout(c: Converter, module: Module, x: Value, path: str) -> Value:
    if module.stochastic:
        raise unsupported(module, path, "it is random in evaluation too, unlike Caffe's")
    if getattr(module, "scales_in_training", False):
        return x
    return same_shape(c, "Power", x, path, power_param={"scale": 1 - module.p})


@emits(linear.Mul)
def _mul(c: Converter, module: linear.Mul, x: Value, path: str) -> Value:
    return same_shape(c, "Power", x, path, power_param={"scale": float(module.weight)})


@emits(linear.CMul, linear.Add)
def _scale(c: Converter, module: Module, x: Value, path: str) -> Value:
    """Write a learned value per element of a sample."""
    x = c.plain(x)
    bias = not isinstance(module, linear.CMul) or module.adds
    values = values_of(module.bias if isinstance(module, linear.Add) else module.weight)
    if values.size != math.prod(x.shape[1:]):
        raise unsupported(module, path, f"{values.size} values for samples of "
                       f"{shown(x.shape[1:])}; only one for each element is converted")
    param: dict[str, Any] = {"bias_param" if bias else "scale_param": {"num_axes": -1}}
    return c.layer("Bias" if bias else "Scale", path, x, x.shape, blobs=[values.reshape(x.shape[1:])], **param)


@emits(linear.Linear)
def _linear(c: Converter, module: linear.Linear, x: Value, path: str) -> Value:
    """InnerProduct flattens its bottom in the same order as a View before it."""
    if x.order is not None or len(x.seen) != 2 or x.seen[0] != BATCH:
        x = c.plain(x)
    outputs, inputs = module.weight.shape
    if x.seen != (BATCH, inputs):
        raise unsupported(module, path, f"takes N x {inputs}, not {shown(x.seen)}; is "
                       "input_shape right?")
    blobs, param = _with_bias(module, {"num_output": outputs})
    return c.layer("InnerProduct", path, x, (BATCH, outputs), blobs=blobs, learns=module.weight.requires_grad,
                   inner_product_param=param)


# --- shapes


@emits(shapes.View, shapes.Reshape, shapes.Squeeze, shapes.Unsqueeze)
def _view(c: Converter, module: Module, x: Value, path: str) -> Value:
    """Change the view only; a Reshape is written if a later layer needs the shape."""
    x = x if x.order is None else c.plain(x)
    view = c.shape_after(module, x, path=path)
    if view[0] != BATCH:
        raise unsupported(module, path, f"turns {shown(x.seen)} into {shown(view)}, which loses the batch axis; is "
                          "input_shape right?")
    return replace(x, view=view)


@emits(shapes.Transpose)
def _transpose(c: Converter, module: shapes.Transpose, x: Value, path: str) -> Value:
    """Change the view only; a Permute is written if a later layer needs the order. Swaps around a sampler cancel."""
    x = x if x.view is None else c.plain(x)
    order = list(x.order or range(len(x.shape)))
    try:
        pairs = module.axes(len(x.shape))
    except NetError:
        raise unsupported(module, path, f"swaps axes that {shown(x.seen)} does not have") from None
    for a, b in pairs:
        order[a], order[b] = order[b], order[a]
    return replace(x, order=None if order == sorted(order) else tuple(order))


@emits(shapes.Narrow, shapes.Select)
def _narrow(c: Converter, module: Module, x: Item, path: str) -> Value:
    x = c.plain(x)
    seen = c.shape_after(module, x, path=path)
    axis = dimension(module.number, len(x.shape))
    if axis == 0:
        raise unsupported(module, path, "works on the batch axis, which Caffe leaves alone")
    select = isinstance(module, shapes.Select)
    places = torch.arange(x.shape[axis])
    lined_up = places.view([-1 if i == axis else 1 for i in range(len(x.shape))])
    start = int(module(lined_up).flatten()[0])  # the first of its positions
    y = _cut(c, x, axis, start, 1 if select else seen[axis], join(path, "slice"))
    return replace(y, view=seen) if select else y


# --- the spatial transformer


@emits(stn.AffineGridGeneratorBHWD)
def _grid(c: Converter, module: stn.AffineGridGeneratorBHWD, x: Value, path: str) -> Grid:
    size = module.height, module.width
    if not torch.allclose(module.base_grid.float(), stn.base_grid(*size), atol=1e-6):
        raise unsupported(module, path, "its baseGrid is not the one of stnbhwd; Caffe makes its "
                       "own")
    c.shape_after(module, x, path=path)
    return Grid(x, size)


@emits(stn.AffineTransformMatrixGenerator)
def _matrix(c: Converter, module: stn.AffineTransformMatrixGenerator, x: Item, path: str) -> Value:
    if module.rotation or module.scale or module.translation:
        raise unsupported(module, path, "only all six parameters are converted")
    x = c.plain(x)
    return replace(x, view=c.shape_after(module, x, path=path))


@emits(stn.BilinearSamplerBHWD, takes=list)
def _sampler(c: Converter, module: stn.BilinearSamplerBHWD, x: list, path: str) -> Value:
    """Torch7 samples (N, H, W, C), Caffe (N, C, H, W), with theta in different coordinates."""
    image, grid = x if len(x) == 2 else (None, None)
    if not isinstance(image, Value) or not isinstance(grid, Grid):
        raise unsupported(module, path, "its grid is not produced by AffineGridGeneratorBHWD")
    c.shape_after(module, image, grid, path=path)
    if image.order != (0, 2, 3, 1):
        image = c.plain(image)
        n, h, w, channels = image.shape
        image = c.layer("Permute", path, image, (n, channels, h, w), permute_param={"order": [0, 3, 1, 2]})
    n, channels, *_ = image.shape
    theta = _caffe_theta(c, grid.theta, (image.shape[2], image.shape[3]), grid.size)
    h, w = grid.size
    y = c.layer("SpatialTransformer", path, [image, theta], (n, channels, h, w),
                st_param={"output_H": h, "output_W": w})
    return replace(y, order=(0, 2, 3, 1))


def _caffe_theta(c: Converter, x: Value, image: tuple[int, int], output: tuple[int, int]) -> Value:
    """Convert theta to Caffe's coordinates by a fixed InnerProduct, shared by all samplers of one theta and size."""
    key = (x.blob, image, output)
    if key not in c.converted:
        matrix, shift = theta.to_caffe(image, output)
        c.converted[key] = c.layer(
            "InnerProduct", f"{x.blob}_caffe_{output[0]}", x, (BATCH, 6), "", learns=False,
            blobs=[matrix.astype(np.float32), shift.astype(np.float32)], inner_product_param={"num_output": 6})
    return c.converted[key]


@emits(stn.GetAlpha)
def _get_alpha(c: Converter, module: stn.GetAlpha, x: Value, path: str) -> Value:
    """Write the inverse map with standard layers, because the fork's de_transform does not invert (st_layer.cpp
    ignores it).

    For [a b t; d e u] it is [e -b; -d a] / (a e - b d), and minus that times (t, u).
    """
    c.shape_after(module, x, path=path)
    x = c.plain(replace(x, view=(BATCH, 6)))
    names = c.graph.add("Slice", join(path, "parts"), [x.blob], 6, slice_param={"axis": 1})
    a, b, t, d, e, u = (Value(name, (BATCH, 1)) for name in names)

    def product(name: str, *factors: Value) -> Value:
        return c.layer("Eltwise", join(path, name), factors, (BATCH, 1), "", eltwise_param={"operation": "PROD"})

    def total(name: str, *parts: Value, coeff: list[float]) -> Value:
        return c.layer("Eltwise", join(path, name), parts, (BATCH, 1), "", eltwise_param={"coeff": coeff})

    def minus(name: str, value: Value) -> Value:
        return c.layer("Power", join(path, name), value, (BATCH, 1), "", power_param={"scale": -1.0})

    determinant = total("det", product("ae", a, e), product("bd", b, d), coeff=[1.0, -1.0])
    inverse = c.layer("Power", join(path, "inverse"), determinant, (BATCH, 1), "",
                      power_param={"power": -1.0})
    yy, xx = product("yy", e, inverse), product("xx", a, inverse)
    yx, xy = minus("yx", product("b_over_det", b, inverse)), minus("xy", product("d_over_det", d, inverse))
    y1 = total("y1", product("yyt", yy, t), product("yxu", yx, u), coeff=[-1.0, -1.0])
    x1 = total("x1", product("xyt", xy, t), product("xxu", xx, u), coeff=[-1.0, -1.0])
    alpha = c.layer("Concat", path or "alpha", [yy, yx, y1, xy, xx, x1], (BATCH, 6), "", concat_param={"axis": 1})
    return replace(alpha, view=(BATCH, 2, 3))
