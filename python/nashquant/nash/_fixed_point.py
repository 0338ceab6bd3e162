"""Factors as the chip has them, one for each element: `multiplier * 2**-shift`, and a product that is rounded once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Factors", "on_common_shift", "shifted"]


@dataclass(frozen=True, eq=False)
class Factors:
    """Fixed-point numbers of 31 bits and a sign, each with a shift of its own.

    >>> Factors.of(torch.tensor([0.5, -3.0], dtype=torch.float64)).times(torch.tensor([3, 2]))
    tensor([ 2, -6])

    Attributes:
        multiplier: int64; 0, or 2**30 to 2**31 in magnitude.
        shift: int64, 0 to 62.
    """

    multiplier: Tensor
    shift: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Factors:
        """The nearest to `values` (f64), which are below 2**31 in magnitude; below 2**-32 they are 0."""
        mantissa, exponent = torch.frexp(values)
        multiplier = torch.round(torch.ldexp(mantissa, torch.tensor(31))).long()
        longer = multiplier.abs() == 1 << 31  # rounding made it a bit longer
        multiplier = torch.where(longer, multiplier >> 1, multiplier)
        shift = 31 - exponent.long() - longer.long()
        return cls(torch.where(shift > 62, 0, multiplier), shift.clamp(0, 62))

    def times(self, x: Tensor) -> Tensor:
        """`round_half_even(x * factor)` in int64, exactly, while the product stays below 2**62."""
        return shifted(x.long() * self.multiplier, self.shift)

    @property
    def numbers(self) -> Tensor:
        """The factors in f64. It also holds their products with 22 bits exactly, and rounds them half to even."""
        return self.multiplier.double() * 2.0 ** -self.shift.double()


def on_common_shift(*values: float) -> tuple[list[int], int]:
    """A multiplier for each, and the shift of the largest, at most 45: a sum of 17-bit products stays below 2**63."""
    shift = min(max(31 - math.frexp(max(values))[1], 0), 45)
    return [round(math.ldexp(value, shift)) for value in values], shift


def shifted(value: Tensor, shift: Tensor | int) -> Tensor:
    """`round_half_even(value * 2**-shift)` of int64."""
    shift = torch.as_tensor(shift, dtype=torch.int64)
    whole = value >> shift
    twice = (value - (whole << shift)) << 1  # what is left, in halves
    one = torch.ones_like(shift) << shift
    return whole + ((twice > one) | ((twice == one) & (whole & 1 == 1))).long()
