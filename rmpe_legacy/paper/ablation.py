"""``rmpe reproduce ablation``: the paper's Table 3 in the drawn world, from networks trained with one budget.

For each seed, trains a single SPPE on true boxes, then each of TRAININGS from its weights. The SPPE's weights
are also those of the parallel SPPE, which do not change. The other rows are evaluated with these networks.

Each finished row and seed leaves a JSON file in the folder of results. It is not computed again, on whatever machine;
a training that was interrupted goes on from its last snapshot.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from rmpe_legacy import __version__
from rmpe_legacy.caffe.solver.solver import Action
from rmpe_legacy.errors import FileError, OptionError
from rmpe_legacy.files import make_folder, write_together
from rmpe_legacy.pose.demo_models import DE_TRANSFORM, demo_model
from rmpe_legacy.pose.detect import load_detector
from rmpe_legacy.pose.estimate import load_pose_network
from rmpe_legacy.pose.published import get_recipe
from rmpe_legacy.prototxts import find
from rmpe_legacy.readers.json_file import read_json
from rmpe_legacy.training.boxes import BoxSampler, JitteredBoxes, TrueBoxes
from rmpe_legacy.training.drawn_detections import drawn_pairs
from rmpe_legacy.training.pgpg import PoseGuidedBoxes, fit_pgpg, read_pgpg, write_pgpg
from rmpe_legacy.training.sources import DrawnPeople
from rmpe_legacy.training.train_pose import PoseTraining, weights_file

from .drawn_ap import SyntheticTestSet, Table
from .reproduce_demo import WORLD
from .tables import MPII_COLUMNS

FORMAT, VERSION = "rmpe-ablation", 1
PUBLISHED = get_recipe("demo-test")  # whose growth, crop, read-out and pose NMS hold in training and in judging
PGPG_WORLD = 1_000_001  # its images are used neither for training nor for evaluation
ATOMIC_POSES, PARTS = 8, 3  # of the PGPG model


@dataclass(frozen=True)
class Budget:
    """What every row is given. The same for all rows, so that the table compares only what it names."""

    name: str
    base_iterations: int  # of the single SPPE that all rows begin from
    iterations: int  # of each row's training behind it
    batch: int
    pictures: int  # that the networks are judged on
    pgpg_pictures: int  # that PGPG is fitted to
    seeds: int
    base_rate: float = 1e-3  # RMSProp's at its highest; it falls linearly to 0
    rate: float = 2.5e-4  # the published one


BUDGETS = {
    "quick": Budget("quick", 12, 8, 4, 12, 60, 3),
    "small": Budget("small", 400, 120, 8, 100, 400, 3),
    "medium": Budget("medium", 2500, 800, 16, 300, 600, 3),
    "full": Budget("full", 4000, 5000, 16, 300, 600, 3),
}


@dataclass(frozen=True)
class Training:
    """How a row's network is trained. parts: of the network, as the folders of prototxt/ name them."""

    parts: str
    boxes: str  # "pgpg", "true" or "jitter"


TRAININGS = {  # by the names of TABLE_3
    "full": Training("_sstn_parallel", "pgpg"),
    "without SSTN and parallel SPPE": Training("", "pgpg"),
    "without parallel SPPE": Training("_sstn", "pgpg"),
    "without PGPG": Training("_sstn_parallel", "true"),
    "random jittering instead of PGPG": Training("_sstn_parallel", "jitter"),
}
JUDGED_WITH_FULL = ("without pose NMS", "oracle boxes")  # another way to use the networks of the row "full"
ROWS = (*TRAININGS, *JUDGED_WITH_FULL)


@dataclass(frozen=True)
class Result:
    """One row of one seed."""

    row: str
    seed: int
    ap: Table  # in per cent, by MPII_COLUMNS


@dataclass(frozen=True)
class Progress:
    """What the command line lends: a place for lines, and whether to stop."""

    say: Callable[[str], None]
    action: Callable[[], Action]


