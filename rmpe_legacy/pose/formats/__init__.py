"""Result formats of other pose tools, one file each: people in, files out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rmpe_legacy.errors import OptionError
from rmpe_legacy.files import write_together
from rmpe_legacy.wording import did_you_mean

from ..people import People
from . import alphapose, coco_results, mpii, openpose

OURS = "ours"  # poses.json and the authors' files, which the commands write themselves
# name of --format -> the files of a run: path below the output folder -> content
_WRITERS: Mapping[str, Callable[[Sequence[People]], dict[str, bytes]]] = {
    coco_results.NAME: coco_results.files,
    alphapose.NAME: alphapose.files,
    openpose.NAME: openpose.files,
    mpii.NAME: mpii.files,
}
FORMATS = (OURS, *_WRITERS)


def check_formats(names: Sequence[str], joints) -> None:
    """Check result formats before any work is done.

    Args:
        names: The requested formats.
        joints: The JointSet of the results.

    Raises:
        RmpeError: A format is unknown, or cannot hold these joints.
    """
    for name in names:
        if name not in FORMATS:
            raise OptionError(f"format {name!r} is not one of {', '.join(FORMATS)}{did_you_mean(name, FORMATS)}")
    if mpii.NAME in names:
        mpii.check(joints)


def write_formats(output: str | Path, names: Sequence[str], people: Sequence[People]) -> list[str]:
    """Write the results of a run in other tools' formats.

    Args:
        output: a folder; made if missing.
        names: of FORMATS; "ours" is skipped, as the commands write it themselves.
        people: an entry for each image, even if nobody was found.

    Returns:
        What was written: files and folders, relative to ``output``.
    """
    written: list[str] = []
    for name in dict.fromkeys(names):
        if name == OURS:
            continue
        files = _WRITERS[name](people)
        for folder in dict.fromkeys(str(Path(path).parent) for path in files):
            write_together(Path(output) / folder, {Path(path).name: content for path, content in files.items()
                                                   if str(Path(path).parent) == folder})
        tops = [Path(path).parts[0] + ("/" if len(Path(path).parts) > 1 else "") for path in files]
        written += dict.fromkeys(tops)
    return written
