"""Windows that scripts open, as files: for machines without a screen."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from rmpe_legacy.files import make_folder

_ESCAPE = 27  # what scripts that show a video stop at


def save_windows(folder: Path, pyplot_too: bool) -> None:
    """From now on save what OpenCV shows as window-<n>.png and, with `pyplot_too`, what pyplot shows as figure-<n>.png.

    ``cv2.waitKey`` returns Esc.
    """
    import cv2

    make_folder(folder)
    numbers = count(1)

    def show(name: str, picture: Any) -> None:
        cv2.imwrite(str(folder / f"window-{next(numbers)}.png"), picture)

    vars(cv2).update(imshow=show, waitKey=lambda delay=0: _ESCAPE)
    for name in ("namedWindow", "moveWindow", "resizeWindow", "destroyWindow", "destroyAllWindows"):
        setattr(cv2, name, lambda *args, **options: None)
    if pyplot_too:
        _save_figures(folder)


def _save_figures(folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    numbers = count(1)

    def show(*args: Any, **options: Any) -> None:
        for figure in plt.get_fignums():
            plt.figure(figure).savefig(folder / f"figure-{next(numbers)}.png")
        plt.close("all")

    plt.show = show
