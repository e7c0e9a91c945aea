"""``Detector``: a network run over windows of images, as R-CNN. Source: python/caffe/detector.py of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from . import io
from .classifier import picture_transformer
from .errors import RuntimeRmpeError
from .net import TEST, Net


class Detector(Net):
    """A network that is run over windows of images."""

    def __init__(self, model_file: str | PathLike, pretrained_file: str | PathLike, mean: np.ndarray | None = None,
                 input_scale: float | None = None, raw_scale: float | None = None,
                 channel_swap: Sequence[int] | None = None, context_pad: int | None = None):
        """context_pad: how many pixels of the input's border show what surrounds a window. The others are the
        Transformer's options of these names."""
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = picture_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[tuple[str, Sequence[np.ndarray]]]) -> list[dict[str, Any]]:
        """Run the network on windows of image files.

        Args:
            images_windows: (file name, windows) pairs; a window is (ymin, xmin, ymax, xmax) in pixels.

        Returns:
            A dict with filename, window and prediction, (classes,), per window.
        """
        found = [(filename, window, image) for filename, windows in images_windows
                 for image in [io.load_image(filename)] for window in windows]
        name = self.inputs[0]
        batch = np.stack([self.transformer.preprocess(name, self.crop(image, window)) for _, window, image in found])
        predictions = self.forward_all(None, **{name: batch.astype(np.float32)})[self.outputs[0]]
        return [{"window": window, "prediction": prediction, "filename": filename}
                for (filename, window, _), prediction in zip(found, predictions, strict=True)]

    def detect_selective_search(self, image_fnames: Sequence[str]) -> list[dict[str, Any]]:
        """Not supported: Selective Search is a Matlab program that Caffe does not contain either.

        Raises:
            RuntimeRmpeError: Always.
        """
        raise RuntimeRmpeError("detect_selective_search needs a Matlab program, which is not supported; create the "
                               "windows elsewhere and pass them to detect_windows")

    def crop(self, im: np.ndarray, window: np.ndarray) -> np.ndarray:
        """Return the part of an image (H, W, K) in a window (ymin, xmin, ymax, xmax), in pixels.

        If context_pad is set, the crop includes the surroundings, with the mean outside the image.
        """
        window = np.asarray(window)
        if not self.context_pad:
            return im[window[0]:window[2], window[1]:window[3]]
        size = self.blobs[self.inputs[0]].width  # the input is taken to be square
        half = (window[2:] - window[:2] + 1) / 2.0
        centre = window[:2] + half
        grown = size / (size - 2.0 * self.context_pad) * half
        begin, end = np.round(centre - grown), np.round(centre + grown)
        scale = size / (end - begin + 1)
        pad = np.round(np.maximum(0, -begin) * scale).astype(int)
        limits = np.array(im.shape[:2])
        begin, end = np.clip(begin, 0, limits).astype(int), np.clip(end, 0, limits).astype(int)
        shape = np.minimum(np.round((end - begin + 1) * scale).astype(int), size - pad)
        inside = io.resize_image(im[begin[0]:end[0], begin[1]:end[1]], tuple(shape))
        crop = np.ones(self.crop_dims, np.float32) * self.crop_mean
        crop[pad[0]:pad[0] + shape[0], pad[1]:pad[1] + shape[1]] = inside
        return crop

    def configure_crop(self, context_pad: int | None) -> None:
        """Set context_pad, and compute the mean in the scale of unprocessed images."""
        name, transformer = self.inputs[0], self.transformer
        order = transformer.transpose[name]
        back = [order[axis] for axis in order]
        self.crop_dims = np.array(self.blobs[name].shape[1:])[back]
        self.context_pad = context_pad
        mean = transformer.mean.get(name)
        if mean is None:
            self.crop_mean = np.zeros(self.crop_dims, np.float32)
            return
        unmixed = mean.transpose(back)
        if (swap := transformer.channel_swap.get(name)) is not None:
            unmixed = unmixed[:, :, [list(swap).index(i) for i in range(unmixed.shape[2])]]
        scale = transformer.raw_scale.get(name)
        self.crop_mean = unmixed / (1 if scale is None else scale)