class Ablation:
    """The trainings and their results. work: where networks and snapshots go; results: where the JSON files go."""

    def __init__(self, budget: Budget, work: Path, results: Path, progress: Progress, device: str = "cpu"):
        self.budget, self.work, self.results = budget, work, results / budget.name
        self.progress, self.device = progress, device
        self.test_set = SyntheticTestSet(WORLD, budget.pictures, PUBLISHED)

    def run(self, rows: Sequence[str] | None = None, seeds: Iterable[int] | None = None) -> bool:
        """Train and evaluate the rows and seeds that have no result yet.

        Args:
            rows: The rows to run; None for all.
            seeds: The seeds to run; None for the budget's.

        Returns:
            Whether all are done, rather than stopped by the user.

        Raises:
            OptionError: There is no such row, or a seed is less than 1.
        """
        rows = ROWS if rows is None else rows
        seeds = self.seeds if seeds is None else list(seeds)
        unknown = [row for row in rows if row not in ROWS]
        if unknown:
            raise OptionError(f"row {unknown[0]!r} is not one of {', '.join(map(repr, ROWS))}")
        if any(seed < 1 for seed in seeds):
            raise OptionError(f"seed {min(seeds)} is less than 1")
        make_folder(self.work)
        make_folder(self.results)
        for seed in seeds:
            for name in TRAININGS:
                wanted = [row for row in rows if self._trained_as(row) == name]
                missing = [row for row in wanted if not os.path.exists(self.path(row, seed))]
                for row in set(wanted) - set(missing):
                    self.read(row, seed)  # one of other settings is found out before hours of training
                if missing and not self._train_and_judge(name, seed):
                    return False
        return True

    @property
    def seeds(self) -> Sequence[int]:
        """The budget's seeds."""
        return range(1, self.budget.seeds + 1)

    def found(self) -> list[Result]:
        """All results of the budget's rows and seeds that are there."""
        return [self.read(row, seed) for row in ROWS for seed in self.seeds if os.path.exists(self.path(row, seed))]

    @staticmethod
    def _trained_as(row: str) -> str:
        return "full" if row in JUDGED_WITH_FULL else row

    def path(self, row: str, seed: int) -> Path:
        """The file of a result."""
        return self.results / f"{row.replace(' ', '_')}-{seed}.json"

    # --- training ----------------------------------------------------------------------------------------------------

    def _train_and_judge(self, name: str, seed: int) -> bool:
        """Write the results of one training; whether it was not stopped."""
        started = time.monotonic()
        base = self._train("", TrueBoxes(PUBLISHED.growth), seed, self.budget.base_iterations, self.budget.base_rate,
                           self.work / f"seed{seed}" / "base", None)
        if base is None:
            return False
        training = TRAININGS[name]
        weights = self._train(training.parts, self._sampler(training.boxes), seed, self.budget.iterations,
                              self.budget.rate, self.work / f"seed{seed}" / name.replace(" ", "_"), base)
        if weights is None:
            return False
        trained = time.monotonic() - started
        for row, ap in self._judge(name, training.parts, weights).items():
            self._write(row, seed, ap, trained)
            self.progress.say(f"seed {seed}, {row}: {ap['Total']:.1f} mAP")
        return True

    def _sampler(self, boxes: str) -> BoxSampler:
        if boxes == "pgpg":
            return self.pgpg
        return TrueBoxes(PUBLISHED.growth) if boxes == "true" else JitteredBoxes(growth=PUBLISHED.growth)

    @cached_property
    def pgpg(self) -> PoseGuidedBoxes:
        """PGPG fitted to the shipped detector's boxes in images that are used for nothing else."""
        path = self.work / "pgpg.json"
        if not os.path.exists(path):
            self.progress.say(f"fitting PGPG to the detector's boxes in {self.budget.pgpg_pictures} images")
            pairs = drawn_pairs(self._detector, PGPG_WORLD, self.budget.pgpg_pictures, PUBLISHED.threshold,
                                PUBLISHED.rounding)
            write_pgpg(path, fit_pgpg(pairs, ATOMIC_POSES, PARTS))
        return read_pgpg(path).grown_as(PUBLISHED.growth)

    @cached_property
    def _detector(self):
        return load_detector(*demo_model("detector"), device=self.device)

    def _train(self, parts: str, sampler: BoxSampler, seed: int, iterations: int, rate: float, folder: Path,
               base: Path | None) -> Path | None:
        """The weights of a training, from its last snapshot on; None if it was stopped before its end."""
        make_folder(folder)
        prefix = folder / "net"
        final = Path(f"{prefix}_iter_{iterations}.caffemodel")
        if os.path.exists(final):
            return final
        solver = folder / "solver.prototxt"
        write_together(folder, {solver.name: self._solver(parts, seed, iterations, rate, prefix).encode()})
        training = PoseTraining(solver, DrawnPeople(seed), sampler, "demo", self.budget.batch, seed,
                                self.progress.action, self.device)
        snapshots = {int(path.stem.rpartition("_")[2]): path for path in folder.glob("net_iter_*.solverstate")}
        if base is not None:
            training.start_from(base, base if "parallel" in parts else None)
        self.progress.say(f"training {folder.relative_to(self.work)}: {iterations} iterations"
                          + (f", resumed at {max(snapshots)}" if snapshots else ""))
        finished = training.run(snapshots[max(snapshots)] if snapshots else None)
        return weights_file(training.solver) if finished else None

    @staticmethod
    def _solver(parts: str, seed: int, iterations: int, rate: float, prefix: Path) -> str:
        """RMSProp as published, but for the rate: a short training ends better with one that falls."""
        return (f"net: {json.dumps(str(network_file(parts, 'train')))}\ntype: \"RMSProp\"\nrms_decay: 0.99\n"
                f"delta: 1e-8\nbase_lr: {rate}\nlr_policy: \"poly\"\npower: 1\nmax_iter: {iterations}\n"
                f"random_seed: {seed}\nsnapshot: 500\nsnapshot_prefix: {json.dumps(str(prefix.absolute()))}\n"
                "display: 100\naverage_loss: 100\n")

    # --- judging -----------------------------------------------------------------------------------------------------

    @cached_property
    def _boxes(self) -> Mapping[str, Any]:
        return self.test_set.detect(self._detector)

    def _judge(self, name: str, parts: str, weights: Path) -> dict[str, Table]:
        deploy = network_file(parts.removesuffix("_parallel"), "deploy")
        network = load_pose_network(deploy, weights, device=self.device, de_transform=DE_TRANSFORM)
        persons, poses = self.test_set.evaluate(network, self._boxes)
        if name != "full":
            return {name: persons}
        oracle, _ = self.test_set.evaluate(network, self.test_set.true_boxes())
        return {name: persons, "without pose NMS": poses, "oracle boxes": oracle}

    # --- results -----------------------------------------------------------------------------------------------------

    def settings(self, row: str) -> dict[str, Any]:
        """The settings that determine a row's numbers, apart from the seed and rounding."""
        training = TRAININGS[self._trained_as(row)]
        prototxt, weights = demo_model("detector")
        files = {"small": network_file("", "train"), f"small{training.parts}": network_file(training.parts, "train"),
                 "detector": prototxt, "detector's weights": weights}
        return {**asdict(self.budget), "world": WORLD, "boxes": training.boxes, "network": f"small{training.parts}",
                "files": {name: sha256(path.read_bytes()).hexdigest()[:16] for name, path in files.items()}}

    def _write(self, row: str, seed: int, ap: Table, seconds: float) -> None:
        content = {"format": FORMAT, "version": VERSION, "row": row, "seed": seed, "ap": ap,
                   "settings": self.settings(row), "seconds": round(seconds, 1), "machine": machine(self.device),
                   "rmpe_legacy": __version__, "torch": torch.__version__}
        path = self.path(row, seed)
        write_together(path.parent, {path.name: (json.dumps(content, indent=1) + "\n").encode()})

    def read(self, row: str, seed: int) -> Result:
        """Read a result that an earlier run wrote.

        Raises:
            FileError: The file is not a result, or was computed with other settings.
        """
        path = self.path(row, seed)
        content = read_json(path, 1 << 20)
        if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
            raise FileError(f"{path}: not a result of the ablation; remove it")
        settings, wanted = content.get("settings"), self.settings(row)
        if (content.get("row"), content.get("seed")) != (row, seed) or not isinstance(settings, dict):
            raise FileError(f"{path}: contains the result of a different row or seed than its name says; remove it")
        other = [key for key, value in wanted.items() if settings.get(key) != value]
        if other:
            raise FileError(f"{path}: was computed with other settings ({other[0]} {settings.get(other[0])!r}, now "
                            f"{wanted[other[0]]!r}); remove it, or give another folder with --results")
        ap = content.get("ap")
        if not isinstance(ap, dict) or not all(isinstance(ap.get(c), int | float) for c in MPII_COLUMNS):
            raise FileError(f"{path}: lacks the AP of one of {', '.join(MPII_COLUMNS)}; remove it")
        return Result(row, seed, {column: float(ap[column]) for column in MPII_COLUMNS})


def network_file(parts: str, form: str) -> Path:
    """The prototxt of a small network that comes with the package. form: "train" or "deploy"."""
    return find(f"small{parts}/{form}")


def machine(device: str) -> str:
    """A description of the machine that computed a result."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
