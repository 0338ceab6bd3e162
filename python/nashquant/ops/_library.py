"""Fake quantize as `torch.library` operators, so that one quantizer is one node of an exported graph.

They compute what the reference computes, on any device, and have its straight-through gradient, so that an exported
program can be trained on. The functions of `nashquant.ops` come here only under `torch.export`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import _torch

Rounded = Callable[..., tuple[Tensor, Tensor]]
"""`(x, scale, zero_point, ...)` to `x` on the grid, and where it was inside."""


def _rounded_per_tensor(
    x: Tensor, scale: float | Tensor, zero_point: int, qmin: int, qmax: int
) -> tuple[Tensor, Tensor]:
    scale = torch.as_tensor(scale, dtype=torch.float32, device=x.device).reshape(())
    return _torch.fake_quantize_per_tensor(x, scale, zero_point, qmin, qmax)


def _like_x(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x)


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Saves `x`, and the scale and zero point if they are tensors: where one was clamped, the gradient asks again."""
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
    ctx.rest = [None if isinstance(value, Tensor) else value for value in inputs]


def _straight_through(rounded: Rounded) -> Callable[[Any, Tensor], tuple[Tensor | None, ...]]:
    """The gradient of `x`, 0 where it was clamped. A scale that wants one is refused: that is another operator."""

    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        if any(ctx.needs_input_grad[1:]):
            raise RuntimeError(
                "a scale can't be learned in an exported program: learn it before torch.export, or set requires_grad "
                "of the scale to False"
            )
        saved = iter(ctx.saved_tensors)
        x, *grid = (next(saved) if value is None else value for value in ctx.rest)
        inside = rounded(x.detach(), *grid)[1]
        return _torch.fake_quantize_backward(grad_y, inside), *(None for _ in grid)

    return backward


# `torch.ops.nashquant.fake_quantize_per_tensor` is the first two: a scale is a number or a buffer of one.
_OPERATORS: dict[str, Rounded] = {
    "fake_quantize_per_tensor(Tensor x, float scale, int zero_point, int qmin, int qmax)": _rounded_per_tensor,
    "fake_quantize_per_tensor.tensor(Tensor x, Tensor scale, int zero_point, int qmin, int qmax)": _rounded_per_tensor,
    "fake_quantize_per_channel(Tensor x, Tensor scale, Tensor zero_point, int axis, int qmin, int qmax)": (
        _torch.fake_quantize_per_channel
    ),
}


def _define(signature: str, rounded: Rounded) -> None:
    name, _, arguments = signature.partition("(")
    operator = f"nashquant::{name}"
    torch.library.define(operator, f"({arguments} -> Tensor")
    # One implementation for every device. `CompositeImplicitAutograd` would have torch.export take the
    # node apart into round, clamp and mul.
    torch.library.impl(operator, "CompositeExplicitAutograd", lambda *inputs: rounded(*inputs)[0])
    torch.library.register_fake(operator, _like_x)
    torch.library.register_autograd(operator, _straight_through(rounded), setup_context=_keep_inputs)


# Importing this module again, in the same process, finds them there.
if not hasattr(torch.ops.nashquant, "fake_quantize_per_channel"):
    for _signature, _rounded in _OPERATORS.items():
        _define(_signature, _rounded)
