"""AttentionMask's choice of windows."""

import torch
import torch.nn.functional as F
from torch import Tensor


def with_an_object(x: Tensor, against: Tensor, score: float, other: float) -> tuple[Tensor, Tensor]:
    """Two blobs; where the first is nowhere larger, with these first values."""
    if not bool((x > against).any()):
        x, against = x.clone(), against.clone()
        x.view(-1)[0], against.view(-1)[0] = score, other
    return x, against


def best_places(x: Tensor, against: Tensor, least: int, in_row: bool, scores: bool) -> Tensor:
    """The numbers of the largest of x (1, 1, 1, P), or in a row their scores alone, or both: as many as x is larger,
    at least `least`. Of equal scores the last goes first."""
    flat = x.flatten()
    kept = max(least, int((x > against).sum()))
    best = len(flat) - 1 - flat.flip(0).sort(stable=True, descending=True).indices[:kept]
    numbers, values = best.to(x.dtype), flat[best]
    if in_row:
        return (values if scores else numbers).reshape(1, 1, 1, kept)
    return (torch.cat([numbers, values]) if scores else numbers).reshape(1, 1 + scores, kept, 1)


def windows_at(x: Tensor, flags: Tensor, size: tuple) -> Tensor:
    """The windows around the corners of pixels that are flagged, of a map (1, C, H, W): (K, C, *size); 0 beyond it.
    Without any, one of zeros."""
    (h, w), columns = size, x.shape[3] + 1
    at = (flags.flatten() > 0).nonzero()
    if not len(at):
        return x.new_zeros(1, x.shape[1], h, w)
    padded = F.pad(x[0], (w // 2, w // 2, h // 2, h // 2))
    row = (at // columns + torch.arange(h, device=x.device)).unsqueeze(2)
    column = (at % columns + torch.arange(w, device=x.device)).unsqueeze(1)
    return padded[:, row, column].transpose(0, 1)


def rows_of_best(x: Tensor, scores: Tensor, wanted: Tensor, filled: bool) -> tuple[Tensor, Tensor]:
    """As many rows of x as `wanted` has, those with the largest scores, in their order; and the numbers of all of x, of
    those first, (K, 1, 1, 1). filled: With rows of zeros behind the last."""
    scores, kept = scores.reshape(len(x), -1), min(len(x), len(wanted))
    best = scores[:, 0] if scores.shape[1] == 1 else scores[:, 1:].amax(1).clamp(min=0)
    order = best.sort(stable=True, descending=True).indices
    order = torch.cat([order[:kept].sort().values, order[kept:]])
    missing = len(wanted) - kept
    top = x[order[:kept]]
    if filled:
        top = torch.cat([top, x.new_zeros(missing, *x.shape[1:])])
    return top, F.pad(order[: len(wanted)], (0, missing)).to(x.dtype).reshape(-1, 1, 1, 1)
