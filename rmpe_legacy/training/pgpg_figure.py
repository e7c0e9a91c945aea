"""A PGPG model as an image: each atomic pose with its true box and boxes that the model samples for it."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from rmpe_legacy.optional import optional
from rmpe_legacy.wording import pluralize

from .people import joint_set
from .pgpg import AtomicPose, PoseGuidedBoxes

COLUMNS = 4
SAMPLES = 20  # boxes for each atomic pose
PURPOSE = "drawing a PGPG model"
MARGIN = 0.12  # of the pose's extent: between the outermost joints and the person's box


def draw_pgpg(model: PoseGuidedBoxes, seed: int = 0) -> bytes:
    """Draw the atomic poses as a PNG, most frequent first: the true box in black, SAMPLES sampled boxes in colour."""
    rng = np.random.default_rng(seed)
    poses = sorted(model.atomic_poses, key=lambda each: -each.count)
    rows = -(-len(poses) // COLUMNS)
    figure = optional("matplotlib.figure", PURPOSE).Figure(figsize=(2.6 * COLUMNS, 3 * rows), dpi=100)
    for axes, atom in zip(figure.subplots(rows, COLUMNS, squeeze=False).flat, poses, strict=False):
        _draw_atomic_pose(axes, atom, rng)
    for axes in figure.axes:
        axes.set_axis_off()
    figure.tight_layout()
    out = BytesIO()
    optional("matplotlib.backends.backend_agg", PURPOSE).FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def _draw_atomic_pose(axes, atom: AtomicPose, rng: np.random.Generator) -> None:
    rectangle = optional("matplotlib.patches", PURPOSE).Rectangle
    for limb in joint_set(len(atom.pose)).limbs:
        axes.plot(*atom.pose[list(limb)].T, color="0.4", linewidth=2)
    low, high = atom.pose.min(axis=0), atom.pose.max(axis=0)
    box = np.concatenate([low - MARGIN * (high - low), high + MARGIN * (high - low)])
    sides = np.tile(box[2:] - box[:2], 2)
    for _ in range(SAMPLES):
        xmin, ymin, xmax, ymax = box + atom.offsets.sample(rng) * sides
        axes.add_patch(rectangle((xmin, ymin), xmax - xmin, ymax - ymin, fill=False, edgecolor="C0", alpha=0.35))
    axes.add_patch(rectangle(box[:2], *(box[2:] - box[:2]), fill=False, edgecolor="k", linewidth=1.5))
    axes.set_title(f"{pluralize(atom.count, 'pair')}, {pluralize(len(atom.offsets.weights), 'Gaussian')}", fontsize=8)
    axes.set_aspect("equal")
    axes.autoscale_view()
    axes.invert_yaxis()
