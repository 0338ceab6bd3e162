"""Fake quantization to an affine grid: torch's functions, in our kernels where these take the case."""

from __future__ import annotations

import torch
from torch import Tensor

from nashquant import ops
from nashquant.compat.torch_ao.parity import is_exact

from . import exported

__all__ = ["fake_quantize_per_channel_affine", "fake_quantize_per_tensor_affine", "is_transformed"]

_per_tensor = torch.fake_quantize_per_tensor_affine
_per_channel = torch.fake_quantize_per_channel_affine


def fake_quantize_per_tensor_affine(
    input: Tensor, scale: float | Tensor, zero_point: int | Tensor, quant_min: int, quant_max: int
) -> Tensor:
    """`torch.fake_quantize_per_tensor_affine`, value for value.

    >>> fake_quantize_per_tensor_affine(torch.tensor([0.24, 9.0]), 0.5, 2, 0, 7)
    tensor([0.0000, 2.5000])

    Args:
        input: any shape; f32, f64, bf16 or f16.
        scale: one number, or a tensor of one.
        zero_point: one integer, or a tensor of one: a tensor if `scale` is.
        quant_min: the least integer.
        quant_max: the greatest integer.

    Raises:
        RuntimeError, TypeError, NotImplementedError: what torch refuses, in torch's words.
    """
    if is_exact():
        return _per_tensor(input, scale, zero_point, quant_min, quant_max)  # type: ignore[arg-type]
    if torch.compiler.is_exporting():
        return exported.per_tensor(input, scale, zero_point, quant_min, quant_max)
    # What our kernels refuse before they write (a range of 2**22 steps, a scale of 0 or without an inverse, a zero
    # point outside), torch's operator does, or refuses in its own words.
    try:
        if ops.runs_in_rust(input):
            number, point = _numbers(scale, zero_point)
            return ops.fake_quantize_per_tensor(input, number, point, quant_min, quant_max)
        if is_transformed():
            return _transformed(input, scale, zero_point, quant_min, quant_max)
    except (TypeError, ValueError, OverflowError):
        pass
    return _per_tensor(input, scale, zero_point, quant_min, quant_max)  # type: ignore[arg-type]


def fake_quantize_per_channel_affine(
    input: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int
) -> Tensor:
    """`torch.fake_quantize_per_channel_affine`: a scale and zero point for each index of `axis`.

    Values are torch's but for one: infinity and what is beyond 2**63 steps go to the end on their own side. torch
    sends them to the least integer.

    Args:
        input: f32, f64, bf16 or f16, with `C` indices on `axis`.
        scale: `[C]`, f32.
        zero_point: `[C]`, int32, f32 or f16.
        axis: not negative.
        quant_min: the least integer.
        quant_max: the greatest integer.

    Raises:
        RuntimeError, IndexError: what torch refuses, in torch's words.
    """
    if is_exact():
        return _per_channel(input, scale, zero_point, axis, quant_min, quant_max)
    if torch.compiler.is_exporting():
        return exported.per_channel(input, scale, zero_point, axis, quant_min, quant_max)
    # A float zero point is added before rounding: that is another formula, which our kernels do not have.
    plain = axis >= 0 and scale.dim() == zero_point.dim() == 1 and scale.numel() > 0
    if plain and (ops.runs_in_rust(input) or is_transformed()):
        try:
            return ops.fake_quantize_per_channel(input, scale, zero_point, axis, quant_min, quant_max)
        except (TypeError, ValueError, OverflowError, IndexError):
            pass
    return _per_channel(input, scale, zero_point, axis, quant_min, quant_max)


def _numbers(scale: float | Tensor, zero_point: int | Tensor) -> tuple[float, int]:
    """Both as numbers, if both are numbers or both tensors; a float zero point is cut off, as torch does."""
    if isinstance(scale, Tensor) and isinstance(zero_point, Tensor):
        if scale.numel() == zero_point.numel() == 1:
            return scale.item(), int(zero_point.item())
    elif isinstance(scale, float | int) and isinstance(zero_point, int):
        return float(scale), zero_point
    raise TypeError("scale and zero_point are neither two numbers nor two tensors of one")


def is_transformed() -> bool:
    """Is `torch.func` at work? Then values are hidden, and torch's own operators run once for each sample."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def _transformed(x: Tensor, scale: float | Tensor, zero_point: int | Tensor, qmin: int, qmax: int) -> Tensor:
    if isinstance(scale, Tensor) and isinstance(zero_point, Tensor):
        one, point = scale.reshape(1).float(), zero_point.reshape(1).int()
        return ops.fake_quantize_per_channel(x.reshape(1, -1), one, point, 0, qmin, qmax).reshape(x.shape)
    number, point_ = _numbers(scale, zero_point)
    return ops.fake_quantize_per_tensor(x, number, point_, qmin, qmax)
