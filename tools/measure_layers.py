"""Run every golden case of the layers and write how far each array is from Caffe's, to caffe/layers/evidence.json.

    python tools/measure_layers.py

`rmpe layers` prints it; tests/caffe/test_golden.py holds it against what it measures itself.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from pathlib import Path

import torch

from rmpe_legacy.cli.layer_report import EVIDENCE, Gap
from rmpe_legacy.files import whole_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from harness import KINDS, Case, cases, gaps

CAFFE = "the real Caffe on a CPU (RMPE@5188c23; of the other dialects weiliu89/caffe@4817bf8 and BVLC/caffe@9b89154)"


def measure(folder: Path, scratch: Path) -> list:
    """Type, the dialects and phases it was run in, and the gaps of tops, bottoms' diffs and parameters' diffs."""
    own = Case(folder)
    runs = [own, *own.others]
    each = zip(*(gaps(case.compare(scratch)) for case in runs), strict=True)
    return [own.type, [case.run for case in runs], *map(_largest, each)]


def _largest(found: tuple[Gap | None, ...]) -> list[float] | None:
    """Relative and in ulp, to three digits."""
    pairs = [(gap.relative, gap.ulp) for gap in found if gap]
    return [float(f"{max(column):.3g}") for column in zip(*pairs, strict=True)] if pairs else None


def main() -> None:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        rows = {Case(folder).id: measure(folder, Path(scratch)) for folder in cases(*KINDS)}
    machine = f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    with whole_file(EVIDENCE, "w") as file:
        file.write(f'{{"caffe": {json.dumps(CAFFE)},\n"machine": {json.dumps(machine)},\n"cases": {{\n{lines}\n}}}}\n')
    print(f"{EVIDENCE}: {len(rows)} cases")


if __name__ == "__main__":
    main()
