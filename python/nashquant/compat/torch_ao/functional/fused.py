"""Observe and fake-quantize in one function: torch's function, with our kernels for the tensor itself."""

from __future__ import annotations

import torch
from torch import Tensor

from nashquant import ops
from nashquant.compat.torch_ao.observer.seen import all_finite, least_and_greatest
from nashquant.compat.torch_ao.parity import is_exact

from .affine import fake_quantize_per_channel_affine, fake_quantize_per_tensor_affine, is_transformed

__all__ = ["fused_moving_avg_obs_fake_quant"]

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_fused = torch.fused_moving_avg_obs_fake_quant


def fused_moving_avg_obs_fake_quant(
    input: Tensor,
    observer_on: Tensor,
    fake_quant_on: Tensor,
    running_min: Tensor,
    running_max: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    averaging_const: float,
    quant_min: int,
    quant_max: int,
    ch_axis: int,
    per_row_fake_quant: bool = False,
    symmetric_quant: bool = False,
    *,
    across_ranks: bool = False,
) -> Tensor:
    """`torch.fused_moving_avg_obs_fake_quant`: moves the range towards that of `input`, chooses scale and zero point,
    and fake-quantizes.

    Its rule for the scale is not that of `FakeQuantize`; it is torch's own here too, which is asked about a tensor of
    the two ends. `input` may be bf16, f16 and f64, which torch refuses. What is not finite moves no range. With
    `across_ranks` the range seen is that of all processes; torch has no such thing.

    Raises:
        RuntimeError: `input` has another dtype; `torch.func` is at work; and what torch refuses, in torch's words.
    """
    grid = (averaging_const, quant_min, quant_max, ch_axis, per_row_fake_quant, symmetric_quant)
    state = (observer_on, fake_quant_on, running_min, running_max, scale, zero_point)
    if is_transformed():
        raise RuntimeError(
            "fused_moving_avg_obs_fake_quant writes to its range, scale and zero point, which torch.func can't batch; "
            "turn the observer off and call fake_quantize_per_tensor_affine or fake_quantize_per_channel_affine"
        )
    odd = (
        (input.numel() == 0 and not across_ranks)
        or not -input.dim() <= ch_axis < input.dim()
        or (per_row_fake_quant and ch_axis != 0)
    )
    if is_exact() or odd or not ops.runs_in_rust(input):
        return _fused(input, *state, *grid)
    if input.dtype not in _FLOATS and (observer_on.item() or fake_quant_on.item()):
        raise RuntimeError(f"input is {input.dtype}, expected one of {', '.join(map(str, _FLOATS))}")
    if not per_row_fake_quant and not across_ranks and observer_on.item() and fake_quant_on.item():
        y = _in_one_call(input, state[2:], averaging_const, quant_min, quant_max, symmetric=symmetric_quant)
        if y is not None:
            return y
    _follow(input, state, grid, across_ranks=across_ranks)
    if not fake_quant_on.item():
        return input.clone()
    if per_row_fake_quant:
        return fake_quantize_per_channel_affine(input, scale, zero_point, ch_axis, quant_min, quant_max)
    return fake_quantize_per_tensor_affine(input, scale, zero_point, quant_min, quant_max)


def _in_one_call(
    x: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    averaging_const: float,
    quant_min: int,
    quant_max: int,
    *,
    symmetric: bool,
) -> Tensor | None:
    rule = "fused symmetric" if symmetric else "fused affine"
    try:
        return ops.fake_quantize_observed_as_torch_per_tensor(x, *state, averaging_const, quant_min, quant_max, rule)
    except (TypeError, ValueError, OverflowError):
        return None  # torch's operator does it, or refuses in its own words


def _follow(
    x: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
    grid: tuple[float, int, int, int, bool, bool],
    *,
    across_ranks: bool,
) -> None:
    """Moves the range, if the observer is on, and chooses scale and zero point of it, if there will be quantized: both
    by torch's operator, which is given the two ends of `x` instead of `x`.
    """
    observer_on, _, running_min, running_max, _, _ = state
    averaging_const, quant_min, quant_max, _, per_row, symmetric = grid
    fresh = None
    if observer_on.item():
        low, high = least_and_greatest(x, torch.float32, 0 if per_row else None, across_ranks=across_ranks)
        if not all_finite(low, high):
            nothing = low > high  # where x has no finite range
            held = (running_min, running_max) if running_min.numel() == low.numel() else (low, high)
            low, high = (torch.where(nothing, h.reshape(low.shape), e) for h, e in zip(held, (low, high), strict=True))
            fresh = nothing & low.isinf()
            low, high = low.masked_fill(fresh, 0.0), high.masked_fill(fresh, 0.0)
        ends = torch.stack((low, high), dim=-1)  # a range that moves to where it is stays there
    else:
        ends = torch.zeros(len(x), 2) if per_row else torch.zeros(2)
    _fused(ends, *state, averaging_const, quant_min, quant_max, 0, per_row, symmetric)
    if fresh is not None:
        running_min.masked_fill_(fresh.reshape(running_min.shape), torch.inf)
        running_max.masked_fill_(fresh.reshape(running_max.shape), -torch.inf)
