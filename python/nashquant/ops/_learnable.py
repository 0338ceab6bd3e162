"""Fake quantization whose scale (and zero point) is learned: LSQ, with a kernel and with the reference."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from . import _check, _rust, _torch

Grid = tuple[int | None, int, int, float]
"""Axis (None per tensor), `qmin`, `qmax`, `grad_factor`: what needs no gradient."""


def fake_quantize_learnable_per_tensor(
    x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, grad_factor: float = 1.0
) -> Tensor:
    """As `fake_quantize_per_tensor`, and `scale` and `zero_point` get gradients too.

    `grad_scale = grad_factor * sum(grad_y * (y - x) / scale)` where nothing was clamped, and
    `grad_y * (qmin - zero_point)` or `grad_y * (qmax - zero_point)` where it was; `grad_zero_point = grad_factor *
    sum(-grad_y * scale)` where it was. Esser et al., "Learned Step Size Quantization", ICLR 2020, ask for
    `grad_factor = 1 / sqrt(x.numel() * qmax)`.

    The zero point is rounded half to even, and clamped to the grid, forward and backward alike.
    `torch._fake_quantize_learnable_per_tensor_affine` adds a half and truncates on the way back, which makes a negative
    zero point one too high there; that is not inherited.

    >>> scale = torch.tensor([1.0], requires_grad=True)
    >>> y = fake_quantize_learnable_per_tensor(torch.tensor([0.25, 9.0]), scale, torch.zeros(1), -8, 7)
    >>> y.sum().backward()
    >>> y.tolist(), scale.grad
    ([0.0, 7.0], tensor([6.7500]))

    Args:
        x: any shape and strides; f32, f64, bf16 or f16. The result has the same.
        scale: f32, one positive number.
        zero_point: f32, one number.
        qmin: least integer.
        qmax: greatest integer; less than 2**22 above `qmin`.
        grad_factor: what the gradients of `scale` and `zero_point` are multiplied by.

    Raises:
        ValueError: `scale` or `1 / scale` is not positive and finite, `zero_point` is NaN, there is more than one, or
            the integers make no range.
        TypeError: `x`, `scale` or `zero_point` is of another dtype.
    """
    for name, one in (("scale", scale), ("zero_point", zero_point)):
        if one.numel() != 1:
            raise ValueError(f"{name} has {one.numel()} values, but per tensor there is one")
    return _apply(x, scale, zero_point, (None, qmin, qmax, grad_factor))


def fake_quantize_learnable_per_channel(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int, grad_factor: float = 1.0
) -> Tensor:
    """As `fake_quantize_learnable_per_tensor`, with its own `scale` and `zero_point` for each index of `axis`.

    Args:
        x: any shape and strides, with `C` indices on `axis`; f32, f64, bf16 or f16.
        scale: `[C]`, f32, positive.
        zero_point: `[C]`, f32.
        axis: may be negative.
        qmin: least integer.
        qmax: greatest integer; less than 2**22 above `qmin`.
        grad_factor: what the gradients of `scale` and `zero_point` are multiplied by.

    Raises:
        ValueError: a scale or its inverse is not positive and finite, or lengths differ; names the channel.
        TypeError: a dtype is not as above.
        IndexError: `x` has no such axis.
    """
    return _apply(x, scale, zero_point, (axis, qmin, qmax, grad_factor))


def _apply(x: Tensor, scale: Tensor, zero_point: Tensor, grid: Grid) -> Tensor:
    for name, values in (("scale", scale), ("zero_point", zero_point)):
        if values.dtype != torch.float32:
            raise TypeError(f"{name} has dtype {values.dtype}, but must be torch.float32")
    if _rust.takes(x) and scale.is_cpu and zero_point.is_cpu:
        return _Learnable.apply(x, scale, zero_point, grid)  # type: ignore[no-untyped-call,no-any-return]
    axis, qmin, qmax, _ = grid
    if axis is None:
        _check.per_tensor(x, scale, qmin, qmin, qmax)
    else:
        _check.per_channel(x, scale, _points(zero_point, qmin, qmax), axis, qmin, qmax)
    return _ReferenceLearnable.apply(x, scale, zero_point, grid)  # type: ignore[no-untyped-call,no-any-return]


def _points(zero_point: Tensor, qmin: int, qmax: int) -> Tensor:
    """The integers that mean 0."""
    return zero_point.detach().round().clamp(qmin, qmax).to(torch.int32)


def _point(zero_point: float, qmin: int, qmax: int) -> int:
    """The same of one number."""
    if math.isnan(zero_point):
        raise ValueError("zero_point is nan, but must be a number")
    return round(max(qmin, min(zero_point, qmax)))


class _Learnable(Function):
    """Keeps `x` itself: the gradient of the scale needs it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, grid: Grid) -> Tensor:
        axis, qmin, qmax, _ = ctx.grid = grid
        if axis is None:  # in Python, since four operators on one number take as long as the kernel on 64K
            point = _point(zero_point.item(), qmin, qmax)
            ctx.save_for_backward(x, scale, torch.full_like(zero_point, point, dtype=torch.int32))
            rounded = _rust.fake_quantize_per_tensor(x, scale, point, qmin, qmax)
        else:
            points = _points(zero_point, qmin, qmax)
            ctx.save_for_backward(x, scale, points)
            rounded = _rust.fake_quantize_per_channel(x, scale, points, axis, qmin, qmax)
        assert rounded is not None, "`takes` said that a kernel can read x"
        return rounded[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, points = ctx.saved_tensors
        kernel = _rust if _rust.takes_gradient(grad_y) else _torch
        return (*kernel.fake_quantize_learnable_backward(grad_y, x, scale, points, *ctx.grid), None)


class _ReferenceLearnable(Function):
    """The reference. Compilers and functorch can see through it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor, zero_point: Tensor, grid: Grid) -> Tensor:
        axis, qmin, qmax, _ = grid
        points = _points(zero_point, qmin, qmax)
        if axis is None:
            return _torch.fake_quantize_per_channel(x.reshape(1, -1), scale, points, 0, qmin, qmax)[0].reshape(x.shape)
        return _torch.fake_quantize_per_channel(x, scale, points, axis, qmin, qmax)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.grid = inputs[3]

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zero_point = ctx.saved_tensors
        points = _points(zero_point, ctx.grid[1], ctx.grid[2])
        return (*_torch.fake_quantize_learnable_backward(grad_y, x, scale, points, *ctx.grid), None)
