"""The one place that calls the Rust kernels of integer arithmetic: allocates outputs, straightens inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nashquant import _core
from nashquant.arithmetic import NASH, Arithmetic

from ._finish import Finish
from ._output import Output
from ._rust import dense
from ._windows import Windows

Weight = _core.Weight
Linear = _core.Linear


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


def pack(weight: Tensor, dtype: torch.dtype, groups: int = 1, depthwise: bool = False) -> Weight:
    """`[N, K]`, ready for activations of `dtype`."""
    return _core.Weight(weight.contiguous(), groups=groups, wide=dtype == torch.int16, depthwise=depthwise)


def linear(weight: Weight, zero_point: int, bias: Tensor | None, finish: Finish | None) -> Linear:
    """A product with `weight`, ready but for the activations: as accumulators, or finished."""
    return _core.Linear(
        weight,
        zero_point=zero_point,
        bias=None if bias is None else bias.contiguous(),
        factor=None if finish is None else factors(finish.factor),
        landing=None if finish is None else landing(finish.output, finish.arithmetic),
    )


def matmul(a: Tensor, linear: Linear, n: int, dtype: torch.dtype) -> Tensor:
    """`a @ weight.T` of `n` columns of `dtype`."""
    leading = a.shape[:-1]
    rows = a if len(leading) == 1 else a.reshape(leading.numel(), a.shape[-1])
    y = torch.empty((len(rows), n), dtype=dtype)
    _core.matmul(rows.contiguous(), linear, y)
    return y if len(leading) == 1 else y.view(*leading, n)


def conv(
    x: Tensor, linear: Linear, shape: Sequence[int], over: Windows, counts: Sequence[int], dtype: torch.dtype
) -> Tensor:
    """The convolution with a weight of that shape, of so many windows, to `dtype`; channels last."""
    one = [1] * (5 - x.dim())
    last = x.movedim(1, -1).contiguous()
    y = torch.empty(x.shape[0], *counts, shape[0], dtype=dtype)
    _core.conv(
        last.reshape(x.shape[0], *one, *last.shape[1:]),
        linear,
        y.view(x.shape[0], *one, *y.shape[1:]),
        kernel=[*one, *shape[2:]],
        stride=[*one, *over.stride],
        before=[*[0 for _ in one], *[before for before, _ in over.padding]],
        dilation=[*one, *over.dilation],
    )
    return y.movedim(-1, 1)


def _alike(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both dense and in one order of axes."""
    a = dense(a)
    return a, b if b.stride() == a.stride() else torch.empty_like(a).copy_(b)
