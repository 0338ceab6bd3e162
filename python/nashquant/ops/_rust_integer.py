"""The one place that calls the Rust kernels of integer arithmetic: allocates outputs, straightens inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from nashquant import _core
from nashquant.arithmetic import NASH, Arithmetic

from ._output import Output
from ._rust import dense


def landing(output: Output, arithmetic: Arithmetic) -> _core.Landing:
    """How and where a product with a factor lands."""
    return _core.Landing(
        output.zero_point, output.qmin, output.qmax, arithmetic.rounding.value, arithmetic.multiplier_bits
    )


def factors(factor: float | Tensor) -> Tensor:
    """One or many, as the kernels read them."""
    if isinstance(factor, Tensor):
        return factor.contiguous()
    return torch.full((1,), factor, dtype=torch.float64)


def requantize(
    acc: Tensor, factor: float | Tensor, output: Output, axis: int | None = None, arithmetic: Arithmetic = NASH
) -> Tensor:
    """`acc * factor` as integers of `output`."""
    acc = dense(acc)
    y = torch.empty_like(acc, dtype=output.dtype)
    _core.requantize(acc, y, factors(factor), axis=axis, landing=landing(output, arithmetic))
    return y


def add_saturating(
    a: Tensor, b: Tensor, factor_a: float, factor_b: float, sign: int, dtype: torch.dtype, arithmetic: Arithmetic = NASH
) -> Tensor:
    """`a * factor_a + sign * b * factor_b` as integers of `dtype`."""
    a, b = _alike(a, b)
    y = torch.empty_like(a, dtype=dtype)
    _core.add_saturating(
        a, b, y, factor_a=factor_a, factor_b=factor_b, subtract=sign < 0, rounding=arithmetic.rounding.value
    )
    return y


def mul_saturating(a: Tensor, b: Tensor, factor: float, dtype: torch.dtype, arithmetic: Arithmetic = NASH) -> Tensor:
    """`a * b * factor` as integers of `dtype`."""
    a, b = _alike(a, b)
    y, bits = torch.empty_like(a, dtype=dtype), arithmetic.multiplier_bits
    _core.mul_saturating(a, b, y, factor=factor, rounding=arithmetic.rounding.value, multiplier_bits=bits)
    return y


def lookup(x: Tensor, table: Tensor) -> Tensor:
    """What the table says of each element."""
    x = dense(x)
    y = torch.empty_like(x, dtype=table.dtype)
    _core.lookup(x, table.contiguous(), y)
    return y


def _alike(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both dense and in one order of axes."""
    a = dense(a)
    return a, b if b.stride() == a.stride() else torch.empty_like(a).copy_(b)
