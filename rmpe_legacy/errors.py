"""The errors a user can cause. Each message is a whole sentence: where, what, what to do."""


class RmpeError(Exception):
    """A file, network or input that cannot be used as it is. Any other exception is a bug of this package."""


class FileError(RmpeError):
    """A file that is missing, truncated, damaged or of another kind than expected."""


class PrototxtError(RmpeError):
    """Text that is not a prototxt of this dialect; the message shows the line and a caret."""


class NetError(RmpeError):
    """Layers that do not fit together: wiring, names, phases, weights, inputs."""


class LayerError(RmpeError):
    """One layer that asks for something wrong or not supported; names the file, the layer and its type.

    ``LayerSpec.error`` makes it, and sets `spec`, the layer's LayerSpec, and `reason`, the message without the names.
    """

    spec = None
    reason = ""


class InputError(RmpeError, ValueError):
    """An array, a size or a value that does not fit what it is given to."""


class PoseFileError(RmpeError):
    """Proposals, scores or poses that do not belong together."""


class EvaluationError(RmpeError):
    """Predictions and ground truth that cannot be compared, or not by the protocol that was asked for."""
