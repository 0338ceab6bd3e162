"""Fake quantization that trains its scale and zero point: torch's functions, in our kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from nashquant import ops
from nashquant.compat.torch_ao.parity import is_exact

from . import exported

__all__ = ["_fake_quantize_learnable_per_channel_affine", "_fake_quantize_learnable_per_tensor_affine"]

_per_tensor = torch._fake_quantize_learnable_per_tensor_affine
_per_channel = torch._fake_quantize_learnable_per_channel_affine
_LEAST_SCALE = 2.0**-23


def _fake_quantize_learnable_per_tensor_affine(
    input: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int, grad_factor: float = 1.0
) -> Tensor:
    """`torch._fake_quantize_learnable_per_tensor_affine`: `scale` and `zero_point` get gradients too.

    Two things differ from torch: a scale below 2**-23 counts as 2**-23, and learns on from there, where torch goes on
    with the mirrored grid of a negative one; and a negative zero point is the same on the way back as on the way
    forward, where torch has it one too high.

    Raises:
        RuntimeError: what torch refuses, in torch's words; also a second derivative, as torch.
    """
    if is_exact():
        return _per_tensor(input, scale, zero_point, quant_min, quant_max, grad_factor)
    if torch.compiler.is_exporting():
        point = zero_point.round().clamp(quant_min, quant_max).int()
        return exported.per_tensor(input, at_least(scale), point, quant_min, quant_max)
    try:
        return ops.fake_quantize_learnable_per_tensor(
            input, at_least(scale), zero_point, quant_min, quant_max, grad_factor
        )
    except (TypeError, ValueError, OverflowError):
        return _per_tensor(input, scale, zero_point, quant_min, quant_max, grad_factor)


def _fake_quantize_learnable_per_channel_affine(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int,
    quant_min: int,
    quant_max: int,
    grad_factor: float = 1.0,
) -> Tensor:
    """`torch._fake_quantize_learnable_per_channel_affine`, with the differences of the function per tensor.

    Raises:
        RuntimeError: what torch refuses, in torch's words; also a second derivative, as torch.
    """
    if is_exact():
        return _per_channel(input, scale, zero_point, axis, quant_min, quant_max, grad_factor)
    if torch.compiler.is_exporting():
        point = zero_point.round().clamp(quant_min, quant_max).int()
        return exported.per_channel(input, at_least(scale), point, axis, quant_min, quant_max)
    try:
        return ops.fake_quantize_learnable_per_channel(
            input, at_least(scale), zero_point, axis, quant_min, quant_max, grad_factor
        )
    except (TypeError, ValueError, OverflowError, IndexError):
        return _per_channel(input, scale, zero_point, axis, quant_min, quant_max, grad_factor)


def at_least(scale: Tensor) -> Tensor:
    """`scale`, where it is not below 2**-23; the gradient goes through as if nothing had been done."""
    if ops.runs_in_rust(scale) and scale.numel() > 0 and scale.detach().min().item() >= _LEAST_SCALE:
        return scale
    least = _LEAST_SCALE + (scale - scale.detach())  # the difference is 0, and has a gradient
    return torch.where(scale < _LEAST_SCALE, least, scale)
