"""Reads solver.prototxt, and collects a network's learnable parameters with their multipliers.

Sources: ReadSolverParamsFromTextFileOrDie (upgrade_proto.cpp), Net::AppendParam (net.cpp:445-540) of RMPE@5188c23.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from os import PathLike

from torch import nn

from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.dialects import AUTO, BASES
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.text import read_text
from rmpe_legacy.errors import NetError

from .optimizers import OPTIMIZERS, REGULARIZATIONS, CaffeOptimizer

NETS = ("net", "net_param", "train_net", "train_net_param")
EVAL_TYPES = ("classification", "detection")
_TYPES = {name.upper(): name for name in OPTIMIZERS}  # old enum value -> today's type


def read_solver(path: str | PathLike, dialect: str = AUTO) -> Message:
    """Read a solver.prototxt as a SolverParameter, with the old solver_type upgraded to type.

    Args:
        path: The file.
        dialect: As for ``load_net``. "auto" is the first of "rmpe", "ssd" and "bvlc" that knows every field.

    Raises:
        FileError, PrototxtError, NetError: The file cannot be read, or something in it is wrong or unknown.
    """
    if dialect != AUTO:
        return upgrade_solver(read_text(path, "SolverParameter", dialect))
    readings = (read_text(path, "SolverParameter", base) for base in BASES)  # made only while a field is not known
    first = next(readings)
    known = (param for param in chain([first], readings) if not any(param.unknowns()))
    return upgrade_solver(next(known, first))


def upgrade_solver(param: Message) -> Message:
    """Upgrade the old solver_type of a SolverParameter to type.

    Raises:
        NetError: The message contains unknown fields, or both solver_type and type.
    """
    if unknown := [f"{u.where}: {u.owner} has no {'value ' + str(u.value) if u.is_value else 'field ' + repr(u.name)}"
                   for u in param.unknowns()]:
        raise NetError("\n  ".join([f"{param.origin.path}: not known in a solver of this dialect:", *unknown]))
    if param.has("solver_type"):
        if param.has("type"):
            raise NetError(f"{param.where}: has both solver_type, the old form, and type; keep type")
        param = param.replace(type=_TYPES[param.solver_type], solver_type=None)
    _check(param)
    return param


def _check(param: Message) -> None:
    where = param.where
    if param.type not in OPTIMIZERS:
        raise NetError(f"{where}: solver type {param.type!r} is not one of {', '.join(OPTIMIZERS)}")
    given = [name for name in NETS if param.has(name)]
    if len(given) != 1:
        raise NetError(f"{where}: {'names no network' if not given else ' and '.join(given) + ' each name a network'}; "
                       f"give one of {', '.join(NETS)}")
    for name, least in (("average_loss", 1), ("iter_size", 1), ("display", 0), ("test_interval", 0), ("snapshot", 0)):
        if getattr(param, name) < least:
            raise NetError(f"{where}: {name} is {getattr(param, name)}; it must be {least} or more")
    if param.regularization_type not in REGULARIZATIONS:
        raise NetError(f"{where}: regularization_type {param.regularization_type!r} is not one of "
                       f"{', '.join(REGULARIZATIONS)}")
    if "eval_type" in param.descriptor.fields and param.eval_type not in EVAL_TYPES:
        raise NetError(f"{where}: eval_type {param.eval_type!r} is not one of {', '.join(EVAL_TYPES)}")
    if param.snapshot and not param.has("snapshot_prefix"):
        raise NetError(f"{where}: snapshot is set, but snapshot_prefix is not; set it to where snapshots should go")


def make_optimizer(param: Message, params: list[LearnableParameter]) -> CaffeOptimizer:
    """Make the optimizer that a SolverParameter names. Its learning rate is set before each step.

    Raises:
        NetError: There is no such type, or a parameter of it is out of range.
    """
    options = {name: getattr(param, name) for name in (
        "momentum", "weight_decay", "regularization_type", "clip_gradients", "iter_size")}
    own = {"AdaGrad": ("delta",), "RMSProp": ("rms_decay", "delta"), "AdaDelta": ("delta",),
           "Adam": ("momentum2", "delta")}.get(param.type, ())
    options |= {name: getattr(param, name) for name in own}
    groups = [{"params": [p.value], "lr_mult": p.lr_mult, "decay_mult": p.decay_mult} for p in params]
    try:
        return OPTIMIZERS[param.type](groups, param.base_lr, **options)
    except NetError as error:
        raise NetError(f"{param.where}: {error}") from None


@dataclass(frozen=True)
class LearnableParameter:
    """One parameter of a network; a parameter that several layers share occurs once."""

    layer: str  # that owns it
    index: int  # among the layer's blobs
    value: nn.Parameter
    lr_mult: float
    decay_mult: float

    def __str__(self) -> str:
        return f"{self.layer}[{self.index}]"


def learnable_parameters(net: Net) -> list[LearnableParameter]:
    """Return a network's parameters in Caffe's order, including those with lr_mult 0.

    A shared parameter has its owner's multipliers; where the owner sets none, those of the first layer that does.

    Raises:
        LayerError: Two layers set different multipliers for the same parameter.
    """
    found: dict[int, _Entry] = {}
    for step in net.steps:
        spec = step.layer.spec
        for i, declared in enumerate(step.layer.declared):
            value = getattr(step.layer, declared.name)
            message = spec.message.param[i] if i < len(spec.message.param) else None
            entry = found.setdefault(id(value), _Entry(spec.name, i, value, {}))
            for name in ("lr_mult", "decay_mult"):
                if message is None or not message.has(name):
                    continue
                mine, theirs = getattr(message, name), entry.multipliers.setdefault(name, getattr(message, name))
                if mine != theirs:
                    raise spec.error(f"shares parameter {i} of {entry.layer} with {name} {mine:g}, which has "
                                     f"{theirs:g}; give both the same")
    return [LearnableParameter(e.layer, e.index, e.value, e.multipliers.get("lr_mult", 1.0),
                               e.multipliers.get("decay_mult", 1.0)) for e in found.values()]


@dataclass
class _Entry:
    layer: str
    index: int
    value: nn.Parameter
    multipliers: dict[str, float]
