"""The reference of the integer kernels, exact: sums in int64, products of matrices in f64 below 2**53.

Also what runs on other devices and under `torch.compile`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nashquant.arithmetic import NASH, TFLITE, Arithmetic, Rounding

from . import _check
from ._finish import Finish
from ._fixed_point import multiplied, on_common_shift, shifted
from ._output import Output


def requantize(
    acc: Tensor, factor: float | Tensor, output: Output, axis: int | None = None, arithmetic: Arithmetic = NASH
) -> Tensor:
    """`clamp(round(acc * factor) + zero_point, qmin, qmax)`, exactly."""
    value = multiplied(acc, factor, axis, arithmetic) + output.zero_point
    return value.clamp(output.qmin, output.qmax).to(output.dtype)


def add_saturating(
    a: Tensor, b: Tensor, factor_a: float, factor_b: float, sign: int, dtype: torch.dtype, arithmetic: Arithmetic = NASH
) -> Tensor:
    """`saturate(round(a * factor_a + sign * b * factor_b))`, exactly."""
    if arithmetic.rounding is Rounding.TFLITE:
        return _add_as_tflite(a, b, factor_a, factor_b, sign, dtype)
    (of_a, of_b), shift = on_common_shift(factor_a, factor_b)
    total = shifted(a.long() * of_a + sign * b.long() * of_b, shift, arithmetic.rounding)
    return _saturated(total, dtype)


def _add_as_tflite(a: Tensor, b: Tensor, factor_a: float, factor_b: float, sign: int, dtype: torch.dtype) -> Tensor:
    """Each term times 2**20 (int16: 2**15) to the scale of twice the larger, the sum to that of the output."""
    on_common_shift(factor_a, factor_b)  # refuses what is no factor
    twice_larger = 2 * max(factor_a, factor_b)
    if twice_larger == 0:
        return torch.zeros_like(a, dtype=dtype)
    left = 20 if a.dtype == torch.int8 else 15
    term_a = multiplied(a.long() << left, factor_a / twice_larger, None, TFLITE)
    term_b = multiplied(b.long() << left, factor_b / twice_larger, None, TFLITE)
    total = multiplied(term_a + sign * term_b, twice_larger / 2**left, None, TFLITE)
    return _saturated(total, dtype)


def _saturated(value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value`, saturated."""
    ends = torch.iinfo(dtype)
    return value.clamp(ends.min, ends.max).to(dtype)


def mul_saturating(a: Tensor, b: Tensor, factor: float, dtype: torch.dtype, arithmetic: Arithmetic = NASH) -> Tensor:
    """`saturate(round(a * b * factor))`, exactly."""
    return requantize(a.int() * b.int(), factor, Output.of(dtype), None, arithmetic)


def lookup(x: Tensor, table: Tensor) -> Tensor:
    """`table[x - least value of x's dtype]`."""
    return table[x.long() - torch.iinfo(x.dtype).min]


def matmul(a: Tensor, b: Tensor, zero_point_a: int, zero_point_b: int, dtype: torch.dtype) -> Tensor:
    """`(a - zero_point_a) @ (b - zero_point_b)`, exactly."""
    product = (a.double() - zero_point_a) @ (b.double() - zero_point_b)
    return product.to(dtype)


def conv(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
    zero_point_x: int,
    zero_point_weight: int,
    dtype: torch.dtype,
) -> Tensor:
    """Sums of `(x - zero_point_x) * (weight - zero_point_weight)`, exactly; beyond the edges of `x` there is 0."""
    edges = [max(edge, 0) for pair in reversed(padding) for edge in pair]
    padded = F.pad(x.double() - zero_point_x, edges)
    for axis, (before, after) in enumerate(padding, 2):  # where they are less than 0, elements go
        padded = padded.narrow(axis, max(-before, 0), padded.shape[axis] + min(before, 0) + min(after, 0))
    function = (F.conv1d, F.conv2d, F.conv3d)[len(stride) - 1]
    weight = weight.double() - zero_point_weight
    return function(padded, weight, None, stride, 0, dilation, groups).to(dtype)


def finished(acc: Tensor, bias: Tensor | None, axis: int, finish: Finish | None, dtype: torch.dtype) -> Tensor:
    """`acc + bias`, both for each index of `axis`, as accumulators of `dtype`; or requantized."""
    if bias is not None:
        _check.bias_within_i64(bias)
        acc = acc.long() + bias.reshape([-1 if i == axis % acc.dim() else 1 for i in range(acc.dim())])
    if finish is None:
        return acc.to(dtype)
    of = axis if isinstance(finish.factor, Tensor) else None
    return requantize(acc, finish.factor, finish.output, of, finish.arithmetic)
