"""Process-wide settings of pycaffe: the device, the dialect of its files and the levels of the log."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import torch

from rmpe_legacy.caffe.choose_dialect import FIRST
from rmpe_legacy.caffe.proto.dialects import AUTO
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.spec import DE_TRANSFORM
from rmpe_legacy.errors import RmpeError

from .errors import whole_number

logger = logging.getLogger("caffe")


@dataclass
class Settings:
    """The values that the functions here set."""

    on_gpu: bool = False
    gpu: int = 0
    dialect: str = AUTO  # of the files that are read
    de_transform: str = "published-identity"  # what the published Caffe computes

    @property
    def messages(self) -> str:
        """The dialect of what a script builds: message classes, NetSpec's parameters, the networks of model_libs."""
        return FIRST if self.dialect == AUTO else self.dialect

    def device(self) -> torch.device:
        """Return where networks compute: the GPU in GPU mode, otherwise the CPU."""
        return torch.device("cuda", self.gpu) if self.on_gpu and torch.cuda.is_available() else torch.device("cpu")


current = Settings()


def configure(dialect: str | None = None, de_transform: str | None = None) -> None:
    """Set how networks are read from now on; None leaves a setting unchanged.

    Args:
        dialect: The dialect whose fields and defaults apply: one that `rmpe dialects` lists, or "auto" (the initial
            value): for each file the first one that knows everything in it, and "rmpe" for what a script builds.
        de_transform: The meaning of ``de_transform: true`` of a SpatialTransformer: "published-identity" (the initial
            value: what the published Caffe computes), "published-ignored" or "paper".

    Raises:
        RmpeError: The value is none of these.
    """
    if dialect is not None:
        if dialect != AUTO:
            load_schema(dialect)
        current.dialect = dialect
    if de_transform is not None:
        if de_transform not in DE_TRANSFORM:
            raise RmpeError(f"de_transform {de_transform!r} is not one of {', '.join(map(repr, DE_TRANSFORM))}")
        current.de_transform = de_transform


def set_mode_cpu() -> None:
    """Compute on the CPU from now on."""
    current.on_gpu = False


def set_mode_gpu() -> None:
    """Compute on the GPU from now on.

    Differs: without a GPU, Caffe ends the process; here a warning says so and the CPU computes.
    """
    if not torch.cuda.is_available():
        warnings.warn("torch finds no GPU, so caffe.set_mode_gpu() leaves the networks on the CPU", stacklevel=2)
    current.on_gpu = True


def set_device(gpu: int) -> None:
    """Choose the GPU for GPU mode.

    Raises:
        RmpeError: There are GPUs, but not this one.
    """
    number, count = whole_number("caffe.set_device: the GPU", gpu), torch.cuda.device_count()
    if count and not 0 <= number < count:
        raise RmpeError(f"caffe.set_device({gpu}): this machine has GPUs 0 to {count - 1}; choose one of them")
    current.gpu = number


def set_random_seed(seed: int) -> None:
    """Seed torch's random numbers, from which fillers, Dropout and the data layers draw."""
    torch.manual_seed(whole_number("caffe.set_random_seed: the seed", seed))


def init_log(level: int = 0, stderr: bool = False) -> None:
    """Set the lowest level that the "caffe" logger writes, by Caffe's numbers: 0 info, 1 warning, 2 error, 3 fatal."""
    logger.setLevel(10 * (min(max(int(level), 0), 3) + 2))
    if stderr and not logger.handlers:
        logger.addHandler(logging.StreamHandler())


def log(message: str) -> None:
    """Write one line of level info to the log."""
    logger.info("%s", message)
