"""YOLO v2's loss. Sources: region_loss_layer.cpp of eric612/MobileNet-YOLO@69b4441 and intel/caffe@44d5363."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Shape, count, shape_text
from .loss import Loss, given
from .registry import register

BOXES = 300  # of an image at most
FEW_BOXES = 30  # in gklz1982's and BirdeeChen's forks


@register("RegionLoss", form="")
class RegionLoss(Loss):
    """YOLO v2's loss of maps (N, num * (5 + num_class), side, side) -> a scalar.

    The shape of the boxes tells which fork's it is: (1, 1, M, 8), as AnnotatedData makes them, Intel's, (N, 300, 5)
    MobileNet-YOLO's, and (N, 150) another's, which is not computed.
    """

    params = ("region_loss_param",)

    def setup(self, *bottom: Shape) -> None:
        if self.spec.get("region_loss_param").coords != 4:
            raise self.spec.error("needs coords 4")
        kind = (_AnnotatedBoxes if len(bottom[1]) == 4 and bottom[1][3] == 8
                else _FewBoxes if bottom[0] and count(bottom[1]) == bottom[0][0] * FEW_BOXES * 5 else _ListedBoxes)
        self.rule: Loss = kind(self.spec)
        self.rule.setup(*bottom)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return self.rule.reshape(*bottom)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.rule.forward(x, label)


class _FewBoxes(Loss):
    """That of gklz1982/caffe-yolov2@ebb2702, of 30 boxes (N, 150): it has a shape, and refuses to run."""

    params = ("region_loss_param",)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        raise self.spec.error(f"with {FEW_BOXES} boxes an image, is not computed here; leave it out with strict=False "
                              "(--lenient), or stop before it with until=... (--until)")


class _ListedBoxes(Loss):
    """MobileNet-YOLO's: maps (N, num * (5 + num_class), side, side) and boxes (N, 300, 5) of class, centre and size ->
    a scalar: the sum of the squares of the diffs, over N. Backward gives these diffs over N, not the derivative, as
    published.

    An image's list of boxes ends at the first box whose x (for training targets: width) is 0. A map is
    square; coords is 4. class_map, softmax_tree, absolute, jitter and random have no effect, as published.
    """

    params = ("region_loss_param",)

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("region_loss_param")
        biases = list(self.param.biases)
        self.biases = torch.tensor(biases if len(biases) >= 10 else [0.0] * 10).view(-1, 2)
        if len(self.biases) < self.param.num:
            raise self.spec.error("needs two biases for each of its num boxes")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        channels = self.param.num * (5 + self.param.num_class)
        if len(bottom[0]) != 4 or bottom[0][1] != channels or bottom[0][2] != bottom[0][3] or (
                count(bottom[1]) != bottom[0][0] * BOXES * 5):
            raise self.spec.error(f"needs square maps with {channels} channels and {BOXES} boxes of 5 values per "
                                  f"image; its bottoms are {shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        n, _, side, _ = x.shape
        raw = x.detach().view(n, self.param.num, 5 + self.param.num_class, side, side)
        biases = self.biases[: self.param.num].to(raw)
        boxes = predicted(raw, biases)
        object_, classes = torch.sigmoid(raw[:, :, 4]), raw[:, :, 5:].softmax(2)
        diff = torch.zeros_like(raw)
        diff[:, :, 4] = self.param.noobject_scale * object_ * (1 - object_) * object_
        truth = label.detach().reshape(n, BOXES, 5)
        for image in range(n):
            listed = truth[image][: until_zero(truth[image, :, 1])]
            if len(listed):
                covered = overlaps(boxes[image].reshape(-1, 1, 4), listed[:, 1:]).max(1).values.view(boxes.shape[1:4])
                diff[image, :, 4].masked_fill_(covered > self.param.thresh, 0)
            for box in truth[image][: until_zero(truth[image, :, 3])]:
                self._learn(box, raw[image], boxes[image], object_[image], classes[image], diff[image], biases)
        slope = (diff / n).view(x.shape)
        return given((diff * diff).sum() / n, lambda: (slope, None), x, label)

    def _learn(self, box: Tensor, raw: Tensor, boxes: Tensor, object_: Tensor, classes: Tensor, diff: Tensor,
               biases: Tensor) -> None:
        """Write the diffs of the box's best anchor in its cell."""
        p, side = self.param, raw.shape[-1]
        label, (x, y, w, h) = int(box[0]), box[1:].tolist()
        i, j = int(x * side), int(y * side)
        if not (0 <= i < side and 0 <= j < side and 0 <= label < p.num_class):
            raise self.spec.error(f"a box of class {label} at {x:g}, {y:g} lies outside its {p.num_class} classes "
                                  "or the image")
        size = biases / side if p.bias_match else boxes[:, j, i, 2:]
        centred = torch.cat([torch.zeros_like(size), size], 1)
        n = int(overlaps(centred, box.new_tensor([0, 0, w, h])).argmax())
        shared = overlaps(boxes[n, j, i], box[1:])
        scale = p.coord_scale if p.rescore else p.coord_scale * (2 - w * h)
        place = torch.sigmoid(raw[n, :2, j, i])
        goal = box.new_tensor([x * side - i, y * side - j])
        diff[n, :2, j, i] = -scale * (goal - place) * place * (1 - place)
        diff[n, 2:4, j, i] = -scale * ((box[3:] * side / biases[n]).log() - raw[n, 2:4, j, i])
        seen = object_[n, j, i]
        diff[n, 4, j, i] = -p.object_scale * ((shared if p.rescore else 1) - seen) * seen * (1 - seen)
        wanted = torch.zeros_like(classes[n, :, j, i])
        wanted[label] = 1
        diff[n, 5:, j, i] = -p.class_scale * (wanted - classes[n, :, j, i])


