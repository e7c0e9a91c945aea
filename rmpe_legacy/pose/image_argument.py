"""What the pipeline accepts as an image: a path, a PIL image, an array or a tensor. Colours are RGB, always."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rmpe_legacy.caffe.data.image import as_image
from rmpe_legacy.errors import InputError


def to_image(image: Any) -> np.ndarray:
    """Convert an image to the pipeline's form: (H, W, 3) float32 RGB from 0 to 1.

    Args:
        image: A path; a PIL image; an (H, W, 3) array of uint8, 0 to 255, or of floats, 0 to 1; or a tensor of these
            types, (3, H, W) as in torchvision, or (H, W, 3). Arrays and tensors are RGB: reverse OpenCV's BGR
            with ``image[..., ::-1]``.

    Raises:
        InputError: The argument is none of these.
        FileError: The file cannot be read as an image.
    """
    if isinstance(image, torch.Tensor):
        image = _channels_last(image.detach().cpu())
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        image = np.divide(image, np.float32(255), dtype=np.float32)
    return as_image(image)


def to_images(images: Any) -> list[Any] | None:
    """Return the images of a list, a tuple or a batch of tensors (N, 3, H, W); None for a single image."""
    if isinstance(images, list | tuple):
        return list(images)
    if isinstance(images, torch.Tensor) and images.dim() == 4:
        return list(images)
    return None


def _channels_last(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dim() != 3 or 3 not in (tensor.shape[0], tensor.shape[2]):
        raise InputError(f"a tensor of shape {tuple(tensor.shape)} is not an image; give (3, height, width) or "
                         "(height, width, 3), RGB")
    if tensor.shape[0] == 3:
        tensor = tensor.permute(1, 2, 0)
    return np.ascontiguousarray(tensor.numpy() if tensor.dtype == torch.uint8 else tensor.float().numpy())
