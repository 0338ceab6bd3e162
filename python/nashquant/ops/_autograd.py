"""Forward and backward side by side: with the Rust kernels, and with the reference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from nashquant import _core

from . import _rust, _torch

# `forward(ctx, ...)` and not `setup_context`: that style costs twice as much for a small tensor.


class PerTensor(Function):
    """Rounds on the way forward; on the way back, lets gradients through where nothing was clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, zero_point: int, qmin: int, qmax: int) -> Tensor:
        """Keeps one bit for each element."""
        y, ctx.mask = _rust.fake_quantize_per_tensor_with_mask(x, scale, zero_point, qmin, qmax)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """The straight-through gradient."""
        return _pass_through(grad_y, ctx.mask), None, None, None, None


class PerChannel(Function):
    """As `PerTensor`, with a scale and zero point for each channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int) -> Tensor:
        """Keeps one bit for each element."""
        y, ctx.mask = _rust.fake_quantize_per_channel_with_mask(x, scale, zero_point, axis, qmin, qmax)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        """The straight-through gradient."""
        return _pass_through(grad_y, ctx.mask), None, None, None, None, None


class _PassThrough(Function):
    """`grad_y * inside`: linear, and its own derivative; asked for only by a double backward."""

    @staticmethod
    def forward(ctx: Any, grad_y: Tensor, mask: _core.Mask) -> Tensor:
        ctx.mask = mask
        return _rust.fake_quantize_backward(grad_y, mask)

    @staticmethod
    def backward(ctx: Any, grad_grad_x: Tensor) -> tuple[Tensor, None]:
        return _pass_through(grad_grad_x, ctx.mask), None


def _pass_through(grad_y: Tensor, mask: _core.Mask) -> Tensor:
    if not _rust.takes_gradient(grad_y):
        return _torch.fake_quantize_backward(grad_y, _rust.unpack(mask))
    if grad_y.requires_grad and torch.is_grad_enabled():
        return _PassThrough.apply(grad_y, mask)  # type: ignore[no-untyped-call,no-any-return]
    return _rust.fake_quantize_backward(grad_y, mask)


class ReferencePerTensor(Function):
    """The reference, with its straight-through gradient. Compilers and functorch can see through it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor, zero_point: int, qmin: int, qmax: int) -> tuple[Tensor, Tensor]:
        """Gives `inside` out too, since only outputs can be saved."""
        return _torch.fake_quantize_per_tensor(x, scale, zero_point, qmin, qmax)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Saves `inside`."""
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The straight-through gradient."""
        return _torch.fake_quantize_backward(grad_y, *ctx.saved_tensors), None, None, None, None


class ReferencePerChannel(Function):
    """As `ReferencePerTensor`, with a scale and zero point for each channel."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int) -> tuple[Tensor, Tensor]:
        """Gives `inside` out too, since only outputs can be saved."""
        return _torch.fake_quantize_per_channel(x, scale, zero_point, axis, qmin, qmax)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Saves `inside`."""
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The straight-through gradient."""
        return _torch.fake_quantize_backward(grad_y, *ctx.saved_tensors), None, None, None, None, None
