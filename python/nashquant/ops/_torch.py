"""The reference: what the kernels compute, in torch operations one would draw on a whiteboard.

Also what runs on other devices, under `torch.compile` and under functorch transforms.
"""

from __future__ import annotations

import math

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


def fake_quantize_learnable_backward(
    grad_y: Tensor,
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None,
    qmin: int,
    qmax: int,
    grad_factor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `x`, `scale` and `zero_point`; per tensor if `axis` is None.

    Where nothing was clamped: `grad_y`, `grad_y * (steps * scale - x) / scale` and 0; elsewhere 0, `grad_y * steps` and
    `-grad_y * scale`. Sums are f64.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    shape = [1] * x.dim()
    if axis is not None:
        shape[axis] = -1
    one_step, points = scale.reshape(shape), zero_point.reshape(shape)
    steps, inside = _steps(x, 1.0 / one_step, qmin - points, qmax - points)
    rounding = (steps * one_step.to(wide) - x.to(wide)) * (1.0 / one_step).to(wide)
    of_scale = grad_y.to(wide) * torch.where(inside, rounding, steps)
    clipped = torch.where(inside, 0.0, grad_y.to(wide))
    others = [i for i in range(x.dim()) if axis is None or i != axis % x.dim()]

    def total(values: Tensor) -> Tensor:
        values = values.double()
        return (values.sum(others) if others else values) * grad_factor

    grad_scale = total(of_scale).reshape(scale.shape)
    grad_zero_point = -total(clipped).reshape(scale.shape) * scale
    return grad_y * inside, grad_scale.float(), grad_zero_point.float().reshape(zero_point.shape)


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
    return x.movedim(axis, 0).reshape(x.shape[axis], x.numel() // max(x.shape[axis], 1))


def histogram_per_tensor(x: Tensor, limit: float, bins: int) -> Tensor:
    """How many of |x| lie in each of `bins` equal bins over `0 ... limit`; see `histogram_per_channel`."""
    limits = torch.full((1,), limit, dtype=torch.float64, device=x.device)
    return histogram_per_channel(x.reshape(1, -1), 0, limits, bins).squeeze(0)


def histogram_per_channel(x: Tensor, axis: int, limit: Tensor, bins: int) -> Tensor:
    """For each channel the counts of `min(trunc(|x| * (bins / limit)), bins - 1)`, in f64; not of NaN. `[C, bins]`."""
    _check.histogram(x, axis, limit, bins)
    per_unit = torch.where(limit > 0, (bins / limit).clamp(max=torch.finfo(torch.float64).max), 0.0)
    position = _rows(x, axis).float().abs().double() * per_unit[:, None]
    index = torch.where(position.isnan(), bins, position.clamp(max=bins - 1)).long()
    counts = torch.zeros(x.shape[axis], bins + 1, dtype=torch.int64, device=x.device)
    return counts.scatter_add(1, index, torch.ones_like(index))[:, :bins]


def percentile_per_tensor(x: Tensor, percentile: float) -> Tensor:
    """The `ceil(percentile / 100 * n)`th of |x| in ascending order, at least the first; f32, NaN where `x` has one."""
    _check.percentile(x, percentile)
    magnitude = x.float().abs().reshape(-1)
    rank = max(math.ceil(magnitude.numel() * (percentile / 100) * (1 - 1e-12)), 1)
    return torch.where(magnitude.isnan().any(), torch.nan, magnitude.kthvalue(rank).values)


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
