"""``compile_net``: a network that runs in an engine, with the call forms of ``Net``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import torch
from torch import Tensor

from rmpe_legacy.caffe.layers.base import Shape, shapes_text
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.wording import did_you_mean, printable

from .auto import rank
from .base import AUTO, ENGINES, EXACT, Engine, Job
from .passes import COARSE, PASSES
from .proof import Proof, prove
from .sizes import at_sizes

MAX_SIZES = 8  # input sizes that a network stays prepared for
Shapes = Mapping[str, Shape]


def compile_net(net: Net, engine: str = "torch", verify: bool = True, blobs: Sequence[str] = (),
                without: Collection[str] = ()) -> CompiledNet:
    """Prepare a network for fast inference; see ``Net.compiled``, which calls this.

    Raises:
        NetError, LayerError: The engine cannot run the network, or gives other results.
        RmpeError: There is no such engine or pass, or the engine's library is not installed.
    """
    if engine != AUTO and engine not in ENGINES:
        raise RmpeError(f"no engine {engine!r}{did_you_mean(engine, [*ENGINES, AUTO])}; the engines are "
                        f"{', '.join([*ENGINES, AUTO])}")
    if unknown := [name for name in without if name not in PASSES]:
        raise RmpeError(f"no pass {unknown[0]!r}{did_you_mean(unknown[0], PASSES)}; the passes are {', '.join(PASSES)}")
    return CompiledNet(net, engine, verify, tuple(dict.fromkeys([*net.outputs, *blobs])), frozenset(without))


@dataclass(frozen=True)
class Prepared:
    """An engine that is ready for inputs of one size.

    Attributes:
        engine: The engine.
        proof: Its comparison with the network; None if none was requested, or the engine is the network itself.
        refused: The engines that "auto" measured as faster but that cannot run the network: name -> reason.
    """

    engine: Engine
    proof: Proof | None
    refused: Mapping[str, str]


@dataclass(frozen=True)
class _Call:
    """A call's inputs and the engine that ran them.

    Attributes:
        like: Input -> (shape, dtype, device), as the engine takes it.
    """

    like: Mapping[str, tuple[torch.Size, torch.dtype, torch.device]]
    ready: Prepared

    def is_like(self, inputs: Any) -> TypeGuard[dict[str, Tensor]]:
        """Return whether these inputs need no further check, which would take as long as a small network."""
        if type(inputs) is not dict or inputs.keys() != self.like.keys():
            return False
        for name, like in self.like.items():
            value = inputs[name]
            if type(value) is not Tensor or (value.shape, value.dtype, value.device) != like:
                return False
        return True


class CompiledNet:
    """A network in an engine, made by ``net.compiled(engine)``. It is called like the network, and computes no
    gradients.

    It is prepared for the input sizes in the prototxt at once, and for other sizes when they first occur; each time it
    is compared with the network. Other batch sizes need no preparation if `engine` accepts any; but "auto" chooses
    again for batches of 1 to 3 images, of 4 to 15, of 16 to 63, and so on.

    Attributes:
        net: The network that it was made from.
        inputs: The network's inputs.
        outputs: The blobs that a call returns.
    """

    def __init__(self, net: Net, engine: str, verify: bool, outputs: tuple[str, ...], without: frozenset[str]):
        self.net, self.outputs, self.inputs = net, outputs, dict(net.inputs)
        self._asked, self._verify, self._without = engine, verify, without
        self._prepared: OrderedDict[tuple, dict[int, Prepared]] = OrderedDict()  # input sizes -> class of batch sizes
        self._latest: Prepared | None = None
        self._latest_call: _Call | None = None
        if self.inputs and all(self.inputs.values()):
            self._latest = self._prepare(self.inputs)

    @property
    def name(self) -> str:
        return self.net.name

    @property
    def prepared(self) -> Prepared:
        """The engine of the last call; before the first call, the one that is ready for the sizes in the prototxt.

        Raises:
            NetError: There was no call yet, and the prototxt gives the inputs no sizes.
        """
        if self._latest is None:
            raise NetError(f"{self.name or 'the network'}: its inputs have no shape in the prototxt, so no engine is "
                           "prepared before the first call")
        return self._latest

    @property
    def engine(self) -> str:
        """The name of the engine; for "auto", that of the chosen engine."""
        return self.prepared.engine.name

    @property
    def proof(self) -> Proof | None:
        """The comparison with the network; None with verify=False, and for the engine "exact"."""
        return self.prepared.proof

    def __call__(self, inputs: Mapping[str, Tensor] | Tensor | None = None, /, **named: Tensor) -> dict[str, Tensor]:
        """Run the network.

        Args:
            inputs: As for ``Net.forward``.

        Returns:
            Blob -> Tensor, for each of `outputs`.

        Raises:
            NetError, LayerError: The inputs do not fit, or the engine cannot be prepared for their sizes.
        """
        latest = self._latest_call  # in one step, because another thread may be calling
        if latest is not None and not named and latest.is_like(inputs):
            return latest.ready.engine.run(inputs)
        values = self.net.bind(inputs, named)
        like = {name: (value.shape, value.dtype, value.device) for name, value in values.items()}
        if latest is not None and like == latest.like:
            ready = latest.ready
        else:
            ready = self._latest = self._ready_for({name: tuple(value.shape) for name, value in values.items()})
        self._latest_call = _Call(like, ready)
        return ready.engine.run(values)

    def settle(self) -> str:
        """Let "auto" use the engine of ``engine`` for all further inputs too; returns its name.

        So the name says what computed every result, whatever sizes the inputs had.
        """
        self._asked = self.engine
        self._prepared = OrderedDict((key, {0: ready}) for key, found in self._prepared.items()
                                     for ready in found.values() if ready is self.prepared)
        return self._asked

    def _ready_for(self, shapes: Shapes) -> Prepared:
        batch = self._batch_class(shapes)
        for key in (self._any_batch(shapes), _key(shapes)):
            if (found := self._prepared.get(key, {}).get(batch)) is not None:
                self._prepared.move_to_end(key)
                return found
        return self._prepare(shapes)

    def _any_batch(self, shapes: Shapes) -> tuple:
        """The key of an engine that takes any batch size, one for all inputs. Inputs of different ones have an engine
        of their own: a layer may refuse them, where most engines would repeat the values of the smaller.
        """
        differ = len({shape[:1] for shape in shapes.values()}) > 1
        return _key(shapes) if differ and self._asked != EXACT else _without_batch(shapes)

    def _batch_class(self, shapes: Shapes) -> int:
        """Return which batch sizes run in one engine: 1 for 1 to 3 images, 2 for 4 to 15, ...; 0 for all of them."""
        batches = [shape[0] for shape in shapes.values() if shape] if self._asked == AUTO else []
        return (batches[0].bit_length() + 1) // 2 if batches else 0

    def _prepare(self, shapes: Shapes) -> Prepared:
        job = Job(at_sizes(self.net, shapes), self.outputs, self._without)
        names, refused = [self._asked], dict[str, str]()
        if self._asked == AUTO:
            names, refused = rank(job)
        others = self._prepared.get(self._any_batch(shapes), {})
        at_hand = {ready.engine.name: ready for ready in others.values()}
        for name in names:
            try:
                ready = at_hand.get(name) or Prepared(*self._proven(name, job, shapes), refused)
                break
            except RmpeError as error:
                if self._asked != AUTO:
                    raise
                refused[name] = str(error)
        key = self._any_batch(shapes) if ready.engine.any_batch else _key(shapes)
        self._prepared.setdefault(key, {})[self._batch_class(shapes)] = ready
        while len(self._prepared) > MAX_SIZES:
            self._prepared.popitem(last=False)
        return ready

    def _proven(self, name: str, job: Job, shapes: Shapes) -> tuple[Engine, Proof | None]:
        engine = ENGINES[name](job)
        if not self._verify or name == EXACT:
            return engine, None
        try:
            return engine, prove(self.net, engine, shapes)
        except NetError:
            if name != "torch" or job.without >= COARSE:
                raise
        return self._proven(name, replace(job, without=job.without | COARSE), shapes)

    def __repr__(self) -> str:
        engine = self._asked if self._latest is None else self.engine
        return printable(f"CompiledNet {self.name or 'unnamed'} in {engine}: {shapes_text(self.inputs)} -> "
                         f"{', '.join(self.outputs)}")


def _key(shapes: Shapes) -> tuple:
    return tuple(sorted((name, tuple(shape)) for name, shape in shapes.items()))


def _without_batch(shapes: Shapes) -> tuple:
    return tuple(sorted((name, ("N", *shape[1:])) for name, shape in shapes.items()))


