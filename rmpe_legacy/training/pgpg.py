"""PGPG as the paper has it: per atomic pose, a Gaussian mixture of a detector's offsets from the true box.

``PoseGuidedBoxes`` is the model: it samples boxes, and is written to and read from JSON. ``fit_pgpg`` makes one.
Offsets are (detected - true) / side of the true box, of xmin, ymin, xmax, ymax.
Source: section 3.4 of the paper, which states neither the number of atomic poses nor that of the mixture's parts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.files import whole_file
from rmpe_legacy.optional import optional
from rmpe_legacy.readers.json_file import read_json

from .boxes import PublishedBoxes, SampledBox, disturbed
from .people import Person, align_by_torso, joint_set

FORMAT, VERSION = "rmpe-pgpg", 1
MAX_BYTES = 1 << 24  # of a model file; one of 16 joints and 32 atomic poses has some 100 kB
MIN_IOU = 0.5  # of a detection and a person that belong together
LEAST_PAIRS = 10  # per part of a mixture: fewer tell nothing about four coordinates


@dataclass(frozen=True, eq=False)
class Mixture:
    """A Gaussian mixture of K parts over four offsets."""

    weights: np.ndarray  # (K,), their sum is 1
    means: np.ndarray  # (K, 4)
    covariances: np.ndarray  # (K, 4, 4)

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one offset, (4,) float64."""
        part = rng.choice(len(self.weights), p=self.weights)
        return self.means[part] + np.linalg.cholesky(self.covariances[part]) @ rng.standard_normal(4)


@dataclass(frozen=True, eq=False)
class AtomicPose:
    """One cluster of torso-aligned poses, and how a detector's boxes differ from the true ones there."""

    pose: np.ndarray  # (J, 2): the cluster's centre; torso of length 1, its lower end at (0, 0)
    count: int  # pairs of a detection and a person that it was fitted to
    offsets: Mixture


@dataclass(frozen=True, eq=False)
class PoseGuidedBoxes:
    """Boxes disturbed according to the person's pose: PGPG as in the paper. growth: as for ``pose.crop.grow_boxes``."""

    atomic_poses: tuple[AtomicPose, ...]
    mean: np.ndarray  # (4,) of all offsets, whatever the pose
    std: np.ndarray  # (4,)
    growth: str = "paper"

    @property
    def pairs(self) -> int:
        """The number of pairs of a detection and a person that the model was fitted to."""
        return sum(each.count for each in self.atomic_poses)

    @property
    def joints(self) -> int:
        """The number of joints of its poses."""
        return len(self.atomic_poses[0].pose)

    def sample(self, rng: np.random.Generator, person: Person, wh: tuple[int, int]) -> SampledBox:
        """Draw a box for a person in an image of width and height ``wh``, in pixels.

        Raises:
            RmpeError: The person has another number of joints than the model.
        """
        atom = self.atomic_poses[self.atomic_pose_of(person.joints_xy, rng)]
        return disturbed(person, atom.offsets.sample(rng), wh, self.growth)

    def atomic_pose_of(self, joints_xy: np.ndarray, rng: np.random.Generator) -> int:
        """Return the index of the atomic pose that is nearest to a pose (J, 2), over the annotated joints.

        For a pose without an annotated torso, draws one, with the frequencies of the fit.

        Raises:
            RmpeError: The pose has another number of joints than the model.
        """
        if len(joints_xy) != self.joints:
            raise RmpeError(f"the PGPG model has poses of {self.joints} joints, but this person has {len(joints_xy)}; "
                            "fit a model to annotations with the same joints")
        aligned = align_by_torso(joints_xy[None])[0]
        known = ~np.isnan(aligned).any(axis=1)
        if not known.any():
            counts = np.array([each.count for each in self.atomic_poses], np.float64)
            return int(rng.choice(len(counts), p=counts / counts.sum()))
        centers = np.stack([each.pose for each in self.atomic_poses])
        return int(((centers[:, known] - aligned[known]) ** 2).sum(axis=(1, 2)).argmin())

    def published(self) -> PublishedBoxes:
        """Return a sampler that draws from the same offsets like the authors' program: one Gaussian per coordinate, for
        any pose.
        """
        return PublishedBoxes(self.mean, self.std)

    def grown_as(self, growth: str) -> PoseGuidedBoxes:
        """Return the same model for a program that grows detections by another rule."""
        return replace(self, growth=growth)


