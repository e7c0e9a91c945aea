"""Frames of a video or a camera.

Sources: video_data_layer.cpp of RMPE@5188c23 and of weiliu89/caffe@4817bf8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmpe_legacy.caffe.data.caffe_random import CaffeRandom
from rmpe_legacy.caffe.data.video import Frames
from rmpe_legacy.errors import RmpeError

from .base_data import SourceLayer
from .registry import register


@register("VideoData", dialects=("rmpe", "ssd"))
class VideoData(SourceLayer):
    """The next frames of a video, (batch, C, H, W), and labels of 0, (batch,).

    video_file may be a pattern for numbered images. After the last frame this raises an error, while Caffe exits;
    Caffe also prefetches three batches, so it exits earlier.
    Differs: with skip_frames, weiliu89's branch aborts at the first frame that it skips; here frames are skipped.
    """

    params = ("video_data_param", "data_param", "transform_param")

    def check(self) -> None:
        param = self.spec.get("video_data_param")
        if param.video_type == "VIDEO" and not param.has("video_file"):
            raise self.spec.error("video_type VIDEO needs a video_file")
        self.skip = param.skip_frames if self.spec.dialect == "ssd" else 0
        self.frames = self._begin()

    def _begin(self) -> Frames:
        param = self.spec.get("video_data_param")
        return Frames(param.device_id if param.video_type == "WEBCAM" else param.video_file)

    @property
    def batch_size(self) -> int:
        return self.spec.get("data_param").batch_size

    @property
    def source(self) -> str:
        return str(self.frames.source)

    def source_exists(self) -> bool:
        return self.frames.may_exist

    def rewind(self, main: CaffeRandom) -> None:
        self.frames.close()
        self.frames = self._begin()
        self._pass_over(self.rank)

    def _pass_over(self, count: int) -> None:
        for _ in range(count):
            self.frames.take()

    def place_in_source(self) -> dict[str, Any]:
        return {"taken": self.frames.taken}

    def go_to(self, position: Mapping[str, Any]) -> None:
        self.frames.close()
        self.frames = self._begin()
        if not isinstance(self.frames.source, int):  # a camera has moved on
            self._pass_over(int(position["taken"]))

    def missing(self) -> str:
        return f"there is no camera {self.source}" if isinstance(self.frames.source, int) else super().missing()

    def first_shape(self) -> tuple[int, int, int]:
        try:
            frame = self.frames.peek()
        except RmpeError:
            if self.frames.opened:
                raise
            return self.assumed_shape()  # no such camera or files; the prototxt may still give the size
        return self.transformer.shape_of(frame)

    def batch(self) -> Sequence[np.ndarray]:
        blob, labels = self.new_blobs(self.transformer.shape_of(self.frames.peek()))
        for i in range(self.batch_size):
            for _ in range(self.skip):
                self.frames.take()
            frame = self.frames.take()
            self._pass_over(self.processes - 1)
            if self.spec.dialect == "ssd" and self.transformer.is_random:
                self.transformer.apply(frame, blob[i])  # weiliu89's branch transforms each frame twice
            self.transformer.apply(frame, blob[i])
        return (blob, labels)[: self.top_count]
