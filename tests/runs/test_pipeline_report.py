"""The page that shows a run: complete in itself, well-formed, and it says what was merged into what."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations

import cv2
import numpy as np
import pytest

from rmpe_legacy import RmpeError
from rmpe_legacy.pose.estimate import CropTrace
from rmpe_legacy.pose.pipeline import PoseResult, merge_poses
from rmpe_legacy.pose.published import RECIPES
from rmpe_legacy.pose.results import Detections, Poses
from rmpe_legacy.runs.report import MAX_REPORT_IMAGES, OPEN, ReportImage, Summary, page, write_report
from rmpe_legacy.runs.report_images import IMAGE_WIDTH, MAX_CROPS, Panels, panels, to_bytes
from rmpe_legacy.synthetic.world import draw_picture

SUMMARY = Summary("People & images", {"Detector": "<small>"}, 3, {"bad": "bad.jpg: it is <damaged>"}, "a < b")
VOID = {"meta", "img", "image", "rect", "path", "use"}


def a_trace(rng: np.random.Generator, transformer: bool = True) -> CropTrace:
    points = rng.integers(0, 12, (16, 2)).astype(np.float32)
    crop = rng.random((3, 26, 24), dtype=np.float32)
    return CropTrace(crop, crop[:, ::-1] if transformer else None, np.array([0.9, 0, 0.1, 0, 0.8, 0], np.float32)
                if transformer else None, rng.random((16, 12, 12), dtype=np.float32), points)


def a_report_image(name: str = "a.jpg", transformer: bool = True, people: int = 2) -> ReportImage:
    """A drawn image; the first two boxes hold the same pose, the last a weak one."""
    picture, rng = draw_picture(3, 1), np.random.default_rng(5)
    joints = np.repeat(picture.joints_xy[:1], people + 1, axis=0) + 90.0 * np.array([0, *range(people)])[:, None, None]
    scores = np.full(joints.shape[:2], 0.8, np.float32)
    scores[-1] = 0.15
    low, high = joints.min(axis=1), joints.max(axis=1)
    boxes = np.concatenate([low, high], axis=1).astype(np.int64)
    traces = [a_trace(rng, transformer) for _ in joints]
    result = PoseResult((320, 240), Detections(boxes, np.linspace(0.9, 0.4, len(boxes), dtype=np.float32)),
                  Poses(joints, scores), 1, tuple(traces))
    image = picture.image / np.float32(255)
    recipe = RECIPES["demo"]
    return ReportImage(name, merge_poses(result, recipe), result.grown(recipe), panels(image, traces))


class Checker(HTMLParser):
    """Tags that are closed in order, ids that are there once, and what the page wants from elsewhere."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.ids, self.wanted, self.count = [], [], [], {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        named = dict(attrs)
        self.count[tag] = self.count.get(tag, 0) + 1
        self.ids += [named["id"]] if "id" in named else []
        self.wanted += [named[key] for key in ("src", "href") if key in named]
        if tag == "img" or named.get("role") == "img":
            assert named.get("alt") or named.get("aria-label")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_needs_nothing_but_itself():
    text = page(SUMMARY, [a_report_image(), a_report_image("b <i>&amp;.jpg", transformer=False)])
    found = Checker(text)
    assert len(found.ids) == len(set(found.ids))
    outside = [value for value in found.wanted if not value.startswith("data:image/jpeg;base64,")]
    assert all(value[1:] in found.ids for value in outside)
    assert not re.search(r"https?://|<script|@import|url\(", text)
    for value in set(found.wanted) - set(outside):
        pixels = np.frombuffer(base64.b64decode(value.split(",")[1]), np.uint8)
        assert cv2.imdecode(pixels, cv2.IMREAD_COLOR).shape[2] == 3


def test_shows_each_step():
    shown = a_report_image()
    text = page(SUMMARY, [shown])
    assert Checker(text).count["section"] == 1
    assert text.count('class="crop"') == 3
    assert text.count("After the STN: θ = 0.90, 0.00, 0.10, 0.00, 0.80, 0.00") == 3
    assert text.count("Heatmaps over the crop") == 3
    for caption in ("Detections, numbered", "Poses before the NMS", "Persons after the NMS"):
        assert text.count(f"<figcaption>{caption}") == 1
    assert "320 × 240 pixels; 3 detections, 1 person, 1 detection outside the image" in text
    box = ", ".join(map(str, shown.grown_xyxy[1].tolist()))
    assert f'Pose 2 <span class="soft">box {box}</span>' in text
    assert "STN" not in page(SUMMARY, [a_report_image(transformer=False)])


