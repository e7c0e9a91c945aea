"""Old prototxt and caffemodel layouts brought to today's, in Caffe's order; each step is a pure function.

Source: src/caffe/util/upgrade_proto.cpp of RMPE@5188c23; the batch-norm step is BVLC/caffe@9b89154's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from rmpe_legacy.errors import NetError
from rmpe_legacy.wording import pluralize, shorten

from .message import Message

# V0 type name -> V1 enum name (upgrade_proto.cpp:456-507)
V0_TYPES = {
    "accuracy": "ACCURACY", "bnll": "BNLL", "concat": "CONCAT", "conv": "CONVOLUTION", "data": "DATA",
    "dropout": "DROPOUT", "euclidean_loss": "EUCLIDEAN_LOSS", "flatten": "FLATTEN", "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT", "im2col": "IM2COL", "images": "IMAGE_DATA", "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT", "lrn": "LRN", "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING", "relu": "RELU", "sigmoid": "SIGMOID", "softmax": "SOFTMAX", "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT", "tanh": "TANH", "window_data": "WINDOW_DATA",
}
# V0 field -> {V0 type: (V1 parameter message, field)}; "*" is any type (upgrade_proto.cpp:188-452)
_CONV, _POOL, _IP, _WINDOW = "convolution_param", "pooling_param", "inner_product_param", "window_data_param"
V0_FIELDS = {
    "num_output": {"conv": (_CONV, "num_output"), "innerproduct": (_IP, "num_output")},
    "biasterm": {"conv": (_CONV, "bias_term"), "innerproduct": (_IP, "bias_term")},
    "weight_filler": {"conv": (_CONV, "weight_filler"), "innerproduct": (_IP, "weight_filler")},
    "bias_filler": {"conv": (_CONV, "bias_filler"), "innerproduct": (_IP, "bias_filler")},
    "pad": {"conv": (_CONV, "pad"), "pool": (_POOL, "pad")},
    "kernelsize": {"conv": (_CONV, "kernel_size"), "pool": (_POOL, "kernel_size")},
    "group": {"conv": (_CONV, "group")},
    "stride": {"conv": (_CONV, "stride"), "pool": (_POOL, "stride")},
    "pool": {"pool": (_POOL, "pool")},
    "dropout_ratio": {"dropout": ("dropout_param", "dropout_ratio")},
    "local_size": {"lrn": ("lrn_param", "local_size")},
    "alpha": {"lrn": ("lrn_param", "alpha")},
    "beta": {"lrn": ("lrn_param", "beta")},
    "k": {"lrn": ("lrn_param", "k")},
    "source": {
        "data": ("data_param", "source"), "hdf5_data": ("hdf5_data_param", "source"),
        "images": ("image_data_param", "source"), "window_data": (_WINDOW, "source"),
        "infogain_loss": ("infogain_loss_param", "source"),
    },
    "scale": {"*": ("transform_param", "scale")},
    "meanfile": {"*": ("transform_param", "mean_file")},
    "batchsize": {
        "data": ("data_param", "batch_size"), "hdf5_data": ("hdf5_data_param", "batch_size"),
        "images": ("image_data_param", "batch_size"), "window_data": (_WINDOW, "batch_size"),
    },
    "cropsize": {"*": ("transform_param", "crop_size")},
    "mirror": {"*": ("transform_param", "mirror")},
    "rand_skip": {"data": ("data_param", "rand_skip"), "images": ("image_data_param", "rand_skip")},
    "shuffle_images": {"images": ("image_data_param", "shuffle")},
    "new_height": {"images": ("image_data_param", "new_height")},
    "new_width": {"images": ("image_data_param", "new_width")},
    "concat_dim": {"concat": ("concat_param", "concat_dim")},
    "det_fg_threshold": {"window_data": (_WINDOW, "fg_threshold")},
    "det_bg_threshold": {"window_data": (_WINDOW, "bg_threshold")},
    "det_fg_fraction": {"window_data": (_WINDOW, "fg_fraction")},
    "det_context_pad": {"window_data": (_WINDOW, "context_pad")},
    "det_crop_mode": {"window_data": (_WINDOW, "crop_mode")},
}
# V1 enum name -> today's type, where it is not the words run together (upgrade_proto.cpp:861-949); also those of forks
V1_SPELLED = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BN": "BN", "BNLL": "BNLL", "DENSE_CRF": "DenseCRF",
    "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output", "IM2COL": "Im2col", "LRN": "LRN", "MVN": "MVN",
    "RELU": "ReLU", "RELU6": "ReLU6", "ROIPOOLING": "ROIPooling", "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH", "NONE": "",
}
_TRANSFORMS = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}


def upgrade_net(net: Message) -> Message:
    """Return a NetParameter in the current layout: only ``layer``, with Input layers instead of the old input fields.
    """
    for step in (_v0_to_v1, _transform_params, _v1_to_v2, _input_fields, _batch_norm):
        net = step(net)
    return net


def v1_type(name: str) -> str:
    """Return the current type name of a V1 enum value: InnerProduct for INNER_PRODUCT."""
    return V1_SPELLED.get(name, "".join(word.capitalize() for word in name.split("_")))


def _v0_to_v1(net: Message) -> Message:
    if not any(layer.has("layer") for layer in net.layers):
        return net
    kept = {key: net.fields[key] for key in ("name", "input", "input_dim", "force_backward") if net.has(key)}
    layers = [_v0_layer(layer) for layer in _fold_padding(net)]
    return Message(net.descriptor, {**kept, "layers": layers}, net.origin, net.position, net.unknown)


def _fold_padding(net: Message) -> list[Message]:
    """V0's padding layers become the pad of the convolution or pooling above them (upgrade_proto.cpp:126-186)."""
    made_by: dict[str, Message | None] = dict.fromkeys(net.input)
    layers = []
    for layer in net.layers:
        v0, folded = layer.layer, layer
        for bottom in layer.bottom:
            if bottom not in made_by:
                raise _error(layer, f"unknown bottom '{shorten(bottom)}'")
            source = made_by[bottom]
            if source is None or source.layer.type != "padding":
                continue
            if v0.type not in ("conv", "pool") or len(layer.bottom) != 1 or len(source.bottom) != 1:
                raise _error(layer, "a padding layer may only feed one conv or pool layer, with one bottom each")
            folded = layer.replace(layer=v0.replace(pad=source.layer.pad), bottom=[source.bottom[0]])
        if v0.type != "padding":
            layers.append(folded)
        made_by.update(dict.fromkeys(layer.top, layer))
    return layers


