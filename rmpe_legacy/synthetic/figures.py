"""Articulated figures: skeletons of MPII's sixteen joints in many poses, and the body parts drawn around them.

A figure stands in its own space: x to its left, y up, z ahead, in units of its standing height. Everything is
computed for P figures at once. Numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# MPII's order of joints
R_ANKLE, R_KNEE, R_HIP, L_HIP, L_KNEE, L_ANKLE, PELVIS, THORAX, NECK, HEAD_TOP = range(10)
R_WRIST, R_ELBOW, R_SHOULDER, L_SHOULDER, L_ELBOW, L_WRIST = range(10, 16)

# Body parts that occlude each other; a joint is visible if the part in front is one of its own.
RIGHT_LEG, LEFT_LEG, TRUNK, HEAD, RIGHT_ARM, LEFT_ARM = range(6)
PARTS = 6
JOINT_PARTS = (
    (RIGHT_LEG,), (RIGHT_LEG,), (RIGHT_LEG, TRUNK), (LEFT_LEG, TRUNK), (LEFT_LEG,), (LEFT_LEG,),
    (TRUNK, RIGHT_LEG, LEFT_LEG), (TRUNK,), (HEAD, TRUNK), (HEAD,),
    (RIGHT_ARM,), (RIGHT_ARM,), (RIGHT_ARM, TRUNK), (LEFT_ARM, TRUNK), (LEFT_ARM,), (LEFT_ARM,),
)  # fmt: skip

# Lengths, in standing heights
THIGH, SHIN, UPPER_ARM, FOREARM = 0.235, 0.225, 0.165, 0.150
TORSO, NECK_LENGTH, HEAD_LENGTH = 0.27, 0.055, 0.17
HALF_HIPS, HALF_SHOULDERS = 0.052, 0.110

# How a pose is sampled: weight, then ranges in degrees. The leading leg has the first of two.
#           weight  hip flexion x2            knee x2                 spread
LEGS = {
    "stand":  (32, (-4, 6), (-4, 6),          (0, 8), (0, 8),         (1, 9)),
    "astride": (8, (-5, 8), (-5, 8),          (0, 8), (0, 8),         (12, 28)),
    "walk":   (20, (12, 32), (-26, -6),       (0, 20), (5, 40),       (0, 6)),
    "run":    (10, (45, 85), (-35, -5),       (60, 110), (15, 90),    (0, 8)),
    "sit":    (10, (72, 100), (72, 100),      (60, 100), (60, 100),   (2, 20)),
    "squat":   (4, (80, 120), (80, 120),      (90, 140), (90, 140),   (8, 30)),
    "kneel":   (4, (70, 95), (-10, 8),        (75, 100), (80, 105),   (2, 10)),
    "kick":    (8, (40, 95), (-10, 8),        (0, 30), (0, 15),       (0, 20)),
}  # fmt: skip
#           weight  lean ahead   lean aside   twist
TORSOS = {
    "upright": (70, (-6, 10),    (-8, 8),     (-15, 15)),
    "lean":    (18, (12, 38),    (-15, 15),   (-25, 25)),
    "bend":    (4, (45, 85),     (-10, 10),   (-20, 20)),
    "aside":   (4, (-5, 10),     (15, 35),    (-15, 15)),
}  # fmt: skip
#           weight  flexion     spread      elbow       which way the elbow bends: out, up, ahead
ARMS = {
    "hang":    (28, (-12, 15),  (4, 16),    (2, 30),    (-0.2, 0.0, 1.0)),
    "swing":   (16, (-40, 45),  (2, 14),    (10, 70),   (-0.2, 0.0, 1.0)),
    "up":      (8, (145, 185),  (2, 22),    (0, 40),    (-1.0, 0.0, 0.4)),
    "wave":    (10, (-15, 20),  (85, 160),  (0, 80),    (-0.3, 1.0, 0.3)),
    "out":     (14, (-10, 20),   (65, 105),  (0, 35),    (0.0, 0.0, 1.0)),
    "ahead":   (8, (55, 105),   (0, 22),    (0, 40),    (-0.3, 1.0, 0.0)),
    "akimbo":  (7, (-20, 5),    (35, 52),   (80, 112),  (-1.0, 0.0, 0.2)),
    "carry":   (9, (0, 38),     (4, 25),    (65, 120),  (-0.3, 0.4, 1.0)),
    "to_head": (6, (40, 85),    (30, 65),   (105, 145), (-0.5, 1.0, 0.1)),
}  # fmt: skip
LYING = 0.07  # of all figures


@dataclass(frozen=True, eq=False)
class Figures:
    """P posed figures: P joints and M capsules each. Points are in the camera's space, x right, y down, z nearer."""

    joints: np.ndarray  # (P, 16, 3) float64
    ends: np.ndarray  # (P, M, 2, 3) float64: both ends of each capsule
    radii: np.ndarray  # (P, M, 2) float64: at both ends; 0 where the figure lacks it
    depth: np.ndarray  # (P, M) float64: what is greater is drawn later
    parts: np.ndarray  # (M,) int64: the part of the body
    materials: np.ndarray  # (P, M) int64: an index into the figure's colours


