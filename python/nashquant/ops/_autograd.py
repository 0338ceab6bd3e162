"""Forward and backward side by side: with the Rust kernels, and with the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from . import _rust, _torch
from ._overwrite import may_be_overwritten

# `forward(ctx, ...)` and not `setup_context`: that style costs twice as much for a small tensor.


class StraightThrough(Function):
    """Takes what was rounded already; on the way back, lets gradients through where nothing was clamped.

    The kernel runs before, so that `forward` is as short as can be: with it inside, a tensor of 1K elements takes
    longer than with torch's own operator.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: _rust.Rounded) -> Tensor:
        """Keeps one bit for each element."""
        y, ctx.mask = rounded
        ctx.apply = _rust.Backward(_straight_back, ctx.mask)  # what the engine calls; `backward` where others do
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        """The straight-through gradient."""
        return _pass_through(grad_y, ctx.mask), None


# `Function.apply` without its look for functorch, which whoever chose the kernel has done.
straight_through: Callable[[Tensor, _rust.Rounded], Tensor] = super(Function, StraightThrough).apply


class _PassThrough(Function):
    """`grad_y * inside`: linear, and its own derivative; asked for only by a double backward."""

    @staticmethod
    def forward(ctx: Any, grad_y: Tensor, mask: _rust.Mask) -> Tensor:
        ctx.mask = mask
        return _rust.fake_quantize_backward(grad_y, mask)

    @staticmethod
    def backward(ctx: Any, grad_grad_x: Tensor) -> tuple[Tensor, None]:
        return _pass_through(grad_grad_x, ctx.mask), None


def _straight_back(grad_y: Tensor, mask: _rust.Mask, alone: bool) -> tuple[Tensor, None]:
    """The straight-through gradient; in the place of `grad_y` if the engine's reference to it is the last."""
    if (
        alone
        and _rust.takes_gradient(grad_y)
        and may_be_overwritten(grad_y)
        and _rust.fake_quantize_backward_in_place(grad_y, mask)
    ):
        return grad_y, None
    return _pass_through(grad_y, mask), None


def _pass_through(grad_y: Tensor, mask: _rust.Mask) -> Tensor:
    if mask.all_inside():  # a pass over memory saved; others may hold this gradient, but nobody writes to it
        return grad_y
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