def _v0_layer(layer: Message) -> Message:
    schema, v0 = layer.descriptor.schema, layer.layer
    values = {key: layer.fields[key] for key in ("bottom", "top") if layer.has(key)}
    unknown = [*layer.unknown, *v0.unknown]
    if not layer.has("layer"):
        if layer.has("type"):
            raise _error(layer, "is in the V1 format, but other layers are in the V0 format, layers { layer { ... } }; "
                                "convert them to one format by hand")
        return Message(layer.descriptor, values, layer.origin, layer.position, unknown)
    values |= {key: v0.fields[key] for key in ("name", "blobs", "blobs_lr", "weight_decay") if v0.has(key)}
    if v0.has("type"):
        if v0.type not in V0_TYPES:
            raise _error(layer, "not a layer type of the V0 format")
        values["type"] = V0_TYPES[v0.type]
    params: dict[str, dict] = {}
    for name, value in v0.fields.items():
        if name in values or name == "type":
            continue
        places = V0_FIELDS.get(name, {})
        if name == "hdf5_output_param" and v0.type == "hdf5_output":
            values[name] = value
        elif target := places.get(v0.type) or places.get("*"):
            repeated = layer.descriptor.fields[target[0]].message.fields[target[1]].repeated
            params.setdefault(target[0], {})[target[1]] = [value] if repeated else value
        else:
            warnings.warn(str(_error(layer, f"a V0 layer of this type takes no {name}, so it has no effect")),
                          stacklevel=2)
    for name, fields in params.items():
        values[name] = Message(schema[layer.descriptor.fields[name].type], fields, v0.origin, v0.position)
    return Message(layer.descriptor, values, layer.origin, layer.position, unknown)


def _error(layer: Message, reason: str) -> NetError:
    """An error about a layer of the V0 or V1 format."""
    inner = layer.layer if layer.has("layer") else layer
    return NetError(f"{layer.where}: {shorten(inner.name)} ({shorten(inner.type)}): {reason}")


