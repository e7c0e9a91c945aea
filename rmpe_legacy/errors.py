"""Errors that users can cause. Each message says where, what is wrong, and what to do."""

from typing import Any

MAX_LINE, MAX_LINES = 500, 100  # characters of a message's line, and its lines


class RmpeError(Exception):
    """A file, network or input that cannot be used as it is. Any other exception is a bug of this package.

    Very long lines in a message, for example due to a name in a file, are shortened in the middle.
    """

    def __init__(self, message: str = ""):
        super().__init__(_shortened(message))


def _shortened(message: str) -> str:
    if len(message) <= MAX_LINE:
        return message
    lines = message.split("\n")
    if len(lines) > MAX_LINES:
        lines[MAX_LINES - 1 :] = [f"... and {len(lines) - MAX_LINES + 1} lines more"]
    return "\n".join(map(_shortened_line, lines))


def _shortened_line(line: str) -> str:
    if len(line) <= MAX_LINE:
        return line
    return f"{line[: MAX_LINE // 2]} ... ({len(line)} characters) ... {line[-MAX_LINE // 3 :]}"


class OptionError(RmpeError):
    """A parameter or an option with a value that it never takes, or beside others that exclude it."""


class FileError(RmpeError):
    """A file that is missing, truncated, damaged or in another format than expected."""


class PrototxtError(RmpeError):
    """Text that is not a prototxt of this dialect; the message shows the line and a caret."""


class NetError(RmpeError):
    """Layers that do not fit together: connections, names, phases, weights, inputs."""


class LayerError(RmpeError):
    """A layer with wrong or unsupported parameters; names the file, the layer and its type.

    Created by ``LayerSpec.error``, which sets `spec`, the layer's LayerSpec, and `reason`, the message without the
    names. `assumed`: its bottoms' shapes, of which it may complain, come from assumptions about data that is not there.
    """

    spec: Any = None
    reason = ""
    assumed = False


class InputError(RmpeError, ValueError):
    """An array, a size or a value that does not fit."""


class PoseFileError(RmpeError):
    """Proposals, scores or poses that do not match."""


class EvaluationError(RmpeError):
    """Predictions and ground truth that cannot be compared, or not with the requested protocol."""
