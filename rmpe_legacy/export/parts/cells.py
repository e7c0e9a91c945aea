"""Boxes of the cells of a grid: YOLO and DetectNet."""

import torch
from torch import Tensor


def yolo_boxes(x: Tensor, anchors: list, scale: float, above: float, every_class: bool) -> tuple[Tensor, ...]:
    """A map of YOLO (N, A * (5 + C), H, W) as boxes (K, 4), centre and size, with scores (K) and labels (K).

    Of YOLO v2, each box has its best class by softmax; with every_class, of v3, each class by its sigmoid.
    """
    n, _, h, w = x.shape
    x = x.reshape(n, len(anchors), -1, h, w).permute(0, 3, 4, 1, 2)
    across = torch.arange(w, dtype=x.dtype, device=x.device).view(1, 1, -1, 1)
    down = torch.arange(h, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)
    middle = [(across + torch.sigmoid(x[..., 0])) / w, (down + torch.sigmoid(x[..., 1])) / h]
    size = torch.exp(x[..., 2:4]) * x.new_tensor(anchors) / x.new_tensor([w * scale, h * scale])
    if every_class:
        score = torch.sigmoid(x[..., 5:]) * torch.sigmoid(x[..., 4:5])
        label, kept = torch.arange(score.shape[-1], device=x.device), score > above
    else:
        score, label = x[..., 5:].softmax(-1).max(-1, keepdim=True)
        score = torch.sigmoid(x[..., 4:5]) * score
        kept = score >= above
    box = torch.cat([torch.stack(middle, -1), size], -1)[..., None, :].expand(*score.shape, 4)
    return box[kept], score[kept], label.expand_as(score)[kept]


def yolo_detections(maps: list, images: int, threshold: float) -> Tensor:
    """Boxes, scores and labels of each map -> (1, 1, K, 7) rows of image, label, score, x1, y1, x2, y2, best first.

    Those that a better one overlaps by `threshold` or more are left out. All have image number 0, as published.
    Where nothing is found there is a row of -1 for each image, with its number.
    """
    boxes, scores, labels = (torch.cat(parts) for parts in zip(*maps, strict=True))
    if not len(scores):
        none = scores.new_full((images, 7), -1)
        none[:, 0] = torch.arange(images)
        return none.reshape(1, 1, images, 7)
    scores, order = torch.sort(scores, descending=True, stable=True)
    middle, size = boxes[order].split(2, 1)
    low, high, area = middle - size / 2, middle + size / 2, size.prod(1)
    is_free = torch.ones_like(scores, dtype=torch.bool)
    kept: list[int] = []
    for i in range(len(scores)):
        if is_free[i]:
            kept.append(i)
            sides = torch.minimum(high[i], high) - torch.maximum(low[i], low)
            shared = torch.where((sides < 0).any(1), 0, sides.prod(1))
            is_free &= ~(shared / (area[i] + area - shared) >= threshold)
    label = labels[order][:, None].to(scores.dtype) + 1
    return torch.cat([torch.zeros_like(label), label, scores[:, None], low, high], 1)[kept].reshape(1, 1, -1, 7)


def first_boxes(x: Tensor, biases: list, boxes: int, above: float, threshold: float) -> Tensor:
    """YOLO v2's boxes of one image, in the order of their places: (1, boxes * (5 + classes), H, H) -> (1, 1, K, 7).

    Rows are image, label, score, middle and size. Of boxes that overlap by `threshold` or more, the first stays.
    """
    rows, _ = placed_boxes(x, biases, boxes, above)
    close = overlapping(rows, threshold)
    is_free = torch.ones(len(rows), dtype=torch.bool, device=x.device)
    for i in range(len(rows)):
        if is_free[i]:
            is_free[i + 1 :] &= ~close[i, i + 1 :]
    return rows_or_none(rows[is_free])


def surest_boxes(x: Tensor, biases: list, boxes: int, above: float, threshold: float) -> Tensor:
    """The same; of two boxes that overlap, the one goes in which the confidence in an object is less, of equal ones the
    first."""
    rows, sure = placed_boxes(x, biases, boxes, above)
    close, left = overlapping(rows, threshold), torch.ones(len(rows), dtype=torch.bool, device=x.device)
    for i in range(len(rows)):
        if left[i]:
            others = (close[i] & left).nonzero().flatten()
            others = others[others > i]
            better = (sure[others] >= sure[i]).nonzero().flatten().tolist()
            left[others[: better[0]] if better else others] = False
            left[i] = not better
    return rows_or_none(rows[left & (sure > 0)])


def rows_or_none(rows: Tensor) -> Tensor:
    """Rows (K, 7) as (1, 1, K, 7); without any, a row of 0 and -1."""
    return (rows if len(rows) else rows.new_tensor([[0.0, *[-1.0] * 6]])).view(1, 1, -1, 7)