# Materials: rows of a figure's table of colours
SKIN, HAIR, SHIRT, TROUSERS, SHOES, EXTRA, EYE = range(7)
MATERIALS = 7


def draw_figures(rng: np.random.Generator, count: int) -> Figures:
    """Sample the poses of ``count`` figures and their orientations relative to the camera."""
    pose = _Lots(rng, count)
    upright = _torso_frames(pose)
    joints = _joints(pose, upright)
    bent = np.degrees(np.arccos(np.clip(upright[:, 1, 1], -1, 1)))  # bent figures look up a little
    head = upright @ _rotation("y", pose.range(-40, 40)) @ _rotation("x", pose.range(-15, 20) - 0.5 * bent)
    joints[:, HEAD_TOP] = joints[:, NECK] + head[:, :, 1] * HEAD_LENGTH
    capsules = _body(pose, joints, upright, head)
    return _before_camera(pose, joints, capsules)


class _Lots:
    """Draws for all figures at once."""

    def __init__(self, rng: np.random.Generator, count: int):
        self.rng, self.count = rng, count

    def range(self, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
        return low + (high - low) * self.rng.random(self.count)

    def chance(self, probability: float) -> np.ndarray:
        return self.rng.random(self.count) < probability

    def style(self, table: dict[str, tuple]) -> list[np.ndarray]:
        """A row of a table for each figure: its columns, ranges as (P, 2), directions as (P, 3)."""
        weights = np.cumsum([row[0] for row in table.values()])
        chosen = np.searchsorted(weights, self.rng.random(self.count) * weights[-1], side="right")
        return [np.array(column, np.float64)[chosen] for column in list(zip(*table.values(), strict=True))[1:]]

    def within(self, ranges: np.ndarray) -> np.ndarray:
        return self.range(ranges[:, 0], ranges[:, 1])


def _rotation(axis: str, degrees: np.ndarray) -> np.ndarray:
    """(P, 3, 3): right-handed turns about one axis."""
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    angle = np.radians(degrees)
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, range(3), range(3)] = 1
    matrix[:, i, i] = matrix[:, j, j] = np.cos(angle)
    matrix[:, j, i] = np.sin(angle)
    matrix[:, i, j] = -matrix[:, j, i]
    return matrix


def _swing(flexion: np.ndarray, spread: np.ndarray, side: int) -> np.ndarray:
    """(P, 3): where a limb that hangs down points after a swing ahead and aside. side: 1 left, -1 right."""
    ahead, aside = np.radians(flexion), np.radians(spread)
    return np.stack([side * np.sin(aside), -np.cos(aside) * np.cos(ahead), np.cos(aside) * np.sin(ahead)], axis=1)


def _torso_frames(pose: _Lots) -> np.ndarray:
    ahead, aside, twist = (pose.within(column) for column in pose.style(TORSOS))
    return _rotation("x", ahead) @ _rotation("z", aside) @ _rotation("y", twist)


def _joints(pose: _Lots, upright: np.ndarray) -> np.ndarray:
    """(P, 16, 3); the head's top is left to the caller."""
    joints = np.zeros((pose.count, 16, 3))
    _legs(pose, joints)
    joints[:, THORAX] = upright[:, :, 1] * TORSO
    joints[:, NECK] = joints[:, THORAX] + upright[:, :, 1] * NECK_LENGTH
    twice = pose.chance(0.5)  # both arms do the same
    first = pose.style(ARMS)
    second = [np.where(twice[:, None], one, other) for one, other in zip(first, pose.style(ARMS), strict=True)]
    shrug = pose.range(-0.02, 0.015)
    chains = (first, 1, (L_SHOULDER, L_ELBOW, L_WRIST)), (second, -1, (R_SHOULDER, R_ELBOW, R_WRIST))
    for style, side, chain in chains:
        shoulder = np.stack([np.full(pose.count, side * HALF_SHOULDERS), TORSO + shrug, np.zeros(pose.count)], axis=1)
        upper = _swing(pose.within(style[0]), pose.within(style[1]), side)
        bend = np.radians(pose.within(style[2]))[:, None]
        towards = style[3] * (side, 1, 1) + 0.5 * (pose.rng.random((pose.count, 3)) - 0.5)
        towards -= upper * (towards * upper).sum(axis=1, keepdims=True)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True) + 1e-9
        fore = np.cos(bend) * upper + np.sin(bend) * towards
        points = np.cumsum([shoulder, upper * UPPER_ARM, fore * FOREARM], axis=0)
        joints[:, chain] = np.einsum("pij,kpj->pki", upright, points)
    return joints


