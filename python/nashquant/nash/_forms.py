"""What is known of a value before anything runs: integers on a grid, an accumulator, or a plain tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = [
    "Accumulator",
    "Form",
    "Grid",
    "NotIntegerError",
    "Plain",
    "Root",
    "ScaleError",
    "Target",
    "Weight",
    "along",
    "grid_of",
]


class NotIntegerError(Exception):
    """Why an op has no integer form where it stands; it then runs as float, and the report says why."""


class ScaleError(ValueError):
    """Why no chip computes with the scales of a file; the plan adds the layer."""


@dataclass(frozen=True)
class Grid:
    """Integers per tensor: `real = (q - zero_point) * scale`.

    The file's unsigned integers are kept as signed ones, `offset` less: 200 of uint8 is 72 here.
    """

    scale: float
    zero_point: int
    dtype: torch.dtype
    low: int
    high: int
    offset: int = 0

    def on_grid(self, real: float) -> int:
        """The integer of a real number: `saturate(round_half_even(real / scale) + zero_point)`; NaN gives the least."""
        if math.isnan(real):
            return self.low
        if math.isinf(real):
            return self.high if real > 0 else self.low
        return max(self.low, min(round(real / self.scale) + self.zero_point, self.high))

    def same_as(self, other: Grid) -> bool:
        """Whether an integer means the same on both."""
        return replace(self, offset=0, low=other.low, high=other.high) == replace(other, offset=0)

    @property
    def largest(self) -> int:
        """The largest magnitude of `q - zero_point`."""
        return max(self.high - self.zero_point, self.zero_point - self.low)

    def centered(self, q: Tensor) -> Tensor:
        """`q - zero_point`, in the least type that holds it."""
        if self.zero_point == 0:
            return q
        wide = torch.int16 if q.dtype == torch.int8 else torch.int32
        return q.to(wide) - self.zero_point

    def __str__(self) -> str:
        unsigned = "u" if self.offset else ""
        return f"{unsigned}int{(self.high - self.low).bit_length()}"


@dataclass(frozen=True, eq=False)
class Weight:
    """Constant integers, zero points taken off: `real = integers * scale`, per tensor or along `axis`."""

    integers: Tensor
    scale: Tensor
    axis: int | None

    def real(self) -> Tensor:
        """What they stand for, f64."""
        shape = [1] * self.integers.dim()
        if self.axis is not None:
            shape[self.axis] = -1
        return self.integers.double() * self.scale.reshape(shape)


@dataclass(frozen=True, eq=False)
class Accumulator:
    """Wide exact integers: `real = acc * scale`, where `scale` (f64) is 0-d, or one for each index of `axis`.

    No `acc` is greater than `bound` in magnitude, if that is known. An `inner` one lies between two ops that land
    together: it is not the chip's accumulator of 32 bits.
    """

    scale: Tensor
    axis: int = 1
    bound: float = math.inf
    inner: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The least that surely holds them."""
        return torch.int32 if self.bound < 2**31 else torch.int64

    def along(self, x: Tensor) -> Tensor:
        """The scale in a shape that meets `x`."""
        return along(self.scale, self.axis, x)


def along(values: Tensor, axis: int, x: Tensor) -> Tensor:
    """`values`, 0-d or one for each index of `axis`, in a shape that meets `x`."""
    return values.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())]) if values.dim() else values


@dataclass(frozen=True)
class Plain:
    """A tensor as it is: floats, or indices, bools and shapes."""


@dataclass(frozen=True, eq=False)
class Root:
    """Numbers from 0 on, f64, each the root of exact integers: a factor of 31 bits where it is used.

    None is less than the norm of `norm_of` in its place, if that is given.
    """

    norm_of: ir.Value | None = None


Form = Grid | Weight | Accumulator | Root | Plain


@dataclass(frozen=True)
class Target:
    """Where a result is to land: a grid, and the part of it that a ReLU or clip in between leaves."""

    grid: Grid
    low: int
    high: int

    @classmethod
    def whole(cls, grid: Grid) -> Target:
        """All of `grid`."""
        return cls(grid, grid.low, grid.high)

    def clamp(self, q: Tensor) -> Tensor:
        """`q` between the ends, in the dtype of the grid."""
        return q.clamp(self.low, self.high).to(self.grid.dtype)


_STORED = {  # type of the file: kept as, least, greatest, offset
    "INT4": (torch.int8, -8, 7, 0),
    "UINT4": (torch.int8, 0, 15, 0),
    "INT8": (torch.int8, -128, 127, 0),
    "UINT8": (torch.int8, -128, 127, 128),
    "INT16": (torch.int16, -32768, 32767, 0),
    "UINT16": (torch.int16, -32768, 32767, 32768),
}


def grid_of(scale: Tensor, zero_point: Tensor | None, stored: ir.DataType) -> Grid:
    """The grid of a QuantizeLinear or DequantizeLinear.

    Raises:
        NotIntegerError: it is per axis or block, or its integers are of another type.
        ScaleError: it is not positive and finite.
    """
    if scale.numel() != 1:
        raise NotIntegerError("an activation quantized per axis")
    if stored.name not in _STORED:
        raise NotIntegerError(f"integers of type {stored.name.lower()}")
    dtype, low, high, offset = _STORED[stored.name]
    zero = 0 if zero_point is None else int(zero_point)
    if not 0 < float(scale) < math.inf:
        raise ScaleError(f"its scale is {float(scale):g}, but must be positive and finite")
    return Grid(float(scale), zero - offset, dtype, low, high, offset)