def _transform_params(net: Message) -> Message:
    """scale, mean_file, crop_size and mirror of V1 data layers move to transform_param."""
    return _each(net, "layers", _transform_param)


def _transform_param(layer: Message) -> Message:
    owner = _TRANSFORMS.get(layer.fields.get("type", ""))
    if owner is None or not layer.has(owner):
        return layer
    param = layer.fields[owner]
    moved = {key: param.fields[key] for key in ("scale", "mean_file", "crop_size", "mirror") if param.has(key)}
    if not moved:
        return layer
    return layer.replace(**{
        owner: param.replace(**dict.fromkeys(moved)),
        "transform_param": layer.transform_param.replace(**moved),
    })


def _v1_to_v2(net: Message) -> Message:
    if not net.layers:
        return net
    if net.layer:
        raise NetError(f"{net.layers[0].where}: layers {{ ... }} is the old format, and {net.layer[0].where} has layer "
                       "{ ... }, the current one; convert them to one format by hand: layer "
                       "{ type: \"Convolution\" ... }")
    return net.replace(layers=None, layer=[_v1_layer(layer) for layer in net.layers])


def _v1_layer(layer: Message) -> Message:
    schema = layer.descriptor.schema
    renamed = ("type", "param", "blob_share_mode", "blobs_lr", "weight_decay", "layer")
    values = {key: value for key, value in layer.fields.items() if key not in renamed}
    if layer.has("type"):
        values["type"] = v1_type(layer.fields["type"])
    columns = {"name": layer.param, "share_mode": layer.blob_share_mode, "lr_mult": layer.blobs_lr,
               "decay_mult": layer.weight_decay}
    count = max(map(len, columns.values()))
    if count:
        rows = [{key: column[i] for key, column in columns.items() if i < len(column)} for i in range(count)]
        values["param"] = [Message(schema["ParamSpec"], row, layer.origin, layer.position) for row in rows]
    return Message(schema["LayerParameter"], values, layer.origin, layer.position, layer.unknown)


def _input_fields(net: Message) -> Message:
    """``input`` with ``input_shape`` or ``input_dim`` becomes a layer "input"; alone, it is dropped."""
    if not net.input:
        return net
    layers = list(net.layer)
    if net.input_shape or net.input_dim:
        schema = net.descriptor.schema
        shapes = list(net.input_shape)
        if not shapes:
            dims = net.input_dim
            shapes = [Message(schema["BlobShape"], {"dim": list(dims[i : i + 4])}) for i in range(0, len(dims), 4)]
        if len(shapes) < len(net.input) or (len(shapes[len(net.input) - 1].dim) < 4 and not net.input_shape):
            given = pluralize(len(shapes), "input_shape") if net.input_shape else f"{len(net.input_dim)} input_dim"
            raise NetError(f"{net.origin.path}: {pluralize(len(net.input), 'input')}, but {given}; "
                           "give one input_shape, or four input_dim, per input")
        param = Message(schema["InputParameter"], {"shape": shapes[: len(net.input)]})
        values = {"name": "input", "type": "Input", "top": list(net.input), "input_param": param}
        layers.insert(0, Message(schema["LayerParameter"], values, net.origin, net.position))
    return net.replace(input=None, input_shape=None, input_dim=None, layer=layers or None)


def _batch_norm(net: Message) -> Message:
    """A BatchNorm with three param entries never learns: BVLC sets their lr_mult and decay_mult to 0, the ssd branch
    drops them, and the names that they are shared by. The fork lacks this step (upgrade_proto.cpp:1015 of the ssd
    branch, 1017 of BVLC)."""
    dialect = net.descriptor.schema.dialect
    if dialect == "rmpe":
        return net

    def step(layer: Message) -> Message:
        if layer.fields.get("type") != "BatchNorm" or len(layer.param) != 3:
            return layer
        frozen = [spec.replace(lr_mult=0.0, decay_mult=0.0) for spec in layer.param]
        return layer.replace(param=frozen if dialect == "bvlc" else None)

    return _each(net, "layer", step)


def _each(net: Message, key: str, change: Callable[[Message], Message]) -> Message:
    return net.replace(**{key: [change(layer) for layer in net.fields[key]]}) if net.has(key) else net
