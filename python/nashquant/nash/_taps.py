"""Which elements a resized one is made of, and with which weights: Resize as ONNX defines it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ._forms import NotIntegerError
from ._to_torch import attribute
from ._windows import integers

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["BITS", "Resizing"]

BITS = 15
"""Of a weight behind the point; the weights of one element add up to exactly 1."""

_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")


@dataclass(frozen=True, eq=False)
class Resizing:
    """What a Resize says. `computed` sizes or scales are known when it runs; of no `axes`, all."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    exclude_outside: bool
    axes: tuple[int, ...]
    scales: tuple[float, ...] | None
    sizes: tuple[int, ...] | None
    computed: ir.Value | None

    @classmethod
    def of(cls, plan: Plan, node: ir.Node) -> Resizing:
        """Reads it from `node`.

        Raises:
            NotIntegerError: its size is computed from more than shapes and inputs, or its form is not known here.
        """
        old = len(node.inputs) == 2
        at = 1 if old else 2
        given = [plan.constant(node.inputs[i]) if len(node.inputs) > i else None for i in (at, 3)]
        scales, sizes = (None if each is None or not each.numel() else each for each in given)
        computed = None
        if scales is None and sizes is None:
            operands = (node.inputs[i] if len(node.inputs) > i else None for i in (3, at))
            computed = next((each for each in operands if each is not None and not _is_empty(plan, each)), None)
        if scales is None and sizes is None and (computed is None or not plan.is_outside(computed)):
            raise NotIntegerError("its size is computed")
        coordinates = str(attribute(node, "coordinate_transformation_mode", "asymmetric" if old else "half_pixel"))
        if coordinates not in _COORDINATES:
            raise NotIntegerError(f"its coordinates are {coordinates}")
        if attribute(node, "antialias", 0) or str(attribute(node, "keep_aspect_ratio_policy", "stretch")) != "stretch":
            raise NotIntegerError("it smooths, or keeps the aspect ratio")
        return cls(
            str(attribute(node, "mode", "nearest")),
            coordinates,
            str(attribute(node, "nearest_mode", "floor" if old else "round_prefer_floor")),
            float(str(attribute(node, "cubic_coeff_a", -0.75))),
            bool(attribute(node, "exclude_outside", 0)),
            integers(node, "axes", ()),
            None if scales is None else tuple(float(s) for s in scales),
            None if sizes is None else tuple(int(s) for s in sizes),
            computed,
        )

    def along(self, shape: Sequence[int], computed: Tensor | None) -> list[tuple[int, Tensor, Tensor]]:
        """For each axis that changes: the axis, and of each element the indices and weights `[size, taps]`, int64."""
        found = []
        sizes, scales = self.sizes, self.scales
        if computed is not None and computed.is_floating_point():
            scales = tuple(computed.tolist())
        elif computed is not None:
            sizes = tuple(computed.tolist())
        for i, axis in enumerate(self.axes or range(len(shape))):
            size = shape[axis]
            if sizes is not None:
                length, scale = sizes[i], sizes[i] / size
            else:
                assert scales is not None
                scale = scales[i]
                length = int(torch.tensor(scale) * size)  # in f32, as ONNX Runtime: 3 · 1.6666666 is 5
            if length != size or scale != 1.0:
                found.append((axis % len(shape), *self._taps(size, length, scale)))
        return found

    def _taps(self, size: int, length: int, scale: float) -> tuple[Tensor, Tensor]:
        x = self._positions(size, length, scale)
        if self.mode == "nearest":
            return _nearest(x, self.rounding).clamp(0, size - 1)[:, None], torch.full((length, 1), 1 << BITS)
        low = torch.floor(x)
        t = x - low
        if self.mode == "linear":
            offsets, weights = torch.tensor([0, 1]), torch.stack((1 - t, t), 1)
        else:
            offsets, weights = torch.tensor([-1, 0, 1, 2]), _cubic(t, self.cubic)
        taps = low.long()[:, None] + offsets
        if self.exclude_outside:
            weights = torch.where((taps < 0) | (taps >= size), 0.0, weights)
            weights = weights / weights.sum(1, keepdim=True)
        whole = torch.round(weights * 2**BITS).long()
        largest = whole.abs().argmax(1, keepdim=True)
        missing = (1 << BITS) - whole.sum(1, keepdim=True)
        return taps.clamp(0, size - 1), whole.scatter_add(1, largest, missing)

    def _positions(self, size: int, length: int, scale: float) -> Tensor:
        i = torch.arange(length, dtype=torch.float64)
        if self.coordinates == "asymmetric":
            return i / scale
        if self.coordinates == "align_corners":
            return i * (size - 1) / (length - 1) if length > 1 else i * 0
        if self.coordinates == "pytorch_half_pixel" and length <= 1:
            return i * 0
        if self.coordinates == "half_pixel_symmetric":
            adjustment = length / (scale * size)
            return size / 2 * (1 - adjustment) + (i + 0.5) / scale - 0.5
        return (i + 0.5) / scale - 0.5


def _is_empty(plan: Plan, value: ir.Value) -> bool:
    constant = plan.constant(value)
    return constant is not None and not constant.numel()


def _nearest(x: Tensor, rounding: str) -> Tensor:
    if rounding == "floor":
        return torch.floor(x).long()
    if rounding == "ceil":
        return torch.ceil(x).long()
    return (torch.ceil(x - 0.5) if rounding == "round_prefer_floor" else torch.floor(x + 0.5)).long()


def _cubic(t: Tensor, a: float) -> Tensor:
    def near(d: Tensor) -> Tensor:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:
        return a * (((d - 5) * d + 8) * d - 4)

    return torch.stack((far(1 + t), near(t), near(1 - t), far(2 - t)), 1)
