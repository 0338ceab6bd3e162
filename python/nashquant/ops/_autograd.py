"""Forward and backward side by side."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from . import _torch


class ReferencePerTensor(torch.autograd.Function):
    """The reference with its straight-through gradient; works under compilers and functorch."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor, zero_point: int, qmin: int, qmax: int) -> tuple[Tensor, Tensor]:
        return _torch.fake_quantize_per_tensor(x, scale, zero_point, qmin, qmax)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return _torch.fake_quantize_backward(grad_y, *ctx.saved_tensors), None, None, None, None


class ReferencePerChannel(torch.autograd.Function):
    """As `ReferencePerTensor`, with one scale and zero point for each channel."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int
    ) -> tuple[Tensor, Tensor]:
        return _torch.fake_quantize_per_channel(x, scale, zero_point, axis, qmin, qmax)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return _torch.fake_quantize_backward(grad_y, *ctx.saved_tensors), None, None, None, None, None