def _legs(pose: _Lots, joints: np.ndarray) -> None:
    flex_1, flex_2, knee_1, knee_2, spread = (pose.within(column) for column in pose.style(LEGS))
    left_leads = pose.chance(0.5)
    for side, (hip, knee, ankle) in ((1, (L_HIP, L_KNEE, L_ANKLE)), (-1, (R_HIP, R_KNEE, R_ANKLE))):
        leads = left_leads if side > 0 else ~left_leads
        flex, bend = np.where(leads, flex_1, flex_2), np.where(leads, knee_1, knee_2)
        joints[:, hip] = (side * HALF_HIPS, 0, 0)
        joints[:, knee] = joints[:, hip] + _swing(flex, spread, side) * THIGH
        joints[:, ankle] = joints[:, knee] + _swing(flex - bend, spread * 0.6, side) * SHIN


@dataclass(frozen=True)
class _Capsule:
    ends: Sequence[np.ndarray]  # two, each (P, 3)
    radii: Sequence[np.ndarray | float]  # at both ends
    part: int
    material: np.ndarray | int
    nearer: float = 0.0  # drawn as if it were so much nearer
    there: np.ndarray | bool = True


def _body(pose: _Lots, joints: np.ndarray, upright: np.ndarray, head: np.ndarray) -> list[_Capsule]:
    girth = pose.range(0.85, 1.2)
    shorts, bare = pose.chance(0.25), pose.chance(0.4)
    capsules = [*_trunk(pose, joints, upright), *_head(joints, head)]
    legs = np.where(shorts, SKIN, TROUSERS)
    for knee, ankle, hip, part in ((R_KNEE, R_ANKLE, R_HIP, RIGHT_LEG), (L_KNEE, L_ANKLE, L_HIP, LEFT_LEG)):
        capsules += _leg(joints[:, hip], joints[:, knee], joints[:, ankle], part, legs)
    arms = np.where(bare, SKIN, SHIRT)
    for shoulder, elbow, wrist, part in ((R_SHOULDER, R_ELBOW, R_WRIST, RIGHT_ARM),
                                         (L_SHOULDER, L_ELBOW, L_WRIST, LEFT_ARM)):
        capsules += _arm(joints[:, shoulder], joints[:, elbow], joints[:, wrist], part, arms)
    stout = {SHIRT, TROUSERS}
    return [_scaled(c, girth) if not isinstance(c.material, int) or c.material in stout else c for c in capsules]


def _scaled(capsule: _Capsule, girth: np.ndarray) -> _Capsule:
    return _Capsule(capsule.ends, tuple(r * girth for r in capsule.radii), capsule.part, capsule.material,
                    capsule.nearer, capsule.there)


def _leg(hip: np.ndarray, knee: np.ndarray, ankle: np.ndarray, part: int, lower: np.ndarray) -> list[_Capsule]:
    shin = (ankle - knee) / SHIN
    ahead = np.stack([0.1 * np.sign(hip[:, 0]), np.zeros(len(hip)), np.ones(len(hip))], axis=1)
    toes = ahead - shin * (ahead * shin).sum(axis=1, keepdims=True)  # square to the shin
    toes /= np.linalg.norm(toes, axis=1, keepdims=True) + 1e-9
    heel = ankle + shin * 0.022
    return [
        _Capsule((hip, knee), (0.05, 0.034), part, TROUSERS),
        _Capsule((knee, ankle), (0.034, 0.022), part, lower, 0.002),
        _Capsule((heel, heel + toes * 0.075 + shin * 0.008), (0.023, 0.017), part, SHOES, 0.001),
    ]