def placed_boxes(x: Tensor, biases: list, boxes: int, above: float) -> tuple[Tensor, Tensor]:
    """YOLO v2's boxes whose score is at least `above`: rows of image, label, score, middle and size, and the confidence
    in an object."""
    side = x.shape[3]
    x = x.view(boxes, -1, side, side).permute(2, 3, 0, 1)
    cell = torch.arange(side, dtype=x.dtype, device=x.device)
    middle = [(cell.view(shape) + torch.sigmoid(x[..., i])) / side for i, shape in enumerate(((1, -1, 1), (-1, 1, 1)))]
    size = torch.exp(x[..., 2:4]) * x.new_tensor(biases).view(boxes, 2) / side
    score, label = x[..., 5:].softmax(-1).max(-1)
    sure = torch.sigmoid(x[..., 4])
    score = sure * score
    rows = torch.cat([torch.stack([torch.zeros_like(score), label.to(x.dtype), score, *middle], -1), size], -1)
    return rows[score >= above], sure[score >= above]


def overlapping(rows: Tensor, threshold: float) -> Tensor:
    """Which boxes overlap by the threshold or more, cut at the image's edges: (K, 7) -> (K, K)."""
    low = (rows[:, 3:5] - rows[:, 5:] / 2).clamp(min=0)
    high = (rows[:, 3:5] + rows[:, 5:] / 2).clamp(max=1)
    area = torch.where((high >= low).all(1), (high - low).prod(1), 0)
    sides = torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)
    common = torch.where((sides > 0).all(2), sides.prod(2), 0)
    return torch.where(common > 0, common / (area[:, None] + area - common), 0) >= threshold


def region_scores(x: Tensor, classes: int, softmax: bool) -> Tensor:
    """YOLO v2's predictions, box by box: four coordinates, the confidence through a sigmoid, the classes."""
    rows = x.flatten(2).transpose(1, 2).reshape(-1, 5 + classes)
    scores = rows[:, 5:].softmax(1) if softmax else rows[:, 5:]
    return torch.cat([rows[:, :4], torch.sigmoid(rows[:, 4:5]), scores], 1).view(x.shape)


def cluster_detections(cover: Tensor, boxes: Tensor, *, grid: tuple, cell: tuple, covered: float, least: int,
                       eps: float, height: float) -> tuple[Tensor, ...]:
    """DetectNet's boxes of each class, (N, 50, 5): left, top, right, bottom and the logarithm of how many cells agree.

    Boxes (N, 4, h, w) of cells whose coverage (N, classes, h, w) is `covered` or more are grouped where they are close.
    """
    seen = cover[:, :, : grid[0], : grid[1]] >= covered
    h, w = seen.shape[2:]
    x = (torch.arange(w, dtype=torch.float64) * cell[1]).expand(h, w)
    y = (torch.arange(h, dtype=torch.float64) * cell[0])[:, None].expand(h, w)
    corners = boxes[:, :, :h, :w].double() + torch.stack([x, y, x, y]).to(boxes.device)
    tops = cover.new_zeros(cover.shape[1], len(cover), 50, 5)
    for image, mask in enumerate(seen):
        for label in range(len(mask)):
            corner = corners[image][:, mask[label]].t()
            if corner.any():
                rect = torch.cat([corner[:, :2], corner[:, 2:] - corner[:, :2]], 1).clamp(-1e9, 1e9).trunc()
                mean, count = group_rectangles(rect, least, eps)
                mean, count = mean[mean[:, 3] >= height], count[mean[:, 3] >= height]
                row = torch.cat([mean[:, :2], mean[:, :2] + mean[:, 2:], count.log()[:, None]], 1)[:50]
                tops[label, image, : len(row)] = row.half().to(tops.dtype)
    return tuple(tops)


def group_rectangles(rect: Tensor, least: int, eps: float) -> tuple[Tensor, Tensor]:
    """The means of groups of more than `least` rectangles (K, 4) that are close, and how many each has, as OpenCV."""
    if least <= 0:
        return rect, torch.ones_like(rect[:, 0])
    corner = torch.cat([rect[:, :2], rect[:, :2] + rect[:, 2:]], 1)
    reach = eps * torch.minimum(rect[:, None, 2:], rect[:, 2:]).sum(2) * 0.5
    joined = (corner[:, None] - corner).abs().amax(2) <= reach
    joined |= torch.eye(len(rect), dtype=torch.bool, device=rect.device)
    for _ in range(len(rect).bit_length()):  # each time through twice as many others
        joined = joined.float() @ joined.float() > 0
    first = joined.float().argmax(1) == torch.arange(len(rect), device=rect.device)
    members = joined[first].double()
    count = members.sum(1)
    mean = ((members @ rect).float() * (1 / count.float())[:, None]).round().double()
    mean, count = mean[count > least], count[count > least]
    margin = (mean[:, 2:] * eps).round()
    low, high = mean[:, :2] - margin, mean[:, :2] + mean[:, 2:] + margin
    inside = (mean[:, None, :2] >= low).all(2) & ((mean[:, :2] + mean[:, 2:])[:, None] <= high).all(2)
    inside &= (count > count.clamp(min=3)[:, None]) | (count < 3)[:, None]
    alone = ~inside.fill_diagonal_(False).any(1)
    return mean[alone], count[alone]
