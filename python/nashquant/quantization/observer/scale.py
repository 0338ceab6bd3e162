"""The one place where an observed range becomes a scale."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["EPSILON", "clamp_range", "greatest_magnitude", "power_of_two", "range_from_scale", "scale_from_range"]

EPSILON = 2.0**-23
"""The least scale a range gives: f32 epsilon, as in torch.ao."""


def scale_from_range(min_val: Tensor, max_val: Tensor, qmin: int, qmax: int) -> Tensor:
    """The scale of the symmetric grid that covers the range.

    `max(max(|min_val|, |max_val|) / ((qmax - qmin) / 2), 2**-23)`, in f32

    >>> scale_from_range(torch.tensor(-0.5), torch.tensor(0.9999191), -128, 127)
    tensor(0.0078)
    """
    max_abs = torch.maximum(min_val.abs(), max_val.abs())
    return (max_abs / ((qmax - qmin) / 2)).clamp(min=EPSILON)


def range_from_scale(scale: Tensor, qmin: int, qmax: int) -> tuple[Tensor, Tensor]:
    """The symmetric range that has this scale (up to the last bit of f32)."""
    max_abs = scale * ((qmax - qmin) / 2)
    return -max_abs, max_abs


def greatest_magnitude(low: Tensor, high: Tensor) -> Tensor:
    """`max(|low|, |high|)`, `[channels]`."""
    return torch.maximum(low.abs(), high.abs()).reshape(-1)


def power_of_two(scale: Tensor) -> Tensor:
    """The least power of two that is not below `scale`, exactly.

    >>> power_of_two(torch.tensor([0.25, 0.26, 3.0]))
    tensor([0.2500, 0.5000, 4.0000])
    """
    mantissa, exponent = torch.frexp(scale)  # scale = mantissa * 2**exponent, 0.5 <= mantissa < 1
    return torch.ldexp(torch.ones_like(scale), torch.where(mantissa == 0.5, exponent - 1, exponent))


def clamp_range(min_val: Tensor, max_val: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """The range with both ends brought into `-threshold ... threshold`."""
    return min_val.clamp(-threshold, threshold), max_val.clamp(-threshold, threshold)
