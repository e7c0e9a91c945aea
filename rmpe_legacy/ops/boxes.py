"""Operations on boxes: decoding, matching, suppression, evaluation, and scaling to an image's pixels.

A box is (x1, y1, x2, y2), usually relative to the image's width and height. The operators compute in single precision,
like Caffe's NormalizedBBox, in C++ on the CPU; the wrappers accept tensors of any floating type and device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.library import register_fake

CODES = {"CORNER": 1, "CENTER_SIZE": 2, "CORNER_SIZE": 3}  # PriorBoxParameter.CodeType
_OPS = torch.ops.rmpe


def _plain(x: Tensor) -> Tensor:
    """Convert for the operators, which run on the CPU: they sort and walk lists, and their inputs are small."""
    return x.detach().to("cpu", torch.float32).contiguous()


def decode_boxes(offset: Tensor, prior: Tensor, code: str, in_target: bool) -> Tensor:
    """Decode predicted offsets to boxes.

    Args:
        offset: (..., P, 4).
        prior: (2, P, 4): the prior boxes, then their variances.
        code: How offsets are encoded: a key of CODES.
        in_target: The variance is part of the target and is not applied here.

    Returns:
        Boxes, (..., P, 4).

    Source: DecodeBBox (bbox_util.cpp:265-325) of RMPE@5188c23; CORNER_SIZE from the ssd branch.
    """
    flat = _plain(offset).view(-1, *offset.shape[-2:])
    out = _OPS.decode_boxes(flat, _plain(prior), CODES[code], in_target)
    return out.view(offset.shape).to(offset.device, offset.dtype)


def encode_boxes(box: Tensor, prior: Tensor, code: str, in_target: bool) -> Tensor:
    """Encode boxes as prediction targets: box (M, 4), prior (2, M, 4) -> offsets (M, 4).

    Source: EncodeBBox (bbox_util.cpp:209-263) of RMPE@5188c23; CORNER_SIZE from the ssd branch.
    """
    out = _OPS.encode_boxes(_plain(box)[None], _plain(prior), CODES[code], in_target)
    return out[0].to(box.device, box.dtype)


@dataclass(frozen=True)
class Detecting:
    """How detections are selected. A negative top_k or keep_top_k means no limit."""

    background: int
    code: str
    in_target: bool
    nms_threshold: float
    eta: float
    top_k: int
    keep_top_k: int
    confidence_threshold: float
    clip: bool


def detection_output(offset: Tensor, score: Tensor, prior: Tensor, how: Detecting) -> Tensor:
    """Return the boxes after suppression: (K, 7) rows of image, label, score, box; sorted by image, label, score.

    offset (N, P, L, 4) with L = 1 or C, score (N, P, C), prior (2, P, 4).
    Source: detection_output_layer.cpp:163-316 of RMPE@5188c23.
    """
    rows = _OPS.detection_output(
        _plain(offset), _plain(score), _plain(prior), how.background, CODES[how.code], how.in_target,
        how.nms_threshold, how.eta, how.top_k, how.keep_top_k, how.confidence_threshold, how.clip)
    return rows.to(score.device, score.dtype)


def detection_evaluate(detection: Tensor, truth: Tensor, threshold: float, difficult_counts: bool,
                       pixels: bool) -> Tensor:
    """Match detections with the truth: (K, 5) rows of image, label, score, hit, miss; sorted by image, label, score.

    detection (K, 8): image, label, score, box, area. truth (G, 8): image, label, difficult, box, area.
    Source: detection_evaluate_layer.cpp:126-216 of RMPE@5188c23.
    """
    rows = _OPS.detection_evaluate(_plain(detection), _plain(truth), threshold, difficult_counts, pixels)
    return rows.to(detection.device, detection.dtype)


def match_boxes(box: Tensor, truth: Tensor, first: Tensor, threshold: float, per_prediction: bool,
                inside_only: bool = False) -> tuple[Tensor, Tensor]:
    """Match boxes with true boxes, set by set.

    Args:
        box: (S, P, 4), or (1, P, 4) for all sets.
        truth: (G, 4).
        first: (S + 1), int64: set s has truth first[s]:first[s+1].
        threshold: Smallest overlap of a match with ``per_prediction``.
        per_prediction: Match every box that overlaps enough, not only the best one per true box.
        inside_only: Boxes that extend beyond the image get -2.

    Returns:
        (S, P) index of the match in its set, -1 for none; and (S, P) overlap with the match, or the largest one. Both
        are on the CPU.

    Source: MatchBBox (bbox_util.cpp:382-501) of RMPE@5188c23.
    """
    return _OPS.match_boxes(_plain(box), _plain(truth), first.cpu(), threshold, per_prediction, inside_only)


def confidence_scores(conf: Tensor, background: int, softmax: bool) -> Tensor:
    """Return each prior's maximum confidence for an object: conf (N, P, C) -> (N, P), on the CPU.

    Source: GetMaxConfidenceScores (bbox_util.cpp:683-721) of RMPE@5188c23.
    """
    return _OPS.confidence_scores(_plain(conf), background, softmax)


def confidence_losses(conf: Tensor, label: Tensor, softmax: bool) -> Tensor:
    """Return the confidence loss of each prior: conf (N, P, C), label (N, P) int64 -> (N, P), on the CPU.

    Source: ComputeConfLoss (bbox_util.cpp:1456-1530) of weiliu89/caffe@4817bf8.
    """
    return _OPS.confidence_losses(_plain(conf), label.cpu().contiguous(), softmax)


def pick_hardest(score: Tensor, eligible: Tensor, count: Tensor, box: Tensor | None = None, nms_threshold: float = 0.0,
                 top_k: int = -1) -> tuple[Tensor, Tensor]:
    """Select, per image, the `count` eligible priors with the highest scores, best first.

    score (N, P), eligible (N, P) bool, count (N) int64 -> prior indices (K), and (N + 1) where each image's start;
    int64, on the CPU. With box (N or 1, P, 4), only priors kept by non-maximum suppression are selected.
    Source: multibox_loss_layer.cpp:244-277 of RMPE@5188c23, MineHardExamples of weiliu89/caffe@4817bf8.
    """
    box = None if box is None else _plain(box)
    return _OPS.pick_hardest(_plain(score), eligible.cpu().contiguous(), count.cpu(), box, nms_threshold, top_k)


def box_areas(box: Tensor, pixels: Tensor | bool = False) -> Tensor:
    """Return the areas of boxes (..., 4) -> (...): 0 if the corners are swapped; `pixels` adds 1 to each side."""
    sides = box[..., 2:] - box[..., :2]
    more = torch.as_tensor(pixels, device=box.device).unsqueeze(-1).to(box.dtype)
    return torch.where((sides < 0).any(-1), 0, (sides + more).prod(-1))


def clip_boxes(box: Tensor, height: Tensor | float = 1.0, width: Tensor | float = 1.0) -> Tensor:
    """Clip boxes (..., 4) to the image."""
    return torch.minimum(box, _sides(box, height, width)).clamp(min=0)


def _sides(box: Tensor, height: Tensor | float, width: Tensor | float) -> Tensor:
    """(width, height, width, height), once per box."""
    h, w = (torch.as_tensor(v, device=box.device).to(box.dtype).expand(box.shape[:-1]) for v in (height, width))
    return torch.stack([w, h, w, h], -1)


def scale_boxes(box: Tensor, height: Tensor | float, width: Tensor | float) -> Tensor:
    """Multiply boxes (..., 4) by the size of their image."""
    return box * _sides(box, height, width)


@dataclass(frozen=True)
class Resize:
    """How the network's input was made from an image: ResizeParameter, sizes in pixels."""

    mode: str  # WARP, FIT_LARGE_SIZE_AND_PAD or FIT_SMALL_SIZE
    height: int
    width: int
    height_scale: int = 0
    width_scale: int = 0


