"""How far ONNX Runtime is from the prepared model, told in quantization steps, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from ._grid import Grid
from ._reasons import Reasons

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
        steps: the largest difference.
        allowed: how many steps of difference deserve no warning.
        reasons: of the unequal; None where none were asked for.
    """

    name: str
    dtype: str
    elements: int
    unequal: int
    steps: float
    allowed: float
    reasons: Reasons | None = None

    def __add__(self, other: Place) -> Place:
        """Both together: two calls of one quantizer, two batches."""
        return replace(
            self,
            elements=self.elements + other.elements,
            unequal=self.unequal + other.unequal,
            steps=max(self.steps, other.steps),
            reasons=None if self.reasons is None or other.reasons is None else self.reasons + other.reasons,
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

    Each unequal element has its reason (`Place.reasons`): what stands in front of the quantizer is computed once more,
    in f64 and with a bound on what f32 may make of it, and what neither explains is counted as unexplained.

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

    @property
    def unexplained(self) -> int:
        """How many unequal elements have no reason."""
        return sum(place.unequal if place.reasons is None else place.reasons.unexplained for place in self.places)

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """For programs: `layers` and `outputs`, each place with its numbers and, under `reasons`, theirs."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            (place.name, place.dtype, place.elements, f"{place.equal:.4%}", f"{place.steps:.3g}", *_why(place.reasons))
            for place in self.places
        ]
        head = ("place", "dtype", "elements", "equal", "steps apart", "off a tie", "why")
        return tabulate(rows, head, disable_numparse=True, colalign=("left", "left", *["right"] * 4, "left"))


def _why(reasons: Reasons | None) -> tuple[str, str]:
    if reasons is None:
        return "", ""
    return f"{reasons.from_tie:.0e}" if reasons.divided or reasons.added else "", str(reasons)


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

    def compare(self, given: Tensor, reason: Callable[[Tensor], Reasons] | None = None) -> Place:
        """How far `given` is from the model; `reason` is asked about the elements that are unequal, if any are."""
        step, dtype, allowed = self._step()
        difference = (given.double() - self.y.detach().cpu().double()).abs() / step.cpu().double()
        unequal = ~(difference <= 0.5)  # so that NaN counts
        reasons = None
        if reason is not None:
            reasons = reason(unequal) if unequal.any() else Reasons()
        return Place(
            name=self.name,
            dtype=dtype,
            elements=difference.numel(),
            unequal=int(unequal.sum()),
            steps=float(difference.max()) if difference.numel() else 0.0,
            allowed=allowed,
            reasons=reasons,
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
