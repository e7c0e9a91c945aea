"""Groups, MPII's unit of multi-person evaluation: people near each other, and the poses that belong to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

import numpy as np

from rmpe_legacy.errors import EvaluationError

from .joints import EVALUATED_IDS, MPII

HEAD_PER_SCALE = 25.0  # px: MPII's scale is the reference head size / 25, on 902 of 902 persons to 1e-14
_REACH = 40.0  # px per unit of scale: extent of a person around objpos (setpred.m:40)
_FAR = 8000.0  # px: initial value of setpred.m's box (setpred.m:36)
_PELVIS, _THORAX = MPII.index("pelv"), MPII.index("thrx")


@dataclass(frozen=True, eq=False)
class Groups:
    """The ground truth: N groups of annotated people. Joints by MPII's id, coordinates in pixels."""

    images: tuple[str, ...]  # N file names, "" if unknown
    joints: tuple[np.ndarray, ...]  # N of (G, 16, 2), NaN: not annotated
    head_sizes: tuple[np.ndarray, ...]  # N of (G,), px: 0.6 of the diagonal of the head rectangle
    positions: tuple[np.ndarray, ...]  # N of (G, 2): objpos, NaN if unknown
    scales: tuple[np.ndarray, ...]  # N of (G,): MPII's scale, NaN if unknown
    notes: tuple[str, ...] = ()  # notes about the numbers, one sentence each
    image_ids: Mapping[object, str] = field(default_factory=dict)  # file names by id, if the file has ids

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def people(self) -> int:
        return sum(map(len, self.joints))

    def named(self, images: Sequence[str]) -> Groups:
        """Return a copy with these image names."""
        return replace(self, images=tuple(images))


@dataclass(frozen=True, eq=False)
class Poses:
    """Predictions: N entries, each with poses. Joints by MPII's id; x, y in pixels and a score, NaN: missing."""

    images: tuple[str, ...]  # N file names, "" if unknown
    joints: tuple[np.ndarray, ...]  # N of (P, 16, 3)
    grouped: bool  # True: entries are groups, in the order of the ground truth; False: images with all their people

    def __len__(self) -> int:
        return len(self.joints)


def evaluated(joints: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Select the 14 joints that the official toolkit evaluates, in its order, from arrays (people, 16, ...)."""
    return [array[:, EVALUATED_IDS] for array in joints]


def poses_by_group(poses: Poses, groups: Groups) -> list[np.ndarray]:
    """Return the poses of each group, (P, 16, 3).

    Entries that are groups are matched one to one. Entries that are images are matched one to one if they have the
    number and the names of the groups, as in setpred.m, otherwise by name. Then each group keeps the poses that belong
    to it by ``in_group``, if the ground truth has positions and scales.

    Raises:
        EvaluationError: Entries and groups do not match.
    """
    different = [i for i, (a, b) in enumerate(zip(poses.images, groups.images, strict=False))
                 if a and b and _base(a) != _base(b)]
    if poses.grouped or (len(poses) == len(groups) and not different):
        if len(poses) != len(groups):
            raise EvaluationError(f"predictions have {len(poses)} groups, the ground truth {len(groups)}; they must be "
                                  "the same groups in the same order")
        if different:
            i = different[0]
            raise EvaluationError(f"group {i + 1} belongs to {groups.images[i]} in the ground truth, but to "
                                  f"{poses.images[i]} in the predictions; they must be in the same order")
        taken = list(poses.joints)
    else:
        taken = _by_name(poses, groups)
    if poses.grouped:
        return taken
    if all(np.isfinite(a).all() for known in (groups.positions, groups.scales) for a in known):
        whole = all(((p[..., :2] % 1 == 0) | np.isnan(p[..., :2])).all() for p in poses.joints)
        return [p[in_group(p, xy, scale, whole)]
                for p, xy, scale in zip(taken, groups.positions, groups.scales, strict=True)]
    shared = [name for name, times in Counter(map(_base, groups.images)).items() if name and times > 1]
    if shared:
        raise EvaluationError(f"{shared[0]} has more than one group, and the ground truth lacks objpos and scale, "
                              "which are needed to tell poses apart; give predictions by group (a .mat with pred)")
    return taken


def in_group(poses: np.ndarray, positions: np.ndarray, scales: np.ndarray, whole_pixels: bool = True) -> np.ndarray:
    """Return whether the midpoint of pelvis and thorax is in the box around a group's people: (P,) bool.

    poses (P, 16, 2 or more), positions (G, 2), scales (G,). The box extends 40 * scale from each position, edges
    included. Quirk: Matlab adds and halves whole pixels as int32, rounding halves away from zero; so does this.
    Source: setpred.m:33-56 of multi-human-pose@094e29b.
    """
    middle = (poses[:, _PELVIS, :2] + poses[:, _THORAX, :2]) / 2
    if whole_pixels:
        middle = np.trunc(middle + np.copysign(0.5, middle))
    reach = _REACH * np.asarray(scales)[:, None]
    low = (positions - reach).min(axis=0, initial=_FAR)
    high = (positions + reach).max(axis=0, initial=-_FAR)
    # A pose without pelvis or thorax has no midpoint; setpred.m, which has no missing joints, would keep it.
    return ~((middle < low) | (middle > high)).any(axis=1)


def _by_name(poses: Poses, groups: Groups) -> list[np.ndarray]:
    if not all(groups.images):
        raise EvaluationError(f"the predictions list {len(poses)} images, but the ground truth has {len(groups)} "
                              "groups without image names; give the list of groups (--groups MPI_MP_*.json)")
    twice = [name for name, times in Counter(map(_base, poses.images)).items() if times > 1]
    if twice:
        raise EvaluationError(f"predictions list {twice[0] or 'an image without a name'} more than once, but there is "
                              f"not one entry for each of the {len(groups)} groups; list each image once, or each "
                              "group")
    known = dict(zip(map(_base, poses.images), poses.joints, strict=True))
    lost = [name for name in groups.images if _base(name) not in known]
    if lost:
        raise EvaluationError(f"predictions are missing for {len(lost)} of {len(groups)} groups, the first in "
                              f"{lost[0]}; an image where nobody was found must be listed, too")
    return [known[_base(name)] for name in groups.images]


def _base(name: str) -> str:
    return PurePath(name.replace("\\", "/")).name
