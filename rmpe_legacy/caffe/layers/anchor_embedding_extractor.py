"""Features of detected people, to learn to tell them apart. Source: anchor_embedding_extractor_layer.cpp of
opencv/training_toolbox_caffe@789ff8d."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Count, Layer, Shape, count, shape_text
from .registry import register

RECORD = 11  # image, label, four corners, anchor, track, action, x, y
ANCHORS = 4


@register("AnchorEmbeddingExtractor", form="")
class AnchorEmbeddingExtractor(Layer):
    """The features at the place and of the anchor of each detection: detections (.., 11) and features (N, C, H, W) of
    each of 4 anchors -> features (K, C), values of the column label_src_pos (K,), and perhaps of each detection its
    weight, 1 over the number of its track's in the image, (K,), or its image and box, (K, 5).

    Detections of an image below 0, or of an action of num_valid_actions or more, do not count. Differs: without any,
    there is one row of zeros, and -1; the published layer sets 11 values, however many there are.
    """

    params = ("embedding_extractor_param",)
    bottoms: Count = (2, None)
    tops: Count = (2, 3)
    works_in_place = False
    refuses = unforced = (0,)
    not_exportable = JUDGES
    chooses_rows = True

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("embedding_extractor_param")
        if self.param.num_anchors != ANCHORS or not 0 <= self.param.label_src_pos < RECORD:
            raise self.spec.error(f"needs num_anchors: {ANCHORS} and label_src_pos, from 0 to {RECORD - 1}")
        if self.top_count > 2 and self.param.output_instance_weights == self.param.output_proposals:
            raise self.spec.error("its third top needs either output_instance_weights or output_proposals")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        records, maps = bottom[0], bottom[1:]
        if (len(maps) != ANCHORS or count(records) % RECORD or records[-1:] != (RECORD,)
                or any(len(shape) != 4 or shape[1:] != maps[0][1:] for shape in maps)):
            raise self.spec.error(f"needs detections of {RECORD} values and, for each of {ANCHORS} anchors, features "
                                  f"(N, C, H, W) of one size; its bottoms are {', '.join(map(shape_text, bottom))}")
        rows = self.spec.rows
        third = (rows, 5) if self.param.output_proposals else (rows,)
        return [(rows, maps[0][1]), (rows,), third][: self.top_count]

    def forward(self, records: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        records = records.detach().reshape(-1, RECORD)
        whole = records.trunc().long()
        valid = whole[:, 0] >= 0
        if self.param.has("num_valid_actions") and self.param.num_valid_actions >= 0:
            valid &= whole[:, 8] < self.param.num_valid_actions
        records, whole = records[valid], whole[valid]
        if not len(records):
            nothing = [(1, maps[0].shape[1]), (1,), (1, 5) if self.param.output_proposals else (1,)]
            return tuple(records.new_full(shape, -1 if i else 0) for i, shape in enumerate(nothing[: self.top_count]))
        image, anchor, x, y = whole[:, [0, 6, 9, 10]].unbind(1)
        ends = [min(len(each) for each in maps), ANCHORS, maps[0].shape[3], maps[0].shape[2]]
        for what, values, end in zip(("image", "anchor", "x", "y"), (image, anchor, x, y), ends, strict=True):
            if not 0 <= values.min() <= values.max() < end:
                raise self.spec.error(f"a detection's {what} is outside 0 to {end - 1}")
        found = torch.stack([maps[a][i, :, row, column] for a, i, row, column in
                             zip(anchor.tolist(), image.tolist(), y.tolist(), x.tolist(), strict=True)])
        if self.param.output_proposals:
            third = torch.cat([image.unsqueeze(1).to(records.dtype), records[:, 2:6]], 1)
        else:
            tracks = (whole[:, 7] * 1000 + image).tolist()
            times = Counter(tracks)
            third = 1 / records.new_tensor([times[track] for track in tracks])
        return (found, whole[:, self.param.label_src_pos].to(records.dtype), third)[: self.top_count]