def test_says_what_was_merged_into_what():
    text = page(SUMMARY, [a_report_image()])
    rows = re.findall(r'<tr><th scope="row">(.*?)</th><td>(\d+)</td><td>(.*?)</td><td class="number">(.*?)</td>', text)
    assert [(re.sub("<.*?>", "", who), pick, merged, score) for who, pick, merged, score in rows] == [
        ("A", "1", "1, 2", "0.800"), ("dropped (low score)", "3", "3", "0.150")]
    views = text.split("<figcaption>")[:3]
    assert views[1].count("<g>") == 3  # poses before
    assert views[2].count("<g>") == 1  # persons after


def test_words_are_never_tags():
    text = page(SUMMARY, [a_report_image("<script>alert(1)</script>.jpg")])
    assert "<script" not in text
    assert "<title>People &amp; images</title>" in text
    assert "bad.jpg: it is &lt;damaged&gt;" in text
    assert "<dd>&lt;small&gt;</dd>" in text
    assert '<pre class="scroll">a &lt; b</pre>' in text


@pytest.mark.parametrize("size_wh", [(320, 240), (500, 20), (12, 300)])
def test_labels_stay_in_the_image(size_wh):
    assert all(0 <= x < u <= size_wh[0] and 0 <= y < v <= size_wh[1]
               for view in _label_boxes(size_wh) for x, y, u, v in view)


def test_labels_do_not_cover_one_another():
    views = _label_boxes((320, 240))
    assert [len(view) for view in views] == [5, 5, 3]
    for view in views:
        assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a, b in combinations(view, 2))


def _label_boxes(size_wh: tuple[int, int]) -> list[list[tuple[float, float, float, float]]]:
    """The corners of each label in each of the three views."""
    shown = a_report_image(people=4)
    shown = replace(shown, people=replace(shown.people, size_wh=size_wh))
    number = r'"([\d.-]+)"'
    found = [re.findall(f'class="tag" x={number} y={number} width={number} height={number}', view)
             for view in page(SUMMARY, [shown]).split("<figcaption>")[:3]]
    return [[(x, y, x + w, y + h) for x, y, w, h in (map(float, tag) for tag in tags)] for tags in found]


def test_nobody_found():
    picture = draw_picture(3, 1).image / np.float32(255)
    result = PoseResult((320, 240), Detections(np.empty((0, 4), np.int64), np.empty(0, np.float32)),
                  Poses(np.empty((0, 16, 2)), np.empty((0, 16), np.float32)))
    recipe = RECIPES["demo"]
    text = page(SUMMARY, [ReportImage("a.jpg", merge_poses(result, recipe), result.grown(recipe), panels(picture, ()))])
    Checker(text)
    assert "0 detections, 0 persons" in text
    assert "Persons and their poses" not in text


def test_long_runs_are_cut_and_say_so():
    one = a_report_image()
    text = page(Summary("many", {}, 100, {}), [one] * MAX_REPORT_IMAGES)
    assert f"The first {MAX_REPORT_IMAGES} of 100 images are shown." in text
    assert text.count("<details open>") == OPEN
    traces = [a_trace(np.random.default_rng(i)) for i in range(MAX_CROPS + 3)]
    assert len(panels(np.zeros((20, 30, 3), np.float32), traces).crops) == MAX_CROPS


@pytest.mark.parametrize("transformer", [True, False])
def test_panels_come_back_from_arrays(transformer):
    traces = [a_trace(np.random.default_rng(i), transformer) for i in range(3)]
    before = panels(np.random.default_rng(9).random((900, 1600, 3), dtype=np.float32), traces)
    after = Panels.of_arrays(before.arrays())
    assert after.image == before.image
    for a, b in zip(after.crops, before.crops, strict=True):
        assert (a.crop, a.straightened, a.heatmaps, a.theta) == (b.crop, b.straightened, b.heatmaps, b.theta)
        np.testing.assert_array_equal(a.points, b.points)
    assert cv2.imdecode(np.frombuffer(after.image, np.uint8), 1).shape[1] == IMAGE_WIDTH
    none = panels(np.zeros((5, 7, 3), np.float32), ())
    assert Panels.of_arrays(none.arrays()).image == none.image


def test_is_there_whole_or_not_at_all(tmp_path):
    write_report(tmp_path / "new" / "page.html", SUMMARY, [a_report_image()])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]
    assert (tmp_path / "new" / "page.html").read_text("utf-8") == page(SUMMARY, [a_report_image()])
    with pytest.raises(RmpeError, match="is a folder; give the name of a page in it"):
        write_report(tmp_path / "new", SUMMARY, [])


@pytest.mark.parametrize("values", [
    np.arange(256) / np.float32(255), np.arange(65536) / np.float32(65535), np.arange(511) / np.float32(510),
    np.nextafter(np.arange(1, 511) / np.float32(510), np.float32(0)), np.linspace(-1, 2, 60001),
], ids=["8 bits", "16 bits", "halves", "below halves", "beyond"])
def test_bytes_are_rounded_to_even_and_clipped(values: np.ndarray):
    image = np.repeat(values.astype(np.float32)[None, :, None], 3, axis=2)
    expected = np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(to_bytes(image), expected)
