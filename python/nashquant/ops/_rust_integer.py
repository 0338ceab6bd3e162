"""The one place that calls the Rust kernels of integer arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

from nashquant import _core
from nashquant.arithmetic import NASH, Arithmetic

from . import _torch_integer
from ._output import Output
from ._rust import dense


def requantize(
    acc: Tensor, factor: float | Tensor, output: Output, axis: int | None = None, arithmetic: Arithmetic = NASH
) -> Tensor:
    """`acc * factor` as integers of `output`."""
    if acc.dtype != torch.int32 or axis is not None or arithmetic != NASH or output != Output.of(output.dtype):
        return _torch_integer.requantize(acc, factor, output, axis, arithmetic)
    acc = dense(acc)
    y = torch.empty_like(acc, dtype=output.dtype)
    _core.requantize(acc, y, factor=factor)  # type: ignore[arg-type]
    return y


def add_saturating(
    a: Tensor, b: Tensor, factor_a: float, factor_b: float, sign: int, dtype: torch.dtype, arithmetic: Arithmetic = NASH
) -> Tensor:
    """`a * factor_a + sign * b * factor_b` as integers of `dtype`."""
    if sign < 0 or dtype != a.dtype or arithmetic != NASH:
        return _torch_integer.add_saturating(a, b, factor_a, factor_b, sign, dtype, arithmetic)
    a = dense(a)
    if b.stride() != a.stride():
        b = torch.empty_like(a).copy_(b)
    y = torch.empty_like(a)
    _core.add_saturating(a, b, y, factor_a=factor_a, factor_b=factor_b)
    return y