def boxes_in_pixels(box: Tensor, height: Tensor, width: Tensor, resize: Resize | None = None) -> tuple[Tensor, Tensor]:
    """Map boxes on the network's input to their images.

    Args:
        box: (K, 4), relative to the network's input.
        height: (K), of each box's image, in pixels.
        width: (K), of each box's image, in pixels.
        resize: How the input was made from the image.

    Returns:
        Boxes (K, 4) in pixels of their images, and areas (K).

    Source: OutputBBox (bbox_util.cpp:134-189) of weiliu89/caffe@4817bf8.
    """
    if resize is not None and resize.mode == "FIT_SMALL_SIZE" and resize.height_scale and resize.width_scale:
        box = clip_boxes(scale_boxes(box, resize.height_scale, resize.width_scale), height, width)
        return box, box_areas(box)
    if resize is not None and resize.mode == "FIT_LARGE_SIZE_AND_PAD":
        box = _without_padding(box, height, width, resize)
    box = scale_boxes(clip_boxes(box), height, width)
    return box, box_areas(box, (height > 1) | (width > 1))


def _without_padding(box: Tensor, height: Tensor, width: Tensor, resize: Resize) -> Tensor:
    """Convert boxes on a padded input to boxes on the image inside it; a box outside the image is not changed."""
    height, width = height.to(box), width.to(box)
    full_h, full_w = box.new_tensor(resize.height), box.new_tensor(resize.width)
    aspect = width / height
    wide = aspect > full_w / full_h
    top = torch.where(wide, (full_h - full_w / aspect) / 2 / full_h, 0)
    left = torch.where(wide, 0, (full_w - full_h * aspect) / 2 / full_w)
    start, end = torch.stack([left, top], -1), torch.stack([1 - left, 1 - top], -1)
    apart = ((box[..., :2] >= end) | (box[..., 2:] <= start)).any(-1, keepdim=True)
    inside = (box - torch.cat([start, start], -1)) / (end - start).repeat(1, 2)
    return torch.where(apart, box, inside)


def _numbers(device: torch.device, length: int | torch.SymInt) -> Tensor:
    return torch.empty(length, dtype=torch.int64, device=device)


@register_fake("rmpe::decode_boxes")
def _(offset, prior, code, in_target):
    return torch.empty_like(offset)


@register_fake("rmpe::encode_boxes")
def _(box, prior, code, in_target):
    return torch.empty_like(box)


@register_fake("rmpe::detection_output")
def _(offset, score, prior, background, code, in_target, nms_threshold, eta, top_k, keep_top_k,
      confidence_threshold, clip):
    return offset.new_empty(torch.library.get_ctx().new_dynamic_size(), 7)


@register_fake("rmpe::detection_evaluate")
def _(detection, truth, threshold, difficult_counts, pixels):
    return detection.new_empty(detection.shape[0], 5)


@register_fake("rmpe::match_boxes")
def _(box, truth, first, threshold, per_prediction, inside_only):
    shape = (first.shape[0] - 1, box.shape[1])
    return box.new_empty(shape, dtype=torch.int64), box.new_empty(shape)


@register_fake("rmpe::confidence_scores")
def _(conf, background, softmax):
    return conf.new_empty(conf.shape[:2])


@register_fake("rmpe::confidence_losses")
def _(conf, label, softmax):
    return conf.new_empty(conf.shape[:2])


@register_fake("rmpe::pick_hardest")
def _(score, eligible, count, box, nms_threshold, top_k):
    picked = torch.library.get_ctx().new_dynamic_size()
    return _numbers(score.device, picked), _numbers(score.device, score.shape[0] + 1)
