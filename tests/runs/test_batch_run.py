"""What a run does at the same time, and what its results are then."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event, get_ident

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from rmpe_legacy.errors import FileError, LayerError, OptionError
from rmpe_legacy.pose.pipeline import PoseResult
from rmpe_legacy.pose.results import Detections
from rmpe_legacy.runs.batch_run import BatchRun, RunContext
from rmpe_legacy.runs.commands import NO_POSES, Options

PATIENCE = 120.0  # seconds, for a machine under load


class Source:
    """A black image that says when it is read."""

    def __init__(self, name: str):
        self.name, self.is_read = name, Event()

    def load(self) -> np.ndarray:
        self.is_read.set()
        return np.zeros((8, 9, 3), np.float32)

    def digest(self) -> str:
        return self.name


def nobody() -> PoseResult:
    return PoseResult((9, 8), Detections(np.empty((0, 4), np.int64), np.empty(0, np.float32)), NO_POSES)


def test_the_next_image_is_read_and_the_last_one_saved_while_an_image_is_processed(tmp_path: Path):
    sources = [Source(f"{i}.png") for i in range(4)]
    drawn = [Event() for _ in sources]

    def process(source: Source, image: np.ndarray, keep_crops: bool) -> PoseResult:
        i = sources.index(source)
        assert i + 1 == len(sources) or sources[i + 1].is_read.wait(PATIENCE)
        assert i == 0 or drawn[i - 1].wait(PATIENCE)
        assert not any(each.is_read.is_set() for each in sources[i + 2 :])  # memory: no more than one image ahead
        return nobody()

    def draw(image: np.ndarray, people: PoseResult) -> np.ndarray:
        next(each for each in drawn if not each.is_set()).set()
        return image

    run = BatchRun(tmp_path, {}, process, draw)
    results = run.run(sources)
    assert [result.name for result in results] == ["0.png", "1.png", "2.png", "3.png"]
    assert all(each.is_set() for each in drawn)
    again = BatchRun(tmp_path, {}, process=lambda *_: 1 / 0, draw=draw).run(sources)  # all is saved
    assert [result.name for result in again] == [result.name for result in results]
    assert [result.people.size_wh for result in again] == [result.people.size_wh for result in results]


def test_several_images_are_processed_at_once_and_the_results_stay_in_order(tmp_path: Path):
    together, threads = Barrier(2), set()

    def process(source: Source, image: np.ndarray, keep_crops: bool) -> PoseResult:
        together.wait(PATIENCE)  # breaks if the other image is not being processed
        threads.add(get_ident())
        return nobody()

    results = BatchRun(tmp_path, {}, process, workers=2).run([Source(f"{i}.png") for i in range(6)])
    assert [result.name for result in results] == [f"{i}.png" for i in range(6)]
    assert len(threads) == 2


def test_an_error_in_one_of_several_images_ends_the_run_and_keeps_what_is_finished(tmp_path: Path):
    def process(source: Source, image: np.ndarray, keep_crops: bool) -> PoseResult:
        if source.name == "3":
            raise LayerError("conv: is wrong")
        return nobody()

    sources = [Source(name) for name in "0123456"]
    with pytest.raises(LayerError, match="is wrong"):
        BatchRun(tmp_path, {}, process, workers=3).run(sources)
    computed: list[str] = []

    def process_the_rest(source: Source, image: np.ndarray, keep_crops: bool) -> PoseResult:
        computed.append(source.name)
        return nobody()

    BatchRun(tmp_path, {}, process_the_rest).run(sources)
    assert computed == list("3456")


@pytest.mark.parametrize(("threads", "workers", "images", "expected"), [
    (8, None, 100, (4, 2)), (2, None, 100, (2, 1)), (8, None, 4, (2, 4)), (8, None, 1, (1, 8)), (8, 3, 1, (3, 2)),
    (2, 5, 9, (5, 1)),
])
def test_threads_are_divided_among_the_images_processed_at_once(
        threads: int, workers: int | None, images: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch):
    divided: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", divided.append)
    options = Options(Path(), workers=workers)
    assert (options.divide_threads(images, torch.device("cpu")), *divided) == expected
    assert replace(options, workers=None).divide_threads(images, torch.device("cuda")) == 1
    assert replace(options, workers=None, allow_python=True).divide_threads(images, torch.device("cpu")) == 1


def test_a_gpu_processes_one_image_at_a_time():
    with pytest.raises(OptionError, match="workers 2: on cuda:1, images are processed one at a time"):
        Options(Path(), workers=2).divide_threads(9, torch.device("cuda:1"))


def test_results_are_read_back_at_the_end_and_not_kept_until_then(tmp_path: Path):
    """Or memory would grow with every image."""
    made: list[weakref.ref[Detections]] = []

    def process(source: Source, image: np.ndarray, keep_crops: bool) -> PoseResult:
        assert all(each() is None for each in made[:-2])  # the last two may still be on their way to the disk
        people = nobody()
        made.append(weakref.ref(people.proposals))
        return people

    sources = [Source(f"{i}.png") for i in range(6)]
    results = BatchRun(tmp_path, {}, process).run(sources)
    assert len(made) == 6
    assert [result.name for result in results] == [source.name for source in sources]
    assert all(result.people is not None for result in results)


@pytest.mark.parametrize("in_a_layer", [False, True])
def test_an_image_that_fills_the_gpus_memory_is_skipped_and_tried_again(in_a_layer: bool, tmp_path: Path):
    full = "CUDA out of memory. Tried to allocate 9.00 GiB.\nSee the documentation"

    def process(source: Source, image: np.ndarray, keep_crops: bool) -> PoseResult:
        if source.name == "b":
            try:
                raise torch.OutOfMemoryError(full)
            except torch.OutOfMemoryError as error:
                if in_a_layer:
                    raise LayerError("net.prototxt:7: conv (Convolution): does not fit in memory") from error
                raise
        return nobody()

    said: list[str] = []
    run = BatchRun(tmp_path, {}, process, context=RunContext(log=said.append))
    results = run.run([Source(name) for name in "abc"])
    assert [result.people is None for result in results] == [False, True, False]
    reason = "net.prototxt:7: conv (Convolution): does not fit in memory" if in_a_layer else full.splitlines()[0]
    assert said == [f"skipped: b: the GPU's memory does not suffice: {reason}; run it again with a smaller --batch, or "
                    "with --device cpu"]
    again = BatchRun(tmp_path, {}, lambda *_: nobody()).run([Source(name) for name in "abc"])
    assert all(result.people is not None for result in again)


def test_another_error_of_a_layer_ends_the_run(tmp_path: Path):
    def process(*_: object) -> PoseResult:
        raise LayerError("conv: is wrong")

    with pytest.raises(LayerError, match="is wrong"):
        BatchRun(tmp_path, {}, process).run([Source("a")])


NESTED = b"[" * 100_000


@pytest.mark.parametrize("facts", [NESTED, b"3", b"{}", b'{"digest": "b", "size_wh": 5}', b'{"skipped": "x"}'])
def test_a_damaged_result_of_an_older_run_is_computed_again(facts: bytes, tmp_path: Path):
    run = BatchRun(tmp_path, {}, lambda *_: nobody())
    run.run([Source("a"), Source("b")])
    stored = max((tmp_path / ".parts").glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    stored.write_bytes(save({"facts": np.frombuffer(facts, np.uint8)}))
    sources = [Source("a"), Source("b")]
    assert [result.people.size_wh for result in run.run(sources)] == [(9, 8)] * 2
    assert [source.is_read.is_set() for source in sources].count(True) == 1


def test_damaged_settings_of_an_older_run_are_a_sentence(tmp_path: Path):
    run = BatchRun(tmp_path, {}, lambda *_: nobody())
    run.run([Source("a")])
    (tmp_path / ".parts" / "run.json").write_bytes(NESTED)
    with pytest.raises(FileError, match=r"run.json: is damaged; remove the folder"):
        run.run([Source("a")])
