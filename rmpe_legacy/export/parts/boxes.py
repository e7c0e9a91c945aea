"""Boxes of anchors and priors, and their suppression."""

import torch
import torch.nn.functional as F
from torch import Tensor


def scores_of_maps(maps: list) -> Tensor:
    """Confidences of each map, (N, classes, A, H * W), by box: (N, P, classes)."""
    return torch.cat([scores.flatten(2) for scores in maps], 2).transpose(1, 2)


def moves_of_maps(maps: list) -> Tensor:
    """Predictions of each map, (N, A * 4, H, W), by box: (N, P, 1, 4)."""
    parts = [moves.reshape(len(moves), -1, 4, moves.shape[2] * moves.shape[3]) for moves in maps]
    return torch.cat([part.transpose(2, 3).flatten(1, 2) for part in parts], 1)[:, :, None]


def decode_boxes(offset: Tensor, prior: Tensor, variance: Tensor, code: str) -> Tensor:
    """SSD's predictions as boxes: offset (N, P, ..., 4), prior (P, 4) or (N, P, 4), variance (P, 4) -> like offset; x1,
    y1, x2, y2."""
    between = [1] * (offset.dim() - 3)
    prior, variance = (x.reshape(*x.shape[:-1], *between, 4) for x in (prior, variance))
    offset = offset * variance
    low, high = prior[..., :2], prior[..., 2:]
    size = high - low
    if code == "CORNER":
        return prior + offset
    if code == "CORNER_SIZE":
        return prior + offset * torch.cat([size, size], -1)
    middle = offset[..., :2] * size + (low + high) / 2
    half = torch.exp(offset[..., 2:]) * size / 2
    return torch.cat([middle - half, middle + half], -1)


def boxes_of_places(x: Tensor, middles: Tensor, ideal_size: float, alone: bool) -> Tensor:
    """Maps (N, C, H, W), of which the second channel and those behind it are corners around `middles` (K, H, W), as
    shares of ideal_size -> the same, the corners in pixels. `alone`: the other channels are 0."""
    y = torch.zeros_like(x) if alone else x.clone()
    y[:, 1 : 1 + len(middles)] = ideal_size * (x[:, 1 : 1 + len(middles)] - 0.5) + middles
    return y


def text_shapes(moves: Tensor, prior: Tensor, variance: Tensor) -> Tensor:
    """Quadrangles, or rectangles by two corners and a height: moves (N, P, places, 8 or 5), P priors -> the same."""
    prior, variance = prior[:, None], variance[:, None]
    low, high = prior[..., :2], prior[..., 2:]
    size = high - low
    if moves.shape[3] == 8:
        start = prior[..., [0, 1, 2, 1, 2, 3, 0, 3]]
        return variance[..., :2].repeat(1, 1, 4) * moves * size.repeat(1, 1, 4) + start
    middle = ((low + high) / 2).repeat(1, 1, 2)
    ends = variance[..., :2].repeat(1, 1, 2) * moves[..., :4] * size.repeat(1, 1, 2) + middle
    return torch.cat([ends, torch.exp(variance[..., 3:] * moves[..., 4:]) * size[..., 1:]], -1)


def of_objects(scores: Tensor, first: Tensor, least: float) -> Tensor:
    """Scores (N, P, C), as of the background 0 where a first stage (N, P, 2) is less sure of an object."""
    background = torch.zeros_like(scores[0, 0])
    background[0] = 1
    return torch.where(first[..., 1:] < least, background, scores)


