"""YOLO v3's loss. Source: yolov3_layer.cpp of eric612/MobileNet-YOLO@69b4441, with the sigmoids that its GPU code, and
its CPU code in a build without GPU, take first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Shape, count, shape_text
from .loss import Loss, given
from .region_loss import BOXES, overlaps, until_zero
from .registry import register


@register("Yolov3", form="")
class Yolov3(Loss):
    """Maps (N, num * (5 + num_class), H, W) and boxes (N, 300, 5) of class, centre and size -> a scalar: the sum of the
    squares of the diffs, over N. Backward gives these diffs over N, not the derivative, as published.

    A box learns at the anchor that fits its size best, if `mask` has it, and at those of the mask that fit by more
    than iou_thresh. As published, the check for "another anchor" compares an index in the mask with an anchor's
    number, and where a class has already been trained, only that class is corrected. Only iou_loss MSE is computed.
    """

    params = ("yolov3_param",)

    def setup(self, *bottom: Shape) -> None:
        self.param = p = self.spec.get("yolov3_param")
        self.mask = list(p.mask)
        if p.iou_loss != "MSE":
            raise self.spec.error(f"iou_loss {p.iou_loss} is not supported; only MSE is")
        if len(p.biases) < 2 or len(self.mask) < p.num or any(2 * m + 1 >= len(p.biases) for m in self.mask[: p.num]):
            raise self.spec.error("needs biases in pairs, and in mask the index of a pair for each of its num boxes")
        self.biases = torch.tensor(list(p.biases)[: len(p.biases) // 2 * 2]).view(-1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        channels = self.param.num * (5 + self.param.num_class)
        if len(bottom[0]) != 4 or bottom[0][1] != channels or count(bottom[1]) != bottom[0][0] * BOXES * 5:
            raise self.spec.error(f"needs maps with {channels} channels and {BOXES} boxes of 5 values per image; its "
                                  f"bottoms are {shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        n, _, h, w = x.shape
        p = self.param
        value = x.detach().view(n, p.num, 5 + p.num_class, h, w).clone()
        value[:, :, :2].sigmoid_()
        value[:, :, 4:].sigmoid_()
        biases = self.biases.to(value)
        net = value.new_tensor([w * p.anchors_scale, h * p.anchors_scale])
        anchors = biases[self.mask[: p.num]] / net
        boxes = torch.stack([(torch.arange(w, dtype=value.dtype, device=x.device) + value[:, :, 0]) / w,
                             (torch.arange(h, dtype=value.dtype, device=x.device).unsqueeze(1) + value[:, :, 1]) / h,
                             value[:, :, 2].exp() * anchors[:, 0].view(-1, 1, 1),
                             value[:, :, 3].exp() * anchors[:, 1].view(-1, 1, 1)], -1)
        diff = torch.zeros_like(value)
        diff[:, :, 4] = value[:, :, 4]
        truth = label.detach().reshape(n, BOXES, 5)
        for image in range(n):
            listed = truth[image][: until_zero(truth[image, :, 1])]
            if len(listed):
                best = overlaps(boxes[image].reshape(-1, 1, 4), listed[:, 1:]).max(1).values.view(boxes.shape[1:4])
                diff[image, :, 4].masked_fill_(best > p.thresh, 0)
            for box in truth[image][: until_zero(truth[image, :, 3])]:
                self._learn(box, value[image], diff[image], biases / net, net)
        slope = diff / n
        if p.use_logic_gradient:  # of a sigmoid, once more, everywhere but at width and height
            sigmoids = torch.ones(5 + p.num_class, dtype=torch.bool, device=x.device)
            sigmoids[2:4] = False
            slope = torch.where(sigmoids.view(-1, 1, 1), slope * value * (1 - value), slope)
        slope = slope.view(x.shape)
        return given((diff * diff).sum() / n, lambda: (slope, None), x, label)

    def _learn(self, box: Tensor, value: Tensor, diff: Tensor, anchors: Tensor, net: Tensor) -> None:
        p, (h, w) = self.param, value.shape[-2:]
        label, (x, y, *_) = int(box[0]), box[1:].tolist()
        i, j = int(x * w), int(y * h)
        if not (0 <= i < w and 0 <= j < h and 0 <= label < p.num_class):
            raise self.spec.error(f"a box of class {label} at {x:g}, {y:g} lies outside its {p.num_class} classes "
                                  "or the image")
        sizes = [torch.cat([torch.zeros_like(size), size], -1) for size in (anchors, box[3:])]
        fit = overlaps(*sizes)
        mask = self.mask[: p.num]
        best = int(fit.argmax()) if float(fit.max()) > 0 else -1
        if best in mask:
            best = mask.index(best)
            self._write(best, label, box, value, diff, net, i, j)
        for anchor in range(len(anchors)):
            if anchor in mask and anchor != best and p.iou_thresh < 1 and fit[anchor] > p.iou_thresh:
                self._write(mask.index(anchor), label, box, value, diff, net, i, j)

    def _write(self, k: int, label: int, box: Tensor, value: Tensor, diff: Tensor, net: Tensor, i: int, j: int) -> None:
        """The diffs of place (j, i) of the mask's k-th anchor."""
        p, (h, w) = self.param, value.shape[-2:]
        x, y, width, height = box[1:]  # of the image, as parts of it
        bias = self.biases[self.mask[k]].to(value)
        goal = torch.stack([x * w - i, y * h - j, *(box[3:] * net / bias).log()])
        diff[k, :4, j, i] = -p.coord_scale * (2 - width * height) * (goal - value[k, :4, j, i])
        diff[k, 4, j, i] = -(1 - value[k, 4, j, i]) * (p.object_scale if p.use_logic_gradient else 1)
        seen, eps = value[k, 5:, j, i], p.label_smooth_eps
        if diff[k, 5 + label, j, i] != 0:
            diff[k, 5 + label, j, i] = -p.class_scale * (1 - eps + 0.5 * eps - seen[label])
            return
        wanted = torch.zeros_like(seen)
        wanted[label] = 1
        if p.use_focal_loss:
            pt = seen[label] + 1e-15
            factor = 0.5 * -(1 - pt) * (2 * pt * pt.log() + pt - 1)
            diff[k, 5:, j, i] = -p.class_scale * (wanted - seen) * factor
        else:
            diff[k, 5:, j, i] = -p.class_scale * (wanted * (1 - eps) + 0.5 * eps - seen)