# --- fitting ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pairs:
    """N people, each with the matching detection."""

    detected_xyxy: np.ndarray  # (N, 4)
    true_xyxy: np.ndarray  # (N, 4)
    joints_xy: np.ndarray  # (N, J, 2), NaN where not annotated

    def __len__(self) -> int:
        return len(self.true_xyxy)

    @property
    def offsets(self) -> np.ndarray:
        """(detected - true) / side of the true box, (N, 4)."""
        return (self.detected_xyxy - self.true_xyxy) / np.tile(self.true_xyxy[:, 2:] - self.true_xyxy[:, :2], 2)


def pair_boxes(detected_xyxy: np.ndarray, true_xyxy: np.ndarray, min_iou: float = MIN_IOU) -> np.ndarray:
    """Match the detections (D, 4) and people (P, 4) of one image.

    Pairs are matched in order of decreasing intersection over union; those of ``min_iou`` or less are not matched.

    Returns:
        (M, 2) int64: detection and person of each pair; each occurs at most once.
    """
    d, p = detected_xyxy[:, None].astype(np.float64), true_xyxy[None].astype(np.float64)
    common = np.clip(np.minimum(d[..., 2:], p[..., 2:]) - np.maximum(d[..., :2], p[..., :2]), 0, None).prod(axis=-1)
    area = (d[..., 2:] - d[..., :2]).prod(axis=-1) + (p[..., 2:] - p[..., :2]).prod(axis=-1) - common
    iou = np.divide(common, area, out=np.zeros_like(common), where=area > 0)
    pairs = []
    while iou.size and iou.max() > min_iou:
        i, j = np.unravel_index(iou.argmax(), iou.shape)
        pairs.append((i, j))
        iou[i], iou[:, j] = 0, 0
    return np.array(pairs, np.int64).reshape(-1, 2)


def fit_pgpg(pairs: Pairs, atomic_poses: int = 16, parts: int = 3, seed: int = 0) -> PoseGuidedBoxes:
    """Cluster the poses of ``pairs`` and fit a mixture of Gaussians to the offsets in each cluster.

    A joint that is not annotated counts as the mean of that joint in the others; people without an annotated torso are
    left out. A cluster of fewer than LEAST_PAIRS people gets the mixture of all people.

    Args:
        pairs: People with their detections.
        atomic_poses: Number of clusters of the k-means over torso-aligned poses.
        parts: Maximum number of Gaussians in a mixture; the Bayesian information criterion chooses.
        seed: Of the clustering and of the mixtures.

    Raises:
        RmpeError: There are too few pairs, or scikit-learn is not installed.
    """
    cluster = optional("sklearn.cluster", "fitting PGPG")
    if atomic_poses < 1 or parts < 1:
        raise RmpeError(f"{atomic_poses} atomic poses with up to {parts} Gaussians each; both must be 1 or more")
    aligned = align_by_torso(pairs.joints_xy)
    kept = ~np.isnan(aligned).all(axis=(1, 2))
    aligned, offsets = aligned[kept], pairs.offsets[kept]
    if len(aligned) < LEAST_PAIRS * atomic_poses:
        raise RmpeError(f"{len(aligned)} pairs of a detection and a person with a torso are too few for {atomic_poses} "
                        f"atomic poses; each needs at least {LEAST_PAIRS}: give more images, or fewer atomic poses")
    unseen = np.isnan(aligned).all(axis=(0, 2))
    if unseen.any():
        names = joint_set(aligned.shape[1]).joints
        raise RmpeError(f"nobody has an annotated {names[int(unseen.argmax())]}; poses cannot be clustered")
    filled = np.where(np.isnan(aligned), np.nanmean(aligned, axis=0), aligned)
    clusters = cluster.KMeans(atomic_poses, n_init=4, random_state=seed).fit(filled.reshape(len(filled), -1))
    everyone, fitted = _fit_mixture(offsets, parts, seed), []
    for k in range(atomic_poses):
        own = offsets[clusters.labels_ == k]
        mixture = everyone if len(own) < LEAST_PAIRS else _fit_mixture(own, parts, seed)
        fitted.append(AtomicPose(clusters.cluster_centers_[k].reshape(-1, 2), len(own), mixture))
    return PoseGuidedBoxes(tuple(fitted), offsets.mean(axis=0), offsets.std(axis=0))