def _arm(shoulder: np.ndarray, elbow: np.ndarray, wrist: np.ndarray, part: int, lower: np.ndarray) -> list[_Capsule]:
    hand = wrist + (wrist - elbow) * (0.03 / FOREARM)
    return [
        _Capsule((shoulder, elbow), (0.036, 0.028), part, SHIRT, 0.004),
        _Capsule((elbow, wrist), (0.027, 0.019), part, lower, 0.006),
        _Capsule((wrist, hand), (0.02, 0.022), part, SKIN, 0.005),
    ]


def _trunk(pose: _Lots, joints: np.ndarray, upright: np.ndarray) -> list[_Capsule]:
    up, ahead = upright[:, :, 1], upright[:, :, 2]
    pelvis, thorax = joints[:, PELVIS], joints[:, THORAX]
    shoulders = [joints[:, joint] - up * 0.008 for joint in (R_SHOULDER, L_SHOULDER)]
    front = ahead * 0.05
    sides = [(joints[:, shoulder] * 0.8 + thorax * 0.2, joints[:, hip] * 0.9 + up * 0.02)
             for shoulder, hip in ((R_SHOULDER, R_HIP), (L_SHOULDER, L_HIP))]
    return [
        _Capsule((joints[:, R_HIP], joints[:, L_HIP]), (0.052, 0.052), TRUNK, TROUSERS, -0.004),
        _Capsule((pelvis + up * 0.03, thorax - up * 0.04), (0.066, 0.074), TRUNK, SHIRT),
        *(_Capsule(side, (0.042, 0.045), TRUNK, SHIRT) for side in sides),
        _Capsule(shoulders, (0.036, 0.036), TRUNK, SHIRT),
        # an open jacket on the chest, or a bag on the back: which way the figure faces
        _Capsule((pelvis + up * 0.03 + front, thorax - up * 0.04 + front), (0.022, 0.03), TRUNK, EXTRA, 0.01,
                 pose.chance(0.65)),
        _Capsule((pelvis + up * 0.09 - ahead * 0.09, thorax - up * 0.05 - ahead * 0.09), (0.05, 0.045), TRUNK, EXTRA,
                 0.01, pose.chance(0.15)),
        _Capsule((thorax, joints[:, NECK] + up * 0.02), (0.03, 0.028), TRUNK, SKIN, 0.002),
    ]


def _head(joints: np.ndarray, head: np.ndarray) -> list[_Capsule]:
    left, up, ahead = (head[:, :, i] for i in range(3))
    neck, top = joints[:, NECK], joints[:, HEAD_TOP]
    chin, crown = neck + up * 0.062, top - up * 0.06
    face = ahead * 0.03
    return [
        _Capsule((chin, crown), (0.056, 0.06), HEAD, HAIR, 0.01),
        _Capsule((chin - up * 0.008 + face, crown - up * 0.03 + face), (0.042, 0.046), HEAD, SKIN, 0.013),
        *(_Capsule((chin + up * 0.028 + ahead * 0.055 + left * x,) * 2, (0.009, 0.009), HEAD, EYE, 0.013)
          for x in (-0.022, 0.022)),
    ]


def _before_camera(pose: _Lots, joints: np.ndarray, capsules: list[_Capsule]) -> Figures:
    """Rotate the figures randomly and project them from far ahead."""
    lies = pose.chance(LYING)
    roll = np.where(lies, pose.range(65, 115) * np.where(pose.chance(0.5), 1, -1), pose.range(-7, 7))
    # most face the camera; the others look any way
    yaw = np.where(pose.chance(0.94), pose.range(-45, 45), pose.range(-180, 180))
    view = _rotation("z", roll) @ _rotation("x", pose.range(-4, 14)) @ _rotation("y", yaw)
    view[:, 1] *= -1  # images count downwards
    ends = np.stack([np.stack(c.ends, axis=1) for c in capsules], axis=1)  # (P, M, 2, 3)
    shape = (pose.count, len(capsules))
    radii = np.stack([np.stack([np.broadcast_to(r * c.there, pose.count) for r in c.radii], axis=1)
                      for c in capsules], axis=1)
    ends = np.einsum("pij,pmkj->pmki", view, ends)
    nearer = np.array([c.nearer for c in capsules])
    materials = np.stack([np.broadcast_to(c.material, pose.count) for c in capsules], axis=1)
    return Figures(
        np.einsum("pij,pkj->pki", view, joints), ends, radii.reshape(*shape, 2),
        ends[..., 2].mean(axis=2) + nearer, np.array([c.part for c in capsules]), materials)
