"""Values compared with, or weighed by, what is stored for each class."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClassWiseProduct(nn.Module):
    """Rows (N, ...) times the weights of their class, or the mean of those of their classes: labels (N,) or
    (N, classes). The bias is not added, as in Caffe."""

    def __init__(self, classes: int, values: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(classes, values))
        self.bias = nn.Parameter(torch.zeros(1, values)) if bias else None

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        rows, label = x.reshape(len(x), -1), label.reshape(len(x), -1)
        if label.shape[1] == 1:
            mean = self.weight[label[:, 0].long()]
        else:
            mean = label @ self.weight / label.square().sum(1, keepdim=True)
        return (rows * mean)[..., None, None]


def labels_seen(x: Tensor, labels: int, shares: bool) -> Tensor:
    """Which labels a map (N, 1, H, W) or one before it has, (N, labels, 1, 1); or their shares of the places, with
    those in the maps before."""
    label = x.flatten(1).long()
    inside = (label >= 0) & (label < labels)
    counts = (F.one_hot(label.where(inside, 0), labels) * inside.unsqueeze(2)).sum(1).cumsum(0)
    seen = counts / max(1, label.shape[1]) if shares else counts > 0
    return seen.to(x.dtype)[..., None, None]


def known_labels(label: Tensor, classes: int) -> Tensor:
    """The labels, with -1 for those that are of no class."""
    index = label.long()
    return label.where((index >= 0) & (index < classes), -1)