def overlap(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of one box (4) with others (K, 4)."""
    sides = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2])).clamp(min=0)
    shared = sides.prod(1)
    area = (box[2:] - box[:2]).clamp(min=0).prod() + (others[:, 2:] - others[:, :2]).clamp(min=0).prod(1) - shared
    return torch.where(shared > 0, shared / area, 0)


def suppress(boxes: Tensor, scores: Tensor, threshold: float, eta: float = 1.0, most: int = 0) -> list[int]:
    """Greedy suppression of boxes (K, 4), best first: the places of those that stay, the first `most` if not 0."""
    kept: list[int] = []
    for i in torch.sort(scores, descending=True, stable=True).indices.tolist():
        if most and len(kept) == most:
            break
        if not kept or bool((overlap(boxes[i], boxes[kept]) <= threshold).all()):
            kept.append(i)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return kept


def detections(boxes: Tensor, scores: Tensor, *, background: int, above: float, threshold: float, eta: float = 1.0,
               top_k: int = -1, keep_top_k: int = -1, clip: bool = True, number_images: bool = False) -> Tensor:
    """SSD's choice of boxes: boxes (N, P, 1 or C, 4), scores (N, P, C) -> (1, 1, K, 7). A box may have further values,
    which are those of a row too.

    Rows hold image, label, score, x1, y1, x2, y2, by image and label, best first. Per class the top_k scores `above`
    are taken and suppressed, then the keep_top_k of each image. Where nothing is found there is a row of -1; with
    number_images, one for each image.
    """
    rows = []
    for image in range(len(scores)):
        found = []
        for label in range(scores.shape[2]):
            if label == background:
                continue
            score = scores[image, :, label]
            order = torch.sort(score, descending=True, stable=True).indices
            order = order[score[order] > above]
            order = order[:top_k] if top_k >= 0 else order
            box = boxes[image, :, label if boxes.shape[2] > 1 else 0][order]
            found += [(score[order[i]], label, box[i]) for i in suppress(box[:, :4], score[order], threshold, eta)]
        if 0 <= keep_top_k < len(found):
            found = sorted(found, key=lambda one: -float(one[0]))[:keep_top_k]
            found.sort(key=lambda one: one[1])
        rows += [torch.cat([score.new_tensor([image, label]), score[None], box]) for score, label, box in found]
    if not rows:
        none = scores.new_full((len(scores) if number_images else 1, 3 + boxes.shape[3]), -1)
        if number_images:
            none[:, 0] = torch.arange(len(scores))
        return none[None, None]
    table = torch.stack(rows)
    if clip:
        table[:, 3:7] = table[:, 3:7].clamp(0, 1)
    return table[None, None]


def move_regions(moves: Tensor, rois: Tensor, mean: list, std: list) -> Tensor:
    """Regions (R, 5) moved by the last four of (R, 8): corners by the size, sizes by their logarithms."""
    flat = rois.reshape(len(rois), 5)
    size = flat[:, 3:] - flat[:, 1:3] + 1
    move = moves.reshape(len(moves), 8)[:, 4:] * moves.new_tensor(std) + moves.new_tensor(mean)
    sides = size * torch.exp(move[:, 2:])
    corner = move[:, :2] * size + 0.5 * (flat[:, 3:] + flat[:, 1:3]) - (sides - 1) / 2
    return torch.cat([flat[:, :1], corner, corner + sides - 1], 1)[:, :, None, None]


def moved_anchors(scores: Tensor, moves: Tensor, info: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Anchors (P, 4), moved and cut at the image (height, width, ...), and the scores of their objects (P)."""
    height, width = info.flatten()[:2]
    move = moves.permute(0, 2, 3, 1).reshape(-1, 4)
    size = anchors[:, 2:] - anchors[:, :2] + 1
    middle = move[:, :2] * size + (anchors[:, :2] + 0.5 * size)
    half = 0.5 * (torch.exp(move[:, 2:]) * size)
    end = torch.stack([width, height] * 2) - 1
    box = torch.minimum(torch.cat([middle - half, middle + half], 1).clamp(min=0), end)
    return box, scores[:, scores.shape[1] // 2 :].permute(0, 2, 3, 1).reshape(-1)


def best_boxes(box: Tensor, score: Tensor, before: int, threshold: float, most: int, pixels: bool = True) -> Tensor:
    """The places of `most` of the best `before` boxes (P, 4), best first, that do not overlap by more than `threshold`.

    0 stands for all. With `pixels`, both ends of a box belong to it.
    """
    order = torch.sort(score, descending=True, stable=True).indices
    order = order[:before] if before > 0 else order
    ends = box[order] + box.new_tensor([0, 0, 1, 1]) if pixels else box[order]
    return order[suppress(ends, score[order], threshold, most=most)]


def propose(scores: Tensor, moves: Tensor, info: Tensor, anchors: Tensor, *, before: int, after: int, threshold: float,
            least: float) -> tuple[Tensor, Tensor]:
    """Faster R-CNN's regions (R, 5), best first, and their scores (R, 1).

    Moves anchors (P, 4), cuts them at the image (height, width, scale), drops those smaller than `least` times the
    scale, and keeps `after` of the best `before` that do not overlap by more than `threshold`.
    """
    box, score = moved_anchors(scores, moves, info, anchors)
    large = (box[:, 2:] - box[:, :2] + 1 >= least * info.flatten()[2]).all(1)
    box, score = box[large].flip(0), score[large].flip(0)  # of equal scores the later anchor goes first
    kept = best_boxes(box, score, before, threshold, after)
    return F.pad(box[kept], (1, 0)), score[kept, None]


def propose_likely(scores: Tensor, moves: Tensor, info: Tensor, anchors: Tensor, *, least_score: float, before: int,
                   after: int, threshold: float, least: float) -> tuple[Tensor, Tensor]:
    """The same as (R, 5, 1, 1) and (R, 1, 1, 1); of each cell's anchors but the first, those of a lower score go."""
    box, score = moved_anchors(scores, moves, info, anchors)
    first = torch.arange(len(score), device=score.device) % (moves.shape[1] // 4) == 0
    large = (box[:, 2:] - box[:, :2] + 1 >= least * info.flatten()[2]).all(1) & (first | (score >= least_score))
    box, score = box[large].flip(0), score[large].flip(0)
    kept = best_boxes(box, score, before, threshold, after)
    return F.pad(box[kept], (1, 0))[..., None, None], score[kept, None, None, None]


def propose_classes(scores: Tensor, moves: Tensor, info: Tensor, anchors: Tensor, *, above: float, most: int
                    ) -> tuple[Tensor, Tensor]:
    """Regions (R, 5), best first, and the scores (R, K) of all classes: those of which one but the first has `above` or
    more, `most` at most, and one at least."""
    box = moved_anchors(scores, moves, info, anchors)[0].flip(0)  # of equal scores the later anchor goes first
    each = scores.unflatten(1, (-1, moves.shape[1] // 4))[0].permute(2, 3, 1, 0).flatten(0, 2).flip(0)
    best, order = torch.sort(each[:, 1:].amax(1), descending=True, stable=True)
    kept = order[: min(max(1, int((best >= above).sum())), most)]
    return F.pad(box[kept], (1, 0)), each[kept]


def propose_spans(scores: Tensor, moves: Tensor, anchors: Tensor, end: float, *, before: int, after: int,
                  threshold: float, least: float) -> tuple[Tensor, Tensor]:
    """The same of anchors in time (P, 2), cut at 0 and `end`, by scores and moves (1, 2A, L, 1, 1): (R, 3), (R, 1)."""
    move, size = moves.flatten(2)[0, :, :].t().reshape(-1, 2), anchors[:, 1] - anchors[:, 0] + 1
    middle, half = move[:, 0] * size + (anchors[:, 0] + 0.5 * size), 0.5 * (torch.exp(move[:, 1]) * size)
    span = torch.stack([middle - half, middle + half], 1).clamp(0, end)
    score = scores.flatten(2)[0, scores.shape[1] // 2 :].t().reshape(-1)
    long = span[:, 1] - span[:, 0] + 1 >= least
    span, score = span[long].flip(0), score[long].flip(0)
    kept = best_boxes(F.pad(span[..., None], (0, 1)).flatten(1), score, before, threshold, after)
    return F.pad(span[kept], (1, 0)), score[kept, None]


def propose_by_scale(scores: Tensor, moves: Tensor, info: Tensor, anchors: Tensor, *, before: int, after: int,
                     threshold: float, least: float) -> tuple[Tensor, Tensor]:
    """The same of PVANet, with scores (R): info has two scales, and the scores of small boxes are 0."""
    box, score = moved_anchors(scores, moves, info, anchors)
    score = score * (box[:, 2:] - box[:, :2] + 1 >= least * info.flatten()[[3, 2]]).all(1)
    kept = best_boxes(box, score, before, threshold, after)
    return F.pad(box[kept], (1, 0)), score[kept]


def move_by_best(rois: Tensor, moves: Tensor, scores: Tensor, info: Tensor) -> Tensor:
    """Regions (R, 5), each moved by the moves (R, 4K) of its best class, and cut at the image (height, width, ...)."""
    flat = rois.reshape(len(rois), 5)
    move = moves.reshape(len(moves), -1, 4)[torch.arange(len(moves), device=moves.device), scores.argmax(1)]
    size = flat[:, 3:] - flat[:, 1:3] + 1
    middle = move[:, :2] * size + (flat[:, 1:3] + 0.5 * size)
    half = 0.5 * (torch.exp(move[:, 2:]) * size)
    end = info.flatten()[[1, 0, 1, 0]] - 1
    return F.pad(torch.minimum(torch.cat([middle - half, middle + half], 1).clamp(min=0), end), (1, 0))


def transform_boxes(boxes: Tensor, moves: Tensor, mean: list, std: list) -> Tensor:
    """Boxes, the last four of each row, moved by moves (R, 4), which are scaled and shifted first: (R, 5)."""
    moves, low = moves * moves.new_tensor(std) + moves.new_tensor(mean), boxes[:, -4:-2]
    size = boxes[:, -2:] - low + 1
    middle, half = moves[:, :2] * size + (low + 0.5 * size), 0.5 * (torch.exp(moves[:, 2:]) * size)
    return F.pad(torch.cat([middle - half, middle + half], 1), (1, 0))


def best_of_classes(rois: Tensor, scores: Tensor) -> Tensor:
    """For each class but the first, the best of the regions (R, 5) that have it, or else the best for it."""
    best, label = scores.max(1)
    own = torch.where(label[:, None] == torch.arange(scores.shape[1], device=label.device), best[:, None], -torch.inf)
    own = torch.where(own.amax(0) > -torch.inf, own, scores)
    return rois.reshape(len(rois), 5)[own[:, 1:].argmax(0)]


def text_boxes(scores: Tensor, moves: Tensor, info: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """CTPN's boxes (P, 4), cut at the image (height, width, ...), and their scores (P, 1)."""
    shift, stretch = moves.permute(0, 2, 3, 1).reshape(-1, 2).split(1, 1)
    left, top, right, bottom = anchors.split(1, 1)
    height = torch.exp(stretch) * (bottom - top + 1)
    begin = shift * (bottom - top + 1) + (top + bottom) / 2 - height / 2
    end = info.flatten()[[1, 0, 1, 0]] - 1
    boxes = torch.minimum(torch.cat([left, begin, right, begin + height], 1), end).clamp(min=0)
    return boxes, scores[:, scores.shape[1] // 2 :].permute(0, 2, 3, 1).reshape(-1, 1)


def combine_regressions(x: Tensor, y: Tensor, within_x: Tensor, within_y: Tensor, *, whole: bool
                        ) -> tuple[Tensor, Tensor]:
    """Two coordinates from steps (1, 1, H, W) and places within these (1, K, H, W): within the step, or the `whole`."""
    found = []
    for step, within in ((x, within_x), (y, within_y)):
        numbers = torch.arange(within.shape[1], device=step.device).view(1, -1, 1, 1)
        place = torch.where((step == numbers) & (numbers > 0), within, 0).sum(1, keepdim=True)
        all_steps = (step + place - 1) / (within.shape[1] - 1)
        found.append(torch.where(all_steps < 0, -1, all_steps) if whole else place.clamp(0, 1))
    return found[0], found[1]


def field_boxes(moves: Tensor, fields: list, stride: float, mean: list, std: list, limits: tuple) -> list:
    """Where boxes begin and how large they are, of columns, then of rows: moves (N, 4, H, W) of the fields of cells.

    fields: width and height, for each of the N in turn. limits: of moves, and of logarithms of sizes.
    """
    n, _, h, w = moves.shape
    moves = moves * moves.new_tensor(std).view(1, 4, 1, 1) + moves.new_tensor(mean).view(1, 4, 1, 1)
    field = moves.new_tensor(fields).repeat(n // len(fields), 1)
    found = []
    for axis, size in enumerate((w, h)):
        at = ((torch.arange(size, dtype=moves.dtype, device=moves.device) + 0.5) * stride).view(-1, *[1] * axis)
        extent = field[:, axis].view(n, 1, 1)
        sides = extent * torch.exp(moves[:, 2 + axis].clamp(limits[2], limits[3]))
        found.append((moves[:, axis].clamp(limits[0], limits[1]) * extent + at - sides / 2, sides))
    return found


def map_regions(x: Tensor, field: tuple, stride: float, mean: list, std: list, limits: tuple
                ) -> tuple[Tensor, Tensor, Tensor]:
    """MS-CNN's boxes of a map (N, K + 4, H, W): corners (N, P, 4), sizes (N, P, 2), scores (N, P)."""
    ends = [x.shape[3] * stride, x.shape[2] * stride]
    low, size = [], []
    for (begin, sides), end in zip(field_boxes(x[:, -4:], [field], stride, mean, std, limits), ends, strict=True):
        low.append(begin.clamp(min=0))
        size.append(torch.minimum(sides, end - low[-1]))
    corners = torch.stack([*low, low[0] + size[0], low[1] + size[1]], -1)
    score = x[:, 1:-4].amax(1) - x[:, 0]
    # Of equal scores the later one goes first.
    return corners.flatten(1, 2).flip(1), torch.stack(size, -1).flatten(1, 2).flip(1), score.flatten(1).flip(1)


def group_regions(probability: Tensor, moves: Tensor, fields: list, stride: float, mean: list, std: list, limits: tuple
                  ) -> tuple[Tensor, Tensor, Tensor]:
    """Cascade R-CNN's boxes of maps (N, K, H, W) and (N, 4, H, W), an image for each of the fields: as map_regions."""
    images, (h, w) = len(moves) // len(fields), moves.shape[2:]
    low, high = [], []
    for (begin, sides), end in zip(field_boxes(moves, fields, stride, mean, std, limits), (w, h), strict=True):
        low.append(begin.clamp(min=0))
        high.append((begin + sides - 1).clamp(max=end * stride))
    box = torch.stack([*low, *high], -1).reshape(images, -1, 4)
    return box, box[..., 2:] - box[..., :2] + 1, (1 - probability[:, 0]).reshape(images, -1)


def best_regions(maps: list, *, above: float, least: float, before: int, after: int, threshold: float, pixels: bool
                 ) -> tuple[Tensor, Tensor]:
    """The best boxes of each image: (R, 5, 1, 1), and with scores (R, 6, 1, 1).

    Scores are `above` or equal, sizes `least` or larger; of the best `before`, `after` are kept that do not overlap by
    more than `threshold`. Where nothing is found there is the region (0, 1, 1, 10, 10), with scores all 0.
    """
    corners, sizes, scores = (torch.cat(parts, 1) for parts in zip(*maps, strict=True))
    good = (scores >= above) & (sizes >= least).all(-1)
    rows = []
    for image in range(len(scores)):
        box, score = corners[image][good[image]], scores[image][good[image]]
        kept = best_boxes(box, score, before, threshold, after, pixels)
        number = torch.full_like(score[kept, None], image)
        rows.append(torch.cat([number, box[kept], score[kept, None]], 1))
    found = torch.cat(rows)
    if not len(found):
        return found.new_tensor([0, 1, 1, 10, 10]).view(1, 5, 1, 1), found.new_zeros(1, 6, 1, 1)
    return found[:, :5, None, None], found[:, :, None, None]


def class_detections(probability: Tensor, moves: Tensor, rois: Tensor, size: Tensor, *, by_class: bool, mean: list,
                     std: list, above: float, threshold: float, most: int) -> Tensor:
    """Faster R-CNN's detections (D + 1, 7, 1, 1) of one image: rows of image, x1, y1, x2, y2, label, score.

    Boxes of each class, cut at the image's size (height, width), are suppressed at `threshold`; `most` of all stay, 0
    for any number. The first row is 0 and then -1.
    """
    scores, flat = probability.flatten(1), rois.flatten(1)
    end = size.flatten()[:2].flip(0)
    move = moves.reshape(len(moves), -1, 4) * moves.new_tensor(std) + moves.new_tensor(mean)
    extent = (flat[:, 3:5] - flat[:, 1:3] + 1)[:, None]
    sides = extent * torch.exp(move[..., 2:])
    corner = move[..., :2] * extent + (0.5 * (flat[:, 3:5] + flat[:, 1:3]))[:, None] - (sides - 1) / 2
    box = torch.cat([corner.clamp(min=0), torch.minimum(corner + sides - 1, end)], -1)
    rows = [scores.new_tensor([[0, *[-1] * 6]])]
    for label in range(1, scores.shape[1]):
        good = scores[:, label] >= above
        one, score = box[good, label if by_class else 1], scores[good, label]
        kept = best_boxes(one, score, 0, threshold, 0)
        label_of = torch.full_like(score[kept, None], label)
        rows.append(torch.cat([torch.zeros_like(label_of), one[kept], label_of, score[kept, None]], 1))
    found = torch.cat(rows[1:])
    if most and len(found) > most:
        found = found[torch.sort(found[:, 6], descending=True, stable=True).indices[:most].sort().values]
    return torch.cat([rows[0], found])[:, :, None, None]
