"""Factors as the chip has them, one for each element: `multiplier * 2**-shift`, and a product that is rounded once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nashquant import ops
from nashquant.arithmetic import NASH, Arithmetic, Rounding

from ._forms import along

__all__ = ["Factors", "on_common_shift"]


@dataclass(frozen=True, eq=False)
class Factors:
    """Fixed-point numbers of 31 bits (or 15) and a sign, each with a shift of its own.

    >>> Factors.of(torch.tensor([0.5, -3.0], dtype=torch.float64)).times(torch.tensor([3, 2]))
    tensor([ 2, -6])

    Attributes:
        multiplier: int64; 0, or 2**30 to 2**31 in magnitude (of 15 bits: 2**14 to 2**15).
        shift: int64, 0 to 62.
        rounding: of the products.
    """

    multiplier: Tensor
    shift: Tensor
    rounding: Rounding

    @classmethod
    def of(cls, values: Tensor, arithmetic: Arithmetic = NASH) -> Factors:
        """The nearest to `values` (f64), which are below 2**31 in magnitude; below 2**-32 they are 0."""
        mantissa, exponent = torch.frexp(values)
        steps = torch.ldexp(mantissa.abs(), torch.tensor(31))
        as_tflite = arithmetic.rounding is Rounding.TFLITE or arithmetic.multiplier_bits == 15
        multiplier = (torch.floor(steps + 0.5) if as_tflite else torch.round(steps)).long()
        longer = multiplier == 1 << 31  # rounding made it a bit longer
        multiplier = torch.where(longer, multiplier >> 1, multiplier)
        shift = 31 - exponent.long() - longer.long()
        multiplier = torch.where(shift > 62, 0, multiplier)
        if arithmetic.multiplier_bits == 15:
            multiplier, shift = ((multiplier + (1 << 15)) >> 16).clamp(max=(1 << 15) - 1), shift - 16
            multiplier = multiplier << (-shift).clamp(min=0)
        multiplier = torch.where(values < 0, -multiplier, multiplier)
        return cls(multiplier, shift.clamp(0, 62), arithmetic.rounding)

    def at(self, index: Tensor) -> Factors:
        """The factor of each `index`."""
        return Factors(self.multiplier[index], self.shift[index], self.rounding)

    def along(self, axis: int, x: Tensor) -> Factors:
        """One factor, or one for each index of `axis`, in a shape that meets `x`."""
        return Factors(along(self.multiplier, axis, x), along(self.shift, axis, x), self.rounding)

    def times(self, x: Tensor) -> Tensor:
        """`round(x * factor)` in int64, exactly, while the product stays below 2**62."""
        if self.rounding is Rounding.HALF_EVEN and x.element_size() <= 2:
            return (x.double() * self.numbers).round_().long()  # 16 bits and 31 are exact in f64
        product = x.long() * self.multiplier
        if self.rounding is not Rounding.TFLITE:
            return ops.shifted(product, self.shift, self.rounding)
        first = ops.shifted(product, self.shift.clamp(max=31), Rounding.HALF_UP)
        return ops.shifted(first, (self.shift - 31).clamp(min=0), Rounding.HALF_AWAY)

    @property
    def numbers(self) -> Tensor:
        """The factors in f64."""
        return self.multiplier.double() * 2.0 ** -self.shift.double()


def on_common_shift(*values: float) -> tuple[list[int], int]:
    """A multiplier for each, and the shift of the largest, at most 45: a sum of 17-bit products stays below 2**63."""
    shift = min(max(31 - math.frexp(max(values))[1], 0), 45)
    return [round(math.ldexp(value, shift)) for value in values], shift
