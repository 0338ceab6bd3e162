"""Factors as fixed-point numbers, and products with them: what the integer reference is made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nashquant.arithmetic import Arithmetic, Rounding

from . import _check

_LARGEST_SHIFT = 94  # of a product with an int64, a larger one leaves nothing but 0
_LARGEST_COMMON_SHIFT = 62  # the same of a product with an int16, and room for the sum


def fixed_point(factor: float, arithmetic: Arithmetic) -> tuple[int, int]:
    """`multiplier` and `shift`: the nearest `multiplier * 2**-shift` with 31 bits. 0 is multiplier 0.

    TFLite: halves away from zero, 0 below 2**-32, and for 15 bits the upper half of the multiplier.
    """
    _check.factor(factor)
    mantissa, exponent = math.frexp(factor)
    as_tflite = arithmetic.rounding is Rounding.TFLITE or arithmetic.multiplier_bits == 15
    steps = math.ldexp(mantissa, 31)
    multiplier, shift = math.floor(steps + 0.5) if as_tflite else round(steps), 31 - exponent
    if multiplier == 2**31:  # rounding made it a bit longer
        multiplier, shift = 2**30, shift - 1
    if factor == 0 or shift > (_LARGEST_COMMON_SHIFT if as_tflite else _LARGEST_SHIFT):
        return 0, 0
    if arithmetic.multiplier_bits == 15:
        multiplier, shift = min((multiplier + 2**15) >> 16, 2**15 - 1), shift - 16
    return (multiplier, shift) if shift >= 0 else (multiplier << -shift, 0)


def on_common_shift(*factors: float) -> tuple[list[int], int]:
    """A multiplier for each, and the shift of the largest, which has 31 bits; 0 is below 2**-32."""
    for factor in factors:
        _check.factor(factor)
    largest = max(factors)
    shift = 31 - math.frexp(largest)[1]
    if round(math.ldexp(largest, shift)) == 2**31:
        shift -= 1
    if largest == 0 or shift > _LARGEST_COMMON_SHIFT:
        return [0 for _ in factors], 0
    return [round(math.ldexp(factor, shift)) for factor in factors], shift


def multiplied(acc: Tensor, factor: float | Tensor, axis: int | None, arithmetic: Arithmetic) -> Tensor:
    """`round(acc * factor)` in int64: exact below 2**29, and at least that where it is more. One factor, or `[C]`."""
    numbers = factor.double().reshape(-1).tolist() if isinstance(factor, Tensor) else [factor]
    multipliers, shifts = zip(*[fixed_point(number, arithmetic) for number in numbers], strict=True) or ((), ())
    shape = [1] * acc.dim()
    if axis is not None:
        shape[axis] = -1
    multiplier = torch.tensor(multipliers, dtype=torch.int64, device=acc.device).reshape(shape)
    shift = torch.tensor(shifts, dtype=torch.int64, device=acc.device).reshape(shape)
    return _shifted_product(acc.long(), multiplier, shift, arithmetic)


def _shifted_product(acc: Tensor, multiplier: Tensor, shift: Tensor, arithmetic: Arithmetic) -> Tensor:
    # The product is high * 2**32 + low: 94 bits.
    low = (acc & 0xFFFFFFFF) * multiplier
    high = (acc >> 32) * multiplier + (low >> 32)
    low = low & 0xFFFFFFFF
    # Small shifts: what is clamped here saturates in the end, and now the product fits.
    limit = torch.full_like(shift, 2**31) if arithmetic.multiplier_bits == 31 else 1 << (shift + 16).clamp(max=47)
    short = torch.minimum(torch.maximum(acc, -limit), limit) * multiplier
    if arithmetic.rounding is Rounding.TFLITE:
        first = (high << 1) + ((low + 2**30) >> 31)
        once = shifted(short, shift.clamp(max=31), Rounding.HALF_UP)
        return torch.where(shift > 31, shifted(first, (shift - 31).clamp(min=0), Rounding.HALF_AWAY), once)
    # Large ones: the lowest bit of `long` says only whether anything was there below.
    long = (high << 1) | (low > 0)
    value = torch.where(shift > 32, long, short)
    return shifted(value, torch.where(shift > 32, shift - 31, shift), arithmetic.rounding)


def shifted(value: Tensor, shift: Tensor | int, rounding: Rounding) -> Tensor:
    """`round(value * 2**-shift)`, exactly; by TFLite's rule, whose first half is over here, half away from zero.

    >>> shifted(torch.tensor([1, 3, -1]), 1, Rounding.HALF_EVEN)
    tensor([0, 2, 0])

    Args:
        value: int64, any shape.
        shift: 0 to 62; int64 of a shape that meets `value`'s, or one.
        rounding: what becomes of the fraction.
    """
    shift = torch.as_tensor(shift, device=value.device)
    whole = value >> shift
    rest = value & ((1 << shift) - 1)
    half = 1 << (shift - 1).clamp(min=0)
    up = rest > half
    if rounding is Rounding.FLOOR:
        return whole
    if rounding is Rounding.HALF_EVEN:
        up = up | ((rest == half) & (whole % 2 == 1))
    elif rounding is Rounding.HALF_UP:
        up = up | (rest == half)
    else:
        up = up | ((rest == half) & (value >= 0))
    return whole + (up & (shift > 0))
