"""Matching of priors with true boxes. Tensors only, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .boxes import match_boxes


@dataclass(frozen=True)
class GroundTruth:
    """The true boxes of a batch, by image: image i has the rows first[i]:first[i + 1]."""

    box: Tensor  # (G, 4), single precision
    label: Tensor  # (G), int64
    first: Tensor  # (N + 1), int64

    @property
    def count(self) -> Tensor:
        """Return the number of true boxes per image: (N)."""
        return self.first.diff()

    def row(self, image: Tensor, number: Tensor) -> Tensor:
        """Return the row of each true box from its image and its index in that image, int64, of one shape."""
        return self.first[image] + number


def group_by_image(rows: Tensor, images: int) -> GroundTruth:
    """Group rows of true boxes by image: (G, 8) of image, label, unused, box, difficult, in any order.

    Numbers are truncated to integers. Rows whose image is not one of the `images` first are left out.
    """
    image = rows[:, 0].trunc().long()
    inside = (image >= 0) & (image < images)
    rows, image = rows[inside], image[inside]
    image, order = image.sort(stable=True)
    first = torch.searchsorted(image, torch.arange(images + 1))
    rows = rows[order]
    return GroundTruth(rows[:, 3:7].contiguous(), rows[:, 1].trunc().long(), first)


def matched(match: Tensor) -> tuple[Tensor, ...]:
    """Return where priors are matched: the indices of the non-negative values of a match (any shape), int64 (M,) per
    axis.

    Uses numpy, like ``count_matched``: for so few values, starting torch's threads would take longer than the work.
    """
    return tuple(map(torch.from_numpy, np.nonzero(match.numpy() >= 0)))


def count_matched(match: Tensor) -> Tensor:
    """Count the matched priors of each image: (N, ...) -> (N)."""
    return torch.from_numpy(np.count_nonzero(match.flatten(1).numpy() >= 0, axis=1))


def match_any_label(box: Tensor, truth: GroundTruth, **how) -> tuple[Tensor, Tensor]:
    """Match every box with all true boxes of its image.

    Args:
        box: (N or 1, P, 4).
        truth: The true boxes of N images.
        how: threshold, per_prediction and inside_only of ``match_boxes``.

    Returns:
        (N, P) index of the matched true box in its image, -1 for none; and (N, P) overlap.
    """
    return match_boxes(box, truth.box, truth.first, **how)


def match_per_label(box: Tensor, truth: GroundTruth, labels: Sequence[int], **how) -> tuple[Tensor, Tensor]:
    """Match boxes predicted per label with the true boxes of that label.

    Args:
        box: (N, L, P, 4).
        truth: The true boxes of N images.
        labels: The label of each entry of the second axis.
        how: threshold, per_prediction and inside_only of ``match_boxes``.

    Returns:
        (N, L, P) index of the matched true box in its image, -1 for none; and (N, L, P) overlap.
    """
    images, places = box.shape[:2]
    place, row = (torch.tensor(labels, dtype=torch.int64).unsqueeze(1) == truth.label).nonzero(as_tuple=True)
    image = torch.searchsorted(truth.first, row, right=True) - 1
    member, order = (image * places + place).sort(stable=True)  # of which image's and label's set
    row = row[order]
    first = torch.searchsorted(member, torch.arange(images * places + 1))
    match, overlap = match_boxes(box.flatten(0, 1), truth.box[row], first, **how)
    matched = match >= 0
    rows = row[(first[:-1].unsqueeze(1) + match)[matched]]
    owner = torch.arange(images * places).unsqueeze(1).expand_as(match)[matched] // places
    match[matched] = rows - truth.first[owner]
    return match.view(box.shape[:3]), overlap.view(box.shape[:3])


def split_by_label(match: Tensor, truth: GroundTruth, labels: Sequence[int]) -> Tensor:
    """Split matches (N, P) by label (N, L, P): a prior is matched for the label of its true box."""
    image, prior = matched(match)
    number = match[image, prior]
    label = truth.label[truth.row(image, number)]
    out = torch.full((match.shape[0], len(labels), match.shape[1]), -1)
    for place, value in enumerate(labels):
        mine = label == value
        out[image[mine], place, prior[mine]] = number[mine]
    return out
