"""Connects a network's layers, and finds shapes for the tops of data layers whose source does not tell them.

Source: Net::Init, AppendTop, AppendBottom (net.cpp) of RMPE@5188c23.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterator, Sequence

from rmpe_legacy.errors import LayerError
from rmpe_legacy.wording import shorten, shorten_list

from .layers import registry
from .layers.base import Layer, Shape, shape_text
from .layers.by_use import OTHER_SIZES, other_shapes, sample_by_use
from .spec import LayerSpec
from .step import Step, code_of, reshape_step

# Of layers that look at all others to find their tops' shapes, such as data layers without their source. Each takes as
# long as there are layers, so many of them would take minutes for a small file. No network has ten.
MAX_FORESEEING = 100


def wire_quietly(specs: Sequence[LayerSpec], resize: bool = True) -> list[Step]:
    """``wire`` without the warnings, which were issued when the network was loaded."""
    return _quietly(lambda: wire(specs, resize))


def wire(specs: Sequence[LayerSpec], resize: bool = True) -> list[Step]:
    """Create the layers in order; each checks its parameters and computes its top shapes. Allocates no memory yet.

    Where a layer does not take what a data layer assumes of its tops, other shapes are tried, with a warning.

    Args:
        specs: The layers.
        resize: Whether to try other sizes of images too.

    Raises:
        LayerError: A layer's parameters or bottoms are wrong, or two layers make the same top. Its `assumed` says
            whether that may be so because shapes are assumed.
    """
    first: LayerError | None = None
    for size in (None, *OTHER_SIZES) if resize else (None,):
        wiring = _Wiring(specs, size)
        try:
            steps = wiring.fitted() if first is None else _quietly(wiring.fitted)
        except LayerError as error:
            first = first or error
            if not wiring.may_resize:
                break
        else:
            wiring.warn_of_fit()
            return steps
    assert first is not None
    raise first


def _quietly(run: Callable[[], list[Step]]) -> list[Step]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run()


class _Wiring:
    """Connects layers, with shapes of assumed tops that suit the layers which read them.

    Args:
        specs: The layers.
        size: (h, w) of images whose size nothing tells; None leaves it to their layers.
    """

    def __init__(self, specs: Sequence[LayerSpec], size: tuple[int, int] | None):
        self.specs, self.size = specs, size
        self.fits: dict[str, Shape] = {}  # assumed top -> the shape that suits its readers
        self.widened: set[str] = set()  # assumed tops whose places were found by their parts' readers
        self.may_resize = False  # whether it failed on shapes that come from an image of assumed size

    def fitted(self) -> list[Step]:
        """Return the layers, after as many attempts as there are tops to fit.

        Raises:
            LayerError: That of the last attempt, unless its shapes do not even suit an earlier layer.
        """
        best, reached = LayerError(), -1
        while True:
            try:
                return self._attempt()
            except LayerError as error:
                if len(self._steps) > reached:
                    best, reached = error, len(self._steps)
                    error.assumed = self._is_assumed
                    self.may_resize = self._guesses and self._failed_to_reshape
                if error is not best or error.spec is None or not self._fit(error.spec):
                    raise best from best.__cause__

    def _attempt(self) -> list[Step]:
        self._shapes: dict[str, Shape] = {}
        self._steps: list[Step] = []
        self._assumed: dict[str, str] = {}  # blob -> the assumed top that it is, or is a copy of
        self._part_of: dict[str, str] = {}  # what a Slice cuts from an assumed top's channels -> that top
        self._on_assumed: set[str] = set()  # blobs whose shapes depend on assumed ones
        self._guesses = self._failed_to_reshape = False
        foreseeing = 0
        for spec in self.specs:
            self._is_assumed = self._failed_to_reshape = False
            with code_of(spec, "__init__"):
                layer = registry.create(spec)
            foreseeing += type(layer).foresee is not Layer.foresee
            if foreseeing > MAX_FORESEEING:
                raise spec.error(f"comes after {MAX_FORESEEING} other layers whose shapes depend on the whole network, "
                                 "such as data layers; remove some")
            self._is_assumed = not self._on_assumed.isdisjoint(spec.bottom)
            step = Step(layer, spec.bottom, _tops(spec, layer, self._shapes))
            self._prepare(step, tuple(self._shapes[name] for name in spec.bottom))
            if layer.assumes:
                self._assume(step)
            if spec.type == "Split" and spec.bottom[0] in self._assumed:
                self._assumed |= dict.fromkeys(step.top, self._assumed[spec.bottom[0]])
            self._note_parts(step)
            if self._is_assumed or layer.assumes:
                self._on_assumed.update(step.top)
            for i, (top, shape) in enumerate(zip(step.top, step.top_shapes, strict=True)):
                if top in self._shapes and not (i < len(spec.bottom) and spec.bottom[i] == top):
                    raise spec.error(f"its top '{shorten(top)}' is made by an earlier layer already; rename it, or "
                                     "work in place: bottom and top of one name, in the same position")
                self._shapes[top] = shape
            self._steps.append(step)
        return self._steps

    def _prepare(self, step: Step, bottom: tuple[Shape, ...]) -> None:
        layer, spec = step.layer, step.layer.spec
        with code_of(spec, "setup"):
            layer.foresee(self.specs)
            self._is_assumed |= layer.assumes
            layer.connect(self._steps)
            layer.setup(*bottom)
        names = [declared.name for declared in layer.declared]
        if len(set(names)) < len(names):
            raise spec.error(f"declares two parameters of one name; its parameters are {shorten_list(names)}")
        for what, given in (("param", len(spec.params)), ("blobs", len(spec.message.blobs))):
            if given > len(layer.declared):
                raise spec.error(f"has {given} {what} entries for {len(layer.declared)} parameters; remove some")
        self._failed_to_reshape = True
        reshape_step(step, bottom)

    def _note_parts(self, step: Step) -> None:
        """Remember what is cut from an assumed top, and copies of it."""
        kind, bottom = step.layer.spec.type, step.bottom[:1]
        if kind == "Slice" and bottom[0] in self._assumed:
            whole, part = self._shapes[bottom[0]], step.top_shapes[0]
            if len(whole) > 1 and whole[:1] + whole[2:] == part[:1] + part[2:]:
                self._part_of |= dict.fromkeys(step.top, self._assumed[bottom[0]])
        elif kind == "Split" and bottom[0] in self._part_of:
            self._part_of |= dict.fromkeys(step.top, self._part_of[bottom[0]])

    def _assume(self, step: Step) -> None:
        """Give an assumed layer's tops the shapes that were found to suit."""
        given = step.top_shapes
        if step.layer.guesses and self.size is not None:
            before = given[0][2:]
            given = tuple((*shape[:2], *self.size) if len(shape) == 4 and shape[2:] == before else shape
                          for shape in given)
        step.top_shapes = tuple(self.fits.get(top, shape) for top, shape in zip(step.top, given, strict=True))
        self._guesses |= step.layer.guesses
        self._assumed |= {top: top for top in step.top}

    def _fit(self, spec: LayerSpec) -> bool:
        """Find a shape of an assumed top with which a layer takes its bottoms. False if there is none."""
        if not all(name in self._shapes for name in spec.bottom):
            return False
        bottoms = tuple(self._shapes[name] for name in spec.bottom)
        own = [self._assumed.get(name) for name in spec.bottom]
        read = {self._assumed.get(name) for step in self._steps if step.layer.spec.type != "Split"
                for name in step.bottom}
        for i, top in sorted(enumerate(own), key=lambda each: each[1] in read):  # no earlier layer takes others yet
            if top is None or top in self.fits:
                continue
            for shape in (*self._by_use(top, bottoms[i]), *other_shapes(spec, bottoms, i), *self._maps_beside(top)):
                trial = tuple(shape if other == top else b for b, other in zip(bottoms, own, strict=True))
                if self._takes(spec, trial):
                    self.fits |= {**dict.fromkeys(self._alike(top), shape), **self.fits, top: shape}
                    return True
        return self._fit_together(spec, bottoms, own) or self._fit_whole(spec, bottoms)

    def _fit_together(self, spec: LayerSpec, bottoms: tuple[Shape, ...], own: list[str | None]) -> bool:
        """Give all assumed bottoms of a layer the shape of another: targets with weights, say."""
        free = {top for top in own if top is not None and top not in self.fits}
        if len(free) < 2:
            return False
        for shape in dict.fromkeys(b for b, top in zip(bottoms, own, strict=True) if top not in free):
            if self._takes(spec, tuple(shape if top in free else b for b, top in zip(bottoms, own, strict=True))):
                self.fits |= dict.fromkeys(free, shape)
                return True
        return False

    def _fit_whole(self, spec: LayerSpec, bottoms: tuple[Shape, ...]) -> bool:
        """Give an assumed top of which a layer reads a part the places of another bottom, or none, if these suit."""
        for i, name in enumerate(spec.bottom):
            top = self._part_of.get(name)
            if top is None or top in self.widened:
                continue
            for places in dict.fromkeys((*(b[2:] for j, b in enumerate(bottoms) if j != i), ())):
                if self._takes(spec, (*bottoms[:i], (*bottoms[i][:2], *places), *bottoms[i + 1 :])):
                    self.fits[top] = (*self._shapes[top][:2], *places)
                    self.widened.add(top)
                    return True
        return False

    def _alike(self, top: str) -> set[str]:
        """The assumed tops that earlier layers join with this one value by value, and so must have its shape."""
        joined: dict[str, list[set[str]]] = {}  # blob -> the blobs of each layer that joins it with others
        for step in self._steps:
            if step.layer.spec.type in ("Eltwise", "Split"):
                names = {*step.bottom, *step.top}
                for name in names:
                    joined.setdefault(name, []).append(names)
        alike, new = {top}, [top]
        while new:
            for names in joined.pop(new.pop(), ()):
                new += names - alike
                alike |= names
        return alike & {*self._assumed.values()}

    def _by_use(self, top: str, own: Shape) -> Iterator[Shape]:
        """As many values in each row as all layers that read the top, together, need."""
        sample = sample_by_use(top, self.specs)
        if own and sample:
            yield (own[0], *sample)

    def _maps_beside(self, top: str) -> Iterator[Shape]:
        """A value for each place of the images that a data layer's other tops are."""
        for other in self._assumed:
            shape = self._shapes.get(other, ())
            if other != top and len(shape) == 4:
                yield (shape[0], 1, *shape[2:])

    def _takes(self, spec: LayerSpec, bottoms: tuple[Shape, ...]) -> bool:
        """Whether a layer accepts bottoms of these shapes."""
        try:
            layer = registry.create(spec)
            self._prepare(Step(layer, spec.bottom, _tops(spec, layer)), bottoms)
        except LayerError:
            return False
        return True

    def warn_of_fit(self) -> None:
        """Say which shapes were assumed, where they are not the data layer's own."""
        for step in self._steps:
            if (step.layer.guesses and self.size is not None) or not self.fits.keys().isdisjoint(step.top):
                told = ", ".join(f"{top} {shape_text(s)}" for top, s in zip(step.top, step.top_shapes, strict=True))
                warnings.warn(str(step.layer.spec.error(f"its tops are assumed to be {told}, which the layers that "
                                                        "read them take")), stacklevel=3)


def _tops(spec: LayerSpec, layer: Layer, taken: Container[str] = ()) -> tuple[str, ...]:
    """Return the names of the tops; a loss may omit them, and those it gets are of no other layer."""
    names = list(spec.top)
    for i in range(len(spec.top), layer.top_count):
        name = f"(automatic) {spec.name} {i}"
        while name in taken:
            name += "'"
        names.append(name)
    return tuple(names)