def _fit_mixture(offsets: np.ndarray, parts: int, seed: int) -> Mixture:
    gaussian_mixture = optional("sklearn.mixture", "fitting PGPG").GaussianMixture
    most = min(parts, len(offsets) // LEAST_PAIRS)
    tried = [gaussian_mixture(n, reg_covar=1e-5, random_state=seed).fit(offsets) for n in range(1, most + 1)]
    best = min(tried, key=lambda mixture: mixture.bic(offsets))
    return Mixture(best.weights_ / best.weights_.sum(), best.means_, best.covariances_)


# --- files -----------------------------------------------------------------------------------------------------------


def write_pgpg(path: str | PathLike, model: PoseGuidedBoxes) -> None:
    """Write a model as JSON; the file appears whole or not at all."""
    content = {"format": FORMAT, "version": VERSION, "joints": model.joints, "mean": model.mean.tolist(),
               "std": model.std.tolist(), "atomic_poses": [
                   {"pose": each.pose.tolist(), "count": each.count, "weights": each.offsets.weights.tolist(),
                    "means": each.offsets.means.tolist(), "covariances": each.offsets.covariances.tolist()}
                   for each in model.atomic_poses]}
    with whole_file(path, "w") as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")


def read_pgpg(path: str | PathLike) -> PoseGuidedBoxes:
    """Read a model that ``write_pgpg`` wrote.

    Raises:
        FileError: The file cannot be read, or does not contain such a model.
    """
    content = read_json(path, MAX_BYTES)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileError(f"{path}: not a PGPG model; rmpe pgpg fit writes one")
    if content.get("version") != VERSION:
        raise FileError(f"{path}: version {content.get('version')!r} of a PGPG model; this release reads {VERSION}")
    atoms = content.get("atomic_poses")
    if not isinstance(atoms, list) or not atoms or not all(isinstance(each, dict) for each in atoms):
        raise FileError(f"{path}: atomic_poses is not a list of at least one object")
    joints = content.get("joints")
    if joints not in (16, 17):
        raise FileError(f"{path}: joints is {joints!r}; expected 16 or 17")
    fitted = tuple(_atomic_pose(f"{path}: atomic pose {i}", each, joints) for i, each in enumerate(atoms, 1))
    mean, std = (_array(f"{path}: {key}", content.get(key), (4,)) for key in ("mean", "std"))
    if (std < 0).any():
        raise FileError(f"{path}: std has a number below 0")
    return PoseGuidedBoxes(fitted, mean, std)


def _atomic_pose(where: str, entry: dict[str, Any], joints: int) -> AtomicPose:
    weights = entry.get("weights")
    parts = len(weights) if isinstance(weights, list) else 0
    shapes = {"weights": (parts,), "means": (parts, 4), "covariances": (parts, 4, 4), "pose": (joints, 2)}
    values = {key: _array(f"{where}: {key}", entry.get(key), shape) for key, shape in shapes.items()}
    count = entry.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise FileError(f"{where}: count is {count!r}; expected a whole number of at least 1")
    if not parts or (values["weights"] < 0).any() or abs(values["weights"].sum() - 1) > 1e-6:
        raise FileError(f"{where}: weights are not shares that add up to 1")
    try:
        np.linalg.cholesky(values["covariances"])
    except np.linalg.LinAlgError:
        raise FileError(f"{where}: a covariance is not positive definite") from None
    return AtomicPose(values["pose"], count, Mixture(
        values["weights"] / values["weights"].sum(), values["means"], values["covariances"]))


def _array(where: str, value: Any, shape: Sequence[int]) -> np.ndarray:
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.array(np.nan)
    if array.shape != tuple(shape) or not np.isfinite(array).all():
        raise FileError(f"{where} is not {' x '.join(map(str, shape))} finite numbers")
    return array
