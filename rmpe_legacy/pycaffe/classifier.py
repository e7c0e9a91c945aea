"""``Classifier``: images in, class probabilities out. Source: python/caffe/classifier.py of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from . import io
from .net import TEST, Net


def picture_transformer(net: Net, mean: np.ndarray | None, input_scale: float | None, raw_scale: float | None,
                        channel_swap: Sequence[int] | None) -> io.Transformer:
    """Return the Transformer of a network's first input, which moves channels first.

    Args:
        net: The network.
        mean: (K,), or (K, h, w); subtracted.
        input_scale: The factor applied after the mean.
        raw_scale: The factor applied before the mean.
        channel_swap: The order of the channels; (2, 1, 0) turns RGB into BGR.

    Options that are None are not set.
    """
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    setters: tuple[tuple[Any, Callable[[str, Any], None]], ...] = (
        (mean, transformer.set_mean), (input_scale, transformer.set_input_scale),
        (raw_scale, transformer.set_raw_scale), (channel_swap, transformer.set_channel_swap))
    for value, setter in setters:
        if value is not None:
            setter(name, value)
    return transformer


class Classifier(Net):
    """A network that classifies images."""

    def __init__(self, model_file: str | PathLike, pretrained_file: str | PathLike,
                 image_dims: Sequence[int] | None = None, mean: np.ndarray | None = None,
                 input_scale: float | None = None, raw_scale: float | None = None,
                 channel_swap: Sequence[int] | None = None):
        """image_dims: (h, w) that images are resized to before they are cropped; None is the input's size. The
        others are the Transformer's options of these names."""
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = picture_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims: Any = image_dims if image_dims else self.crop_dims

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Classify images: N arrays (H, W, K) -> (N, classes), the network's first output, float32.

        Args:
            inputs: The images.
            oversample: Average over the corners, the centre and their mirror images; False takes the centre crop only.
        """
        images: Any = np.stack([io.resize_image(image, self.image_dims) for image in inputs]).astype(np.float32)
        if oversample:
            crops = io.oversample(images, self.crop_dims)
        else:
            centre = np.array(self.image_dims) / 2.0
            (top, left), (bottom, right) = ((centre + half).astype(int) for half in
                                            (-self.crop_dims / 2.0, self.crop_dims / 2.0))
            crops = images[:, top:bottom, left:right, :]
        name = self.inputs[0]
        batch = np.stack([self.transformer.preprocess(name, crop) for crop in crops]).astype(np.float32)
        predictions = self.forward_all(None, **{name: batch})[self.outputs[0]]
        return predictions.reshape(len(predictions) // 10, 10, -1).mean(1) if oversample else predictions
