"""Every number that the paper and its repository publish, with its source.

The paper: Fang, Xie, Tai, Lu: RMPE: Regional Multi-Person Pose Estimation, ICCV 2017. Values as printed.
"""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "RMPE, ICCV 2017"
README = "README.md of MVIG-SJTU/RMPE"
DEMO = "examples/rmpe/demo.py:43 of MVIG-SJTU/RMPE@5188c23"
TRAINING_README = "README.md of Fang-Haoshu/multi-human-pose@094e29b"
MPII_COLUMNS = ("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Total")  # mAP, per cent
COCO_COLUMNS = ("AP", "AP50", "AP75", "APm", "APl")  # per cent


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    method: str
    values: tuple[float, ...]  # one per column of the table
    ours: bool = False  # RMPE or a part of it, which this package can run; not another group's method
    note: str = ""


@dataclass(frozen=True)
class Table:
    """One table; every number in it has the table's source."""

    source: str
    dataset: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    unmeasurable: str = ""  # why these rows cannot be reproduced; empty if they can, given weights and data

    def row(self, method: str) -> dict[str, float]:
        """Return a method's numbers by column. Raises KeyError for a method that is not in the table."""
        for row in self.rows:
            if row.method == method:
                return dict(zip(self.columns, row.values, strict=True))
        raise KeyError(method)


@dataclass(frozen=True)
class Number:
    """A number in the running text."""

    what: str
    value: float
    unit: str
    source: str


TABLE_1 = Table(f"{PAPER}, Table 1", "MPII multi-person, full test set of 1758 groups", MPII_COLUMNS, (
    Row("Iqbal & Gall, ECCVw 2016", (58.4, 53.9, 44.5, 35.0, 42.2, 36.7, 31.1, 43.1)),
    Row("DeeperCut, ECCV 2016", (78.4, 72.5, 60.2, 51.0, 57.2, 52.0, 45.4, 59.5)),
    Row("Levinkov et al., CVPR 2017", (89.8, 85.2, 71.8, 59.6, 71.1, 63.0, 53.5, 70.6)),
    Row("Insafutdinov et al., CVPR 2017", (88.8, 87.0, 75.9, 64.9, 74.2, 68.8, 60.5, 74.3)),
    Row("Cao et al., CVPR 2017", (91.2, 87.6, 77.7, 66.8, 75.4, 68.9, 61.7, 75.6)),
    Row("RMPE", (88.4, 86.5, 78.6, 70.4, 74.4, 73.0, 65.8, 76.7), ours=True),
), unmeasurable="MPII withholds the joints of its test images; only its organisers can evaluate them")

TABLE_2 = Table(f"{PAPER}, Table 2", "COCO keypoints, test-dev", COCO_COLUMNS, (
    Row("CMU-Pose", (61.8, 84.9, 67.5, 57.1, 68.2)),
    Row("G-RMI", (60.5, 82.2, 66.2, 57.6, 66.6)),
    Row("DL-61", (54.4, 75.3, 50.9, 58.3, 54.3)),
    Row("R4D", (51.4, 75.0, 55.9, 47.4, 56.7)),
    Row("umich_vl", (46.0, 74.6, 48.4, 38.8, 55.6)),
    Row("Caltech", (40.2, 65.2, 41.9, 34.9, 49.2)),
    Row("RMPE", (61.8, 83.7, 69.8, 58.6, 67.6), ours=True),
), unmeasurable="COCO withholds the annotations of test-dev, and the 17-joint model of this row was not published")

TABLE_3 = Table(f"{PAPER}, Table 3", "MPII multi-person, the authors' 1300 validation images", MPII_COLUMNS, (
    Row("full", (90.7, 89.7, 84.1, 75.4, 80.4, 75.5, 67.3, 80.8), ours=True,
        note="the columns average to 80.4, not 80.8; which of them is wrong is not known"),
    Row("without SSTN and parallel SPPE", (89.0, 86.9, 82.8, 73.5, 77.1, 73.3, 65.0, 78.2), ours=True),
    Row("without parallel SPPE", (89.9, 88.0, 83.4, 74.7, 77.8, 74.0, 65.8, 79.1), ours=True),
    Row("without PGPG", (82.8, 81.0, 77.5, 68.2, 74.6, 66.8, 60.1, 73.0), ours=True),
    Row("random jittering instead of PGPG", (89.3, 87.8, 82.3, 70.4, 78.4, 73.3, 63.8, 77.9), ours=True),
    Row("without pose NMS", (85.1, 83.6, 79.2, 69.8, 76.4, 72.2, 63.6, 75.7), ours=True),
    Row("pose NMS of [7]", (88.9, 87.8, 83.0, 73.8, 78.7, 74.6, 66.3, 79.1)),
    Row("pose NMS of [5]", (90.0, 88.6, 83.7, 74.6, 79.7, 75.1, 67.0, 79.9)),
    Row("two-step, without any of the three", (81.9, 80.4, 74.1, 68.5, 69.0, 66.1, 62.2, 71.7), ours=True),
    Row("oracle boxes", (94.3, 93.4, 87.7, 80.2, 84.3, 78.9, 70.6, 84.2), ours=True,
        note="with the true boxes of people instead of a detector"),
))

README_MPII = Table(f"{README}, history", "MPII multi-person, full test set of 1758 groups", ("Total",), (
    Row("2-stack, first release", (69.2,), ours=True),
    Row("8-stack, January 2017", (75.3,), ours=True),
    Row("8-stack, April 2017", (76.7,), ours=True),
), unmeasurable=TABLE_1.unmeasurable)

README_COCO = Table(f"{README}, history", "COCO keypoints, test-dev", ("AP", "AP50", "AP75"), (
    Row("before April 2017", (61.0, 82.9, 68.8), ours=True),
    Row("April 2017", (61.8, 83.7, 69.8), ours=True),
), unmeasurable=TABLE_2.unmeasurable)

TABLES = (TABLE_1, TABLE_2, TABLE_3, README_MPII, README_COCO)

NUMBERS = (
    Number("SSD-512 VGG detector on COCO detection test-dev", 28.8, "mAP", f"{PAPER}, experiments"),
    Number("Faster R-CNN ResNet-50 detector on COCO detection test-dev", 32.0, "mAP", f"{PAPER}, experiments"),
    Number("MPII validation with the Faster R-CNN detector", 81.4, "mAP", f"{PAPER}, experiments"),
    Number("COCO keypoints test-dev with the Faster R-CNN detector", 63.3, "AP", f"{PAPER}, experiments"),
    Number("difficult joints on MPII test: wrists, elbows, ankles, knees", 72.0, "mAP", f"{PAPER}, experiments"),
    Number("proposals are extended along both axes by", 30.0, "per cent", f"{PAPER}, implementation"),
    Number("stacks of the parallel SPPE", 4.0, "hourglasses", f"{PAPER}, implementation"),
    Number("validation images, of the multi-person training set", 1300.0, "images", f"{PAPER}, experiments"),
    Number("pose NMS on the validation images", 1.8, "seconds", f"{PAPER}, experiments"),
    Number("pose NMS of [5] on the validation images", 62.2, "seconds", f"{PAPER}, experiments"),
    Number("the whole of RMPE, April 2017", 1.5, "seconds per image", README),
    Number("COCO keypoints test-dev, first release", 57.0, "AP", f"{README}, history"),
    Number("detector threshold in the paper", 0.09, "score", DEMO),
    Number("detector threshold in the demo", 0.3, "score", DEMO),
    Number("MPII validation that training should reach", 80.0, "mAP or more", TRAINING_README),
)