class _AnnotatedBoxes(Loss):
    """Intel's: maps (N, num * (5 + num_class), side, side) and AnnotatedData's boxes (1, 1, M, 8) -> a scalar: the sum
    of the squares of the diffs. Backward gives these diffs over N, not the derivative, as published.

    Labels of boxes begin at 1; a box whose image is -1 is left out. softmax, rescore, absolute, jitter and random have
    no effect, as published. Differs: a box without area, or with its centre outside the image, is refused; the
    published code writes to another box's diffs, or outside its memory.
    """

    params = ("region_loss_param",)

    def setup(self, *bottom: Shape) -> None:
        self.param = p = self.spec.get("region_loss_param")
        if p.softmax_tree or p.class_map:
            raise self.spec.error("softmax_tree and class_map name files, which is not supported; remove them if their "
                                  "effect does not matter to you")
        if len(p.biases) < 2 * p.num:
            raise self.spec.error("needs two biases for each of its num boxes")
        self.biases = torch.tensor(list(p.biases)[: 2 * p.num]).view(-1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        p = self.param
        channels = p.num * (5 + p.num_class)
        if len(bottom[0]) != 4 or bottom[0][1:] != (channels, p.side, p.side) or self.nchw(bottom[1])[3] != 8:
            raise self.spec.error(f"needs {channels} maps of {p.side} x {p.side} and boxes (1, 1, M, 8), not "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        p, (n, _, side, _) = self.param, x.shape
        raw = x.detach().view(n, p.num, 5 + p.num_class, side, side)
        biases = self.biases.to(raw)
        boxes = predicted(raw, biases)
        seen, classes = torch.sigmoid(raw[:, :, 4]), raw[:, :, 5:].softmax(2)
        diff = torch.zeros_like(raw)
        diff[:, :, 4] = p.noobject_scale * seen * seen * (1 - seen)
        listed = self._listed(label.detach().reshape(-1, 8), n)
        for image, truth in enumerate(listed):
            if len(truth):
                covered = overlaps(boxes[image].reshape(-1, 1, 4), truth[:, 1:]).max(1).values.view(boxes.shape[1:4])
                diff[image, :, 4].masked_fill_(covered > p.thresh, 0)
            for box in truth:
                self._learn(box, raw[image], boxes[image], seen[image], classes[image], diff[image], biases)
        slope = (diff / n).view(x.shape)
        return given((diff * diff).sum(), lambda: (slope, None), x, label)

    def _listed(self, rows: Tensor, images: int) -> list[Tensor]:
        """For each image its boxes, (K, 5): class from 0, centre and size."""
        low, high = rows[:, 3:5], rows[:, 5:7]
        boxes = torch.cat([rows[:, 1:2] - 1, (low + high) / 2, high - low], 1)
        image = rows[:, 0].long()
        used = image != -1
        centre, size = boxes[used, 1:3], boxes[used, 3:]
        if not (((image[used] >= 0) & (image[used] < images)).all() and ((centre >= 0) & (centre < 1)).all()
                and (size > 0).all()):
            raise self.spec.error("a box has no area, a centre outside the image, or an image index beyond the "
                                  f"{images} of the batch")
        return [boxes[used & (image == i)] for i in range(images)]

    def _learn(self, box: Tensor, raw: Tensor, boxes: Tensor, seen: Tensor, classes: Tensor, diff: Tensor,
               biases: Tensor) -> None:
        """Write the diffs of the box's best anchor in its cell."""
        p, side = self.param, raw.shape[-1]
        i, j = int(box[1] * side), int(box[2] * side)
        size = biases / side if p.bias_match else boxes[:, j, i, 2:]
        centred = torch.cat([torch.zeros_like(size), size], 1)
        n = int(overlaps(centred, torch.cat([torch.zeros_like(box[3:]), box[3:]])).argmax())
        place = torch.sigmoid(raw[n, :2, j, i])
        off = (box[1:3] * side - torch.stack([box.new_tensor(i), box.new_tensor(j)]) - place).clamp(-1, 1)
        diff[n, :2, j, i] = -p.coord_scale * off * place * (1 - place)
        diff[n, 2:4, j, i] = -p.coord_scale * ((box[3:] * side / biases[n]).log() - raw[n, 2:4, j, i]).clamp(-1, 1)
        o = seen[n, j, i]
        diff[n, 4, j, i] = -p.object_scale * 2 * (1 - o) ** 3 * o * (1 - o)
        wanted = torch.arange(p.num_class, device=raw.device) == int(box[0])
        diff[n, 5:, j, i] = -p.class_scale * (wanted.to(raw) - classes[n, :, j, i])


def predicted(raw: Tensor, biases: Tensor) -> Tensor:
    """The boxes (N, num, side, side, 4), each centre and size, of maps (N, num, 5 + num_class, side, side)."""
    side = raw.shape[-1]
    cell = torch.arange(side, dtype=raw.dtype, device=raw.device)
    return torch.stack([(cell + torch.sigmoid(raw[:, :, 0])) / side,
                        (cell.unsqueeze(1) + torch.sigmoid(raw[:, :, 1])) / side,
                        torch.exp(raw[:, :, 2]) * biases[:, 0].view(-1, 1, 1) / side,
                        torch.exp(raw[:, :, 3]) * biases[:, 1].view(-1, 1, 1) / side], -1)


def until_zero(values: Tensor) -> int:
    """How many values stand before the first 0."""
    zeros = (values == 0).nonzero()
    return int(zeros[0]) if len(zeros) else len(values)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (.., 4), each centre and size."""
    sides = torch.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2) - torch.maximum(
        a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    common = torch.where((sides < 0).any(-1), 0, sides.prod(-1))
    return common / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - common)
