"""The values of a training run over its iterations: TensorBoard's event files, and an image of the curves."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmpe_legacy.files import make_folder, whole_file
from rmpe_legacy.optional import optional

PICTURE = "curves.png"
SECONDS = 60  # between two images


class TrainingCurves:
    """Writes scalars into a folder; a run that continues in the same folder continues its curves."""

    def __init__(self, folder: str | Path):
        """RmpeError if TensorBoard or matplotlib is not installed, or the folder cannot be written."""
        events = optional("tensorboard.backend.event_processing.event_accumulator", "--log-dir")
        optional("matplotlib", "--log-dir")  # before the training rather than after it
        from torch.utils.tensorboard import SummaryWriter

        self.folder = Path(folder)
        make_folder(self.folder)
        self.values: dict[str, dict[int, float]] = defaultdict(dict)  # name -> iteration -> value
        earlier = events.EventAccumulator(str(self.folder), size_guidance={"scalars": 0}).Reload()
        for name in earlier.Tags()["scalars"]:
            self.values[name] = {event.step: event.value for event in earlier.Scalars(name)}
        self._writer: Any = SummaryWriter(str(self.folder))
        self._drawn = time.monotonic()

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add values by name, such as "train/loss"."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)
            self.values[name][iteration] = value
        if time.monotonic() - self._drawn > SECONDS:
            self.draw()

    def draw(self) -> None:
        """Write the image: one plot for each kind of value, over the iterations."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        if not self.values:
            return
        figure = Figure(figsize=(8, 2.5 * len(self.values)), layout="constrained")
        FigureCanvasAgg(figure)
        for place, name in enumerate(sorted(self.values), 1):
            axes = figure.add_subplot(len(self.values), 1, place)
            axes.plot(*zip(*sorted(self.values[name].items()), strict=True), marker=".")
            axes.set_title(name.replace("$", r"\$"), loc="left")  # not a formula
            axes.set_xlabel("iteration")
            axes.grid(alpha=0.3)
        with whole_file(self.folder / PICTURE) as file:
            figure.savefig(file, format="png", dpi=100)
        self._drawn = time.monotonic()

    def close(self) -> None:
        """Write the remaining values and the final image."""
        self._writer.close()
        self.draw()
