"""How far ONNX Runtime is from the prepared model, told in quantization steps, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from tabulate import tabulate
from torch import Tensor

from ._grid import Grid

_SUM_BITS = 20  # of the 24 of an f32, that a sum of many has right


@dataclass(frozen=True)
class Place:
    """One place where both were compared: a layer (by its quantizer), or an output of the model.

    Attributes:
        name: the quantizer's, or the output's.
        dtype: "int8", "int16", ...; "accumulator" for a layer without a quantizer, whose sums are an output; "high
            precision" for an output that comes from no quantizer, "exact" for one that holds integers or bools.
        elements: how many numbers were compared.
        unequal: how many of them are not on the same step.
        by_division: of these, those that are explained by QuantizeLinear alone: it divides by the scale where the
            model multiplies by its reciprocal. The others enter it with sums that were added in another order.
        steps: the largest difference.
        allowed: how many steps of difference deserve no warning.
    """

    name: str
    dtype: str
    elements: int
    unequal: int
    by_division: int
    steps: float
    allowed: float

    def __add__(self, other: Place) -> Place:
        """Both together: two calls of one quantizer, two batches."""
        return replace(
            self,
            elements=self.elements + other.elements,
            unequal=self.unequal + other.unequal,
            by_division=self.by_division + other.by_division,
            steps=max(self.steps, other.steps),
        )

    @property
    def equal(self) -> float:
        """The share of the elements that are on the same step."""
        return 1 - self.unequal / self.elements if self.elements else 1.0


@dataclass(frozen=True)
class Agreement:
    """How far ONNX Runtime was from the prepared model on some inputs. `print` shows it as a table.

    Each layer is given what the prepared model has in front of it, so that what differs is its own doing; the outputs
    are those of the whole file, run from its inputs.

    Some difference is normal. QuantizeLinear divides by the scale where the model multiplies by its reciprocal, and
    convolutions add in another order; either can carry a value that lies between two steps to the other one, and the
    layers behind carry that on. The steps of int16 are fine, and f32 sums of its products are not exact: there it
    happens more. Compare integers with integers to know what the chip will compute.

    Attributes:
        layers: one for each quantizer of an activation, in the order they run; then those without one, whose sums are
            an output, in steps of the sums, `scale_x · scale_w`, or of a 2^20th of the largest where that is more.
        outputs: one for each output. One in high precision is measured in int8 steps of its own range,
            `max|y| / 127.5`.
    """

    layers: tuple[Place, ...]
    outputs: tuple[Place, ...]

    def __add__(self, other: Agreement) -> Agreement:
        """On the inputs of both."""
        return Agreement(merged((*self.layers, *other.layers)), merged((*self.outputs, *other.outputs)))

    @cached_property
    def steps(self) -> Mapping[str, float]:
        """The largest difference at each place, by name."""
        return {place.name: place.steps for place in self.places}

    @property
    def places(self) -> tuple[Place, ...]:
        """Layers, then outputs."""
        return (*self.layers, *self.outputs)

    @property
    def worst(self) -> tuple[str, float]:
        """The name of what differs most, and by how many steps."""
        return max(self.steps.items(), key=lambda item: item[1])

    @property
    def beyond(self) -> tuple[str, ...]:
        """Those that differ by more than about 1 % of their range, in the order they run."""
        return tuple(place.name for place in self.places if not place.steps <= place.allowed)

    def __str__(self) -> str:
        rows = [
            (place.name, place.dtype, place.elements, f"{place.equal:.4%}", f"{place.steps:.3g}", _why(place, layer))
            for places, layer in ((self.layers, True), (self.outputs, False))
            for place in places
        ]
        head = ("place", "dtype", "elements", "equal", "steps apart", "why")
        return tabulate(rows, head, disable_numparse=True, colalign=("left", "left", *["right"] * 3, "left"))


def _why(place: Place, layer: bool) -> str:
    if not place.unequal:
        return ""
    if not layer:
        return "carried on from the layers"
    counts = {"divided, not multiplied": place.by_division, "sums in another order": place.unequal - place.by_division}
    if place.dtype == "accumulator":
        counts = {"sums in another order": place.unequal}
    return ", ".join(f"{count} {words}" for words, count in counts.items() if count)


@dataclass(frozen=True, eq=False)
class Point:
    """What the prepared model has at a place, and what counts as a step there.

    Attributes:
        y: what it computed.
        grid: the grid `y` is on, or the steps of its sums; None for an output that is on none.
    """

    name: str
    y: Tensor
    grid: Grid | Tensor | None

    def compare(self, given: Tensor, entering: Tensor | None = None) -> Place:
        """How far `given` is from the model, where `entering` is what was quantized to it."""
        step, dtype, allowed = self._step()
        difference = (given.double() - self.y.detach().cpu().double()).abs() / step.cpu().double()
        unequal = ~(difference <= 0.5)  # so that NaN counts
        by_division = torch.zeros((), dtype=torch.bool)
        if entering is not None and isinstance(self.grid, Grid):
            again = self.grid.fake_quantize(entering)
            by_division = unequal & (again == self.y.detach().cpu().to(again.dtype))
        return Place(
            name=self.name,
            dtype=dtype,
            elements=difference.numel(),
            unequal=int(unequal.sum()),
            by_division=int(by_division.sum()),
            steps=float(difference.max()) if difference.numel() else 0.0,
            allowed=allowed,
        )

    def _step(self) -> tuple[Tensor, str, float]:
        if isinstance(self.grid, Tensor):
            largest = self.y.detach().abs().max().double() if self.y.numel() else torch.zeros(())
            return self.grid.clamp(min=float(largest) * 2.0**-_SUM_BITS), "accumulator", 2.0
        if self.grid is not None:
            step = self.grid.along(self.grid.scale, self.y.dim())
            return step, self.grid.dtype, max(2.0, (self.grid.qmax - self.grid.qmin + 1) / 128)
        if self.y.is_floating_point() and self.y.numel():
            step = (self.y.detach().abs().max().float() / 127.5).clamp(min=2.0**-126)
            return step, "high precision", 2.0
        return torch.tensor(1.0), "exact", 0.0


def merged(places: Iterable[Place]) -> tuple[Place, ...]:
    """One place for each name."""
    by_name: dict[str, Place] = {}
    for place in places:
        by_name[place.name] = by_name[place.name] + place if place.name in by_name else place
    return tuple(by_name.values())
