"""Captions by beam search."""

import torch
from torch import Tensor


def beam_step(scores: Tensor, before: tuple | None, rest: list, beams: int, end: int, repeats: bool) -> tuple:
    """One step of a beam search: scores (N, words); the sums (N, 1) and words (N, steps) before it; recurrent blobs.

    Returns the sums, words, last words and recurrent blobs of the samples that were kept. Of equal sums the last goes
    first.
    """
    n, words = scores.shape
    word, sample = torch.arange(words, device=scores.device), torch.arange(n, device=scores.device)
    if before is None:
        may_follow = (sample % beams == 0).unsqueeze(1).expand(n, words)
    else:
        last = before[1][:, -1:].long()
        ended = last == end
        scores = torch.where(ended, before[0], before[0] + scores)
        may_follow = torch.where(ended, word == end, (word != last) | repeats)
    possible = torch.where(may_follow, scores, -float("inf")).reshape(-1, beams * words)
    best = beams * words - 1 - possible.flip(1).sort(stable=True, dim=1, descending=True).indices[:, :beams]
    chosen = (best + sample[::beams].unsqueeze(1) * words).flatten()
    source, spoken = chosen // words, (chosen % words).to(scores.dtype).unsqueeze(1)
    said = spoken if before is None else torch.cat([before[1][source], spoken], 1)
    rest = [torch.where(spoken == end, 0, x[source]) for x in rest]
    return (scores.reshape(-1)[chosen].unsqueeze(1), said, spoken, *rest)
