"""poses.json of many images: written without holding all of it, and whole or not at all."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from rmpe_legacy.pose.nms import NmsResult
from rmpe_legacy.pose.published import get_recipe
from rmpe_legacy.pose.results import Poses, Proposals
from rmpe_legacy.runs.outputs import PEOPLE, BatchResult, people_json, persons_of_poses, write_people

RECIPE = get_recipe("demo", None)


def found(images: int, per_image: int) -> tuple[BatchResult, NmsResult]:
    """Random people; each proposal is a person."""
    random = np.random.default_rng(1)
    count, ends = images * per_image, np.arange(1, images + 1) * per_image
    proposals = Proposals(tuple(f"{i}.jpg" for i in range(images)), np.stack([ends - per_image, ends], axis=1),
                          random.integers(0, 500, (count, 4)), random.random(count))
    poses = Poses(random.random((count, 16, 2)), random.random((count, 16)).astype(np.float32))
    batch = BatchResult(proposals, poses, ((300, 200),) * images, proposals.boxes_xyxy, 0)
    persons = persons_of_poses(batch)
    return batch, NmsResult(persons, persons)


def test_the_file_takes_less_memory_than_it_is_long(tmp_path: Path):
    batch, nms = found(400, 5)
    write_people(tmp_path, batch, nms, RECIPE, {}, {})  # loads what it needs
    tracemalloc.start()
    try:
        write_people(tmp_path, batch, nms, RECIPE, {"bad.jpg": "broken"}, {"program": "x"})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    content = (tmp_path / PEOPLE).read_bytes()
    assert peak < 0.9 * len(content)
    assert content == people_json(batch, nms, RECIPE, {"bad.jpg": "broken"}, {"program": "x"})
    document = json.loads(content)
    assert list(document) == ["info", "images", "annotations", "categories", "skipped"]
    assert [len(document[key]) for key in list(document)[1:]] == [400, 2000, 1, 1]


def test_an_error_in_the_middle_leaves_the_file_that_was_there(tmp_path: Path):
    batch, nms = found(3, 2)
    write_people(tmp_path, batch, nms, RECIPE, {}, {})
    before = (tmp_path / PEOPLE).read_bytes()
    batch.proposals.scores[-1] = np.nan
    with pytest.raises(ValueError, match="JSON compliant"):
        write_people(tmp_path, batch, nms, RECIPE, {}, {})
    assert (tmp_path / PEOPLE).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nms", PEOPLE, "proposals"]
