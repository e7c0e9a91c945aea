"""SSD's head: boxes, classes and priors on several layers."""
# ruff: noqa: N802  the scripts' names

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rmpe_legacy.pycaffe.net_spec import NetSpec, layers

from .blocks import ConvBNLayer, of_rmpe
from .vgg import MissingLayerError, check_there


def CreateMultiBoxHead(net: NetSpec, data_layer: str = "data", num_classes: int = 0, from_layers: Sequence[str] = (),
                       use_objectness: bool = False, normalizations: Sequence[float] = (), use_batchnorm: bool = True,
                       lr_mult: float = 1, use_scale: bool = True, min_sizes: Sequence[Any] = (),
                       max_sizes: Sequence[Any] = (), prior_variance: Sequence[float] = (0.1,),
                       aspect_ratios: Sequence[Any] = (), steps: Sequence[Any] = (), img_height: int = 0,
                       img_width: int = 0, share_location: bool = True, flip: bool = True, clip: bool = True,
                       offset: float = 0.5, inter_layer_depth: Any = 0, kernel_size: int = 1, pad: int = 0,
                       conf_postfix: str = "", loc_postfix: str = "", **bn_param: Any) -> list:
    """Predictions on each of from_layers, and what joins them.

    Args:
        net: Gets the layers.
        data_layer: The blob of the images, whose size the priors need.
        num_classes: With the background.
        from_layers: The blobs to predict from; the lists below have an item for each, or none.
        use_objectness: Predict objectness as well.
        normalizations: The scale of a Normalize before the predictions; -1 for none.
        use_batchnorm: With batch normalisation.
        lr_mult: Of the predictions (SSD's).
        use_scale: Not read, as published.
        min_sizes: In pixels; of the priors.
        max_sizes: In pixels; of the priors.
        prior_variance: One, or four.
        aspect_ratios: Of the priors, beside 1.
        steps: Pixels between priors (SSD's).
        img_height: Pixels; if given, the priors do not depend on the images (SSD's).
        img_width: The same.
        share_location: One box for all classes.
        flip: Each ratio's inverse as well.
        clip: Priors end at the image's border.
        offset: Of the priors in their cell (SSD's).
        inter_layer_depth: Channels of a further 3 x 3 before the predictions; of SSD's one for each layer.
        kernel_size: Of the predictions.
        pad: Of the predictions.
        conf_postfix: Of the names of the classes' layers.
        loc_postfix: Of the names of the boxes' layers.
        bn_param: Options of the batch normalisations (SSD's).

    Returns:
        The Tops mbox_loc, mbox_conf and mbox_priorbox, and mbox_objectness if asked for.

    Raises:
        AssertionError: For lists of other lengths, no classes, or a data_layer that is not there.
    """
    _check_lists(num_classes, len(from_layers), normalizations, min_sizes, max_sizes, steps)
    check_there(net, data_layer)
    common = {"use_bn": use_batchnorm, "stride": 1, "lr_mult": lr_mult, **bn_param}
    options = {"use_relu": False, "kernel_size": kernel_size, "pad": pad, **common}
    joined: dict[str, list] = {"loc": [], "conf": [], "priorbox": [], "objectness": []}
    for i, layer in enumerate(from_layers):
        layer = _normalized(net, layer, normalizations[i] if normalizations else -1)
        depth = inter_layer_depth[i] if isinstance(inter_layer_depth, list) and inter_layer_depth else inter_layer_depth
        layer = _deepened(net, layer, depth, common)
        ratios = _list(aspect_ratios[i]) if len(aspect_ratios) > i else []
        small, large = _list(min_sizes[i]), _list(max_sizes[i]) if max_sizes else []
        priors = (1 + bool(large) + (1 + bool(flip)) * len(ratios)) * len(small)
        outputs = [("loc", loc_postfix, 4 * priors * (1 if share_location else num_classes)),
                   ("conf", conf_postfix, priors * num_classes)]
        for kind, postfix, width in outputs:
            joined[kind].append(_predict(net, layer, f"{layer}_mbox_{kind}{postfix}", width, options))
        name = f"{layer}_mbox_priorbox"
        net[name] = layers.PriorBox(net[layer], net[data_layer], **_prior(
            small, large, ratios, flip, clip, prior_variance, offset, steps[i] if steps else None,
            img_height, img_width))
        joined["priorbox"].append(net[name])
        if use_objectness:
            joined["objectness"].append(_predict(net, layer, f"{layer}_mbox_objectness", 2 * priors, options))
    return _join(net, joined)


def _check_lists(num_classes: int, count: int, normalizations: Sequence[float], min_sizes: Sequence[Any],
                 max_sizes: Sequence[Any], steps: Sequence[Any]) -> None:
    if not num_classes or num_classes < 0:
        raise MissingLayerError(f"num_classes is {num_classes}; give the number of classes, including the background")
    for name, given, needed in (("normalizations", normalizations, False), ("min_sizes", min_sizes, True),
                                ("max_sizes", max_sizes, False), ("steps", steps, False)):
        if len(given) != count and (needed or given):
            raise MissingLayerError(f"{name} has {len(given)} items for {count} from_layers; give one for each")


def _normalized(net: NetSpec, layer: str, scale: float) -> str:
    """Return the name of the layer's Normalize, or the layer itself if the scale is -1."""
    if scale == -1:
        return layer
    net[f"{layer}_norm"] = layers.Normalize(net[layer], scale_filler={"type": "constant", "value": scale},
                                            across_spatial=False, channel_shared=False)
    return f"{layer}_norm"


def _deepened(net: NetSpec, layer: str, depth: int, common: dict[str, Any]) -> str:
    """Return the name of a further convolution with `depth` channels, or the layer itself if that is 0."""
    if not depth:
        return layer
    ConvBNLayer(net, layer, f"{layer}_inter", use_relu=True, num_output=depth, kernel_size=3, pad=1, **common)
    return f"{layer}_inter"


def _join(net: NetSpec, joined: dict[str, list]) -> list:
    """Concatenate the tops of each kind."""
    for kind, tops in joined.items():
        if tops:
            net[f"mbox_{kind}"] = layers.Concat(*tops, axis=2 if kind == "priorbox" else 1)
    return [net[f"mbox_{kind}"] for kind, tops in joined.items() if tops]


def _predict(net: NetSpec, layer: str, name: str, width: int, options: dict[str, Any]) -> Any:
    """A convolution, its channels last, in one row for each image."""
    ConvBNLayer(net, layer, name, num_output=width, **options)
    net[f"{name}_perm"] = layers.Permute(net[name], order=[0, 2, 3, 1])
    net[f"{name}_flat"] = layers.Flatten(net[f"{name}_perm"], axis=1)
    return net[f"{name}_flat"]


def _prior(small: list, large: list, ratios: list, flip: bool, clip: bool, variance: Sequence[float], offset: float,
           step: Any, img_height: int, img_width: int) -> dict[str, Any]:
    """The fields of a PriorBoxParameter, those that the published builders set."""
    fields: dict[str, Any] = {"min_size": small if not of_rmpe() else small[0], "clip": clip,
                              "variance": list(variance)}
    if not of_rmpe():
        fields["offset"] = offset
    if large:
        fields["max_size"] = large if not of_rmpe() else large[0]
    if ratios:
        fields |= {"aspect_ratio": ratios, "flip": flip}
    if step:
        fields["step"] = step
    if img_height and img_width:
        fields |= {"img_size": img_height} if img_height == img_width else {"img_h": img_height, "img_w": img_width}
    return fields


def _list(value: Any) -> list:
    return value if isinstance(value, list) else [value]
