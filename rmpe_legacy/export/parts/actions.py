"""What each detected person does."""

import torch
from torch import Tensor


def actions_of(detections: Tensor, maps: list, votes: int, threshold: float) -> Tensor:
    """Detections (1, 1, K, 10) and for each anchor the scores of actions (N, H, W, A) -> (1, 1, K, 8): image, action,
    confidence of the detection and of the action, box.

    With `votes`, the number of actions, detections that overlap a better one by more than the threshold vote for the
    action of the one that they overlap most, and go.
    """
    rows = detections.reshape(-1, 10)
    image, anchor, x, y = rows[:, [0, 7, 8, 9]].long().t()
    certainty, action = torch.stack(maps)[anchor, image, y, x].max(1)
    rows = torch.cat([torch.stack([image.to(rows), action.to(rows), rows[:, 2], certainty], 1), rows[:, 3:7]], 1)
    if votes:
        rows = rows[rows[:, 2].argsort(descending=True, stable=True)]
        low, high = rows[:, 4:6], rows[:, 6:]
        kept: list[int] = []
        totals: list[Tensor] = []
        area = (high - low).prod(1)
        for i, row in enumerate(rows):
            common = (torch.minimum(high[i], high[kept]) - torch.maximum(low[i], low[kept])).clamp(min=0).prod(1)
            union = area[i] + area[kept] - common
            near = torch.where(union > 0, common / union.where(union > 0, 1), 0)
            if kept and float(near.max()) > threshold:
                totals[int(near.argmax())][row[1].long()] += row[3]
                continue
            totals.append(rows.new_zeros(votes))
            totals[-1][row[1].long()] = row[3] if kept else 1
            kept.append(i)
        rows = rows[kept]
        rows[:, 1] = torch.stack(totals).argmax(1).to(rows)
    return rows.reshape(1, 1, -1, 8)
