"""The reference: what the kernels compute, in torch operations one would draw on a whiteboard.

Also what runs on other devices, under `torch.compile` and under functorch transforms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _check

_EPSILON = 2.0**-23


def fake_quantize_per_tensor(x: Tensor, scale: Tensor, zero_point: int, qmin: int, qmax: int) -> tuple[Tensor, Tensor]:
    """`clamp(round(x * (1 / scale)), qmin - zero_point, qmax - zero_point) * scale`, and where nothing was clamped.

    Ties go to even, NaN to `qmin`'s value. The last product is in f32, for f64 too: so does torch.
    """
    steps, inside = _steps(x, 1.0 / scale, qmin - zero_point, qmax - zero_point)
    return (steps.float() * scale).to(x.dtype), inside


def fake_quantize_per_channel(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int
) -> tuple[Tensor, Tensor]:
    """As `fake_quantize_per_tensor`, channel by channel; f64 stays f64 to the end."""
    shape = [1] * x.dim()
    shape[axis] = -1
    scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    steps, inside = _steps(x, 1.0 / scale, qmin - zero_point, qmax - zero_point)
    return (steps * scale.to(steps.dtype)).to(x.dtype), inside


def _steps(x: Tensor, inv_scale: Tensor, low: int | Tensor, high: int | Tensor) -> tuple[Tensor, Tensor]:
    """Whole steps in `low ... high`, and a bool for each: it was there before clamping."""
    wide = torch.promote_types(x.dtype, torch.float32)
    raw = torch.round(x.to(wide) * inv_scale.to(wide))
    inside = (raw >= low) & (raw <= high)
    low, high = torch.as_tensor(low, dtype=wide), torch.as_tensor(high, dtype=wide)
    raw = torch.where(raw.isnan(), low.to(x.device), raw)
    steps = torch.maximum(torch.minimum(raw, high.to(x.device)), low.to(x.device))
    return steps + 0.0, inside  # `+ 0.0` makes -0.0 positive


def fake_quantize_backward(grad_y: Tensor, inside: Tensor) -> Tensor:
    """`grad_y * inside`: the gradient goes straight through where nothing was clamped."""
    return grad_y * inside


def min_max_per_tensor(x: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value, f32; NaN in both where `x` has one. Never -0.0."""
    _check.observed(x)
    low, high = torch.aminmax(x)
    return low.float() + 0.0, high.float() + 0.0


def min_max_per_channel(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """As `min_max_per_tensor`, for each index of `axis`: two tensors `[C]`."""
    _check.observed(x, axis)
    low, high = torch.aminmax(_rows(x, axis), dim=1)
    return low.float() + 0.0, high.float() + 0.0


def _rows(x: Tensor, axis: int) -> Tensor:
    """One row for each index of `axis`."""
    return x.movedim(axis, 0).reshape(x.shape[axis], -1)


def mse_search_per_tensor(x: Tensor, qmin: int, qmax: int, stride: int = 1) -> Tensor:
    """The threshold whose scale quantizes `x` with the least squared error; see `mse_search_per_channel`."""
    return mse_search_per_channel(x.reshape(1, -1), 0, qmin, qmax, stride).squeeze(0)


def mse_search_per_channel(x: Tensor, axis: int, qmin: int, qmax: int, stride: int = 1) -> Tensor:
    """For each channel the best of `max_abs * i / 100`, i = 1, 1 + stride, ..., 100; the larger one on a tie.

    The error of one element is f32, their sum f64. A channel whose `max_abs * 100` is
    not finite gives its `max_abs`: NaN or infinity tells that it has one.
    """
    _check.observed(x, axis)
    _check.search(qmin, qmax, stride)
    rows = _rows(x, axis).float()
    max_abs = rows.abs().amax(1)
    winner, best = max_abs, torch.full_like(max_abs, torch.inf, dtype=torch.float64)
    zeros = torch.zeros_like(max_abs, dtype=torch.int32)
    for i in sorted({*range(1, 101, stride), 100}):
        threshold = max_abs * i / 100
        scale = (threshold / ((qmax - qmin) / 2)).clamp(min=_EPSILON)
        y, _ = fake_quantize_per_channel(rows, scale, zeros, 0, qmin, qmax)
        error = (y - rows).square().sum(1, dtype=torch.float64)
        winner = torch.where(error <= best, threshold, winner)
        best = torch.minimum(error, best)
    return torch.where((max_abs * 100).isfinite(), winner, max_abs)
