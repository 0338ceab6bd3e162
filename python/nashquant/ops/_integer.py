"""Arithmetic on integers, element by element: exact, rounded and saturated as the chip's `Arithmetic` says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nashquant.arithmetic import NASH, Arithmetic

from . import _check, _rust, _rust_integer, _torch_integer
from ._output import Output


def requantize(
    acc: Tensor,
    factor: float | Tensor,
    dtype: torch.dtype,
    *,
    axis: int | None = None,
    zero_point: int = 0,
    qmin: int | None = None,
    qmax: int | None = None,
    arithmetic: Arithmetic = NASH,
) -> Tensor:
    """The accumulators `acc` on the integers of `dtype`: rounded once, half to even, and saturated once.

    `y = clamp(round_half_even(acc * factor) + zero_point, qmin, qmax)`, exactly. A factor is a fixed-point number: the
    nearest of 31 bits, `multiplier * 2**-shift`; below 2**-63 it is 0.

    >>> requantize(torch.tensor([1, 3, -1, 99, -2000], dtype=torch.int32), 0.5, torch.int8)
    tensor([   0,    2,    0,   50, -128], dtype=torch.int8)

    Args:
        acc: any shape and strides; int32 or int64. The result has the same.
        factor: `scale of acc / scale of y`; at least 0 and less than 2**31. One, or f64 `[C]`.
        dtype: `torch.int8` or `torch.int16`.
        axis: where the `C` factors lie, if there are many.
        zero_point: the integer that means 0.
        qmin: least integer; that of `dtype` if None. With `zero_point`, a ReLU.
        qmax: greatest integer, likewise.
        arithmetic: how it rounds, and how many bits a multiplier has, on another chip.

    Raises:
        ValueError: a factor is out of its range, or NaN; there are not as many as `axis` has indices; `qmin`, `qmax` or
            `zero_point` is none of `dtype`.
        TypeError: a dtype is not as above.
        IndexError: `acc` has no such axis.
    """
    _check.accumulator(acc)
    _check.factors(factor, acc, axis)
    output = Output.of(dtype, zero_point, qmin, qmax)
    kernel = _rust_integer.requantize if _rust.takes(acc) else _torch_integer.requantize
    return kernel(acc, factor, output, axis, arithmetic)


def add_saturating(
    a: Tensor,
    b: Tensor,
    factor_a: float,
    factor_b: float,
    *,
    dtype: torch.dtype | None = None,
    arithmetic: Arithmetic = NASH,
) -> Tensor:
    """The sum of two tensors of integers with scales of their own: rounded once, half to even, and saturated once.

    `y = saturate(round_half_even(a * factor_a + b * factor_b))`, exactly. The factors are fixed-point numbers on one
    shift: 31 bits for the larger, and what is left to the smaller. (TFLite rounds each term first, see numerics.md.)

    >>> a, b = torch.tensor([1, 3, 100, -100], dtype=torch.int8), torch.tensor([1, 0, 100, -100], dtype=torch.int8)
    >>> add_saturating(a, b, 0.5, 1.5)
    tensor([   2,    2,  127, -128], dtype=torch.int8)

    Args:
        a: any shape and strides; int8 or int16. The result has the same.
        b: of `a`'s shape and dtype; nothing is broadcast (`expand` it).
        factor_a: `scale of a / scale of y`; at least 0 and less than 2**31.
        factor_b: `scale of b / scale of y`; likewise.
        dtype: `torch.int8` or `torch.int16`, that of `a` if None.
        arithmetic: how another chip rounds.

    Raises:
        ValueError: a factor is out of its range or NaN, or `b` has another shape or dtype than `a`.
        TypeError: `a` or `dtype` is not int8 or int16.
    """
    return _add(a, b, factor_a, factor_b, 1, dtype, arithmetic)


def sub_saturating(
    a: Tensor,
    b: Tensor,
    factor_a: float,
    factor_b: float,
    *,
    dtype: torch.dtype | None = None,
    arithmetic: Arithmetic = NASH,
) -> Tensor:
    """As `add_saturating`: `saturate(round_half_even(a * factor_a - b * factor_b))`.

    >>> a, b = torch.tensor([1, 3, 100], dtype=torch.int8), torch.tensor([1, 0, -100], dtype=torch.int8)
    >>> sub_saturating(a, b, 0.5, 1.5)
    tensor([ -1,   2, 127], dtype=torch.int8)
    """
    return _add(a, b, factor_a, factor_b, -1, dtype, arithmetic)


def _add(
    a: Tensor,
    b: Tensor,
    factor_a: float,
    factor_b: float,
    sign: int,
    dtype: torch.dtype | None,
    arithmetic: Arithmetic,
) -> Tensor:
    _check.terms(a, b)
    dtype = a.dtype if dtype is None else dtype
    _check.integers("y", dtype)
    rust = _rust.takes(a) and _rust.takes(b)
    kernel = _rust_integer.add_saturating if rust else _torch_integer.add_saturating
    return kernel(a, b, factor_a, factor_b, sign, dtype, arithmetic)


def mul_saturating(
    a: Tensor, b: Tensor, factor: float, *, dtype: torch.dtype | None = None, arithmetic: Arithmetic = NASH
) -> Tensor:
    """The product of two tensors of integers: `saturate(round_half_even(a * b * factor))`, exactly.

    >>> a, b = torch.tensor([1, 3, 100], dtype=torch.int8), torch.tensor([5, 5, -100], dtype=torch.int8)
    >>> mul_saturating(a, b, 0.5)
    tensor([   2,    8, -128], dtype=torch.int8)

    Args:
        a: any shape and strides; int8 or int16. The result has the same.
        b: of `a`'s shape and dtype; nothing is broadcast.
        factor: `scale of a * scale of b / scale of y`; at least 0 and less than 2**31.
        dtype: `torch.int8` or `torch.int16`, that of `a` if None.
        arithmetic: how another chip rounds.

    Raises:
        ValueError: the factor is out of its range or NaN, or `b` has another shape or dtype than `a`.
        TypeError: `a` or `dtype` is not int8 or int16.
    """
    _check.terms(a, b)
    dtype = a.dtype if dtype is None else dtype
    _check.integers("y", dtype)
    rust = _rust.takes(a) and _rust.takes(b)
    kernel = _rust_integer.mul_saturating if rust else _torch_integer.mul_saturating
    return kernel(a, b, factor, dtype, arithmetic)


def lookup(x: Tensor, table: Tensor) -> Tensor:
    """`table[x - least integer of x]`: what a table gives for each element.

    >>> negated = torch.arange(128, -128, -1).clamp(max=127).to(torch.int8)
    >>> lookup(torch.tensor([-128, 0, 5], dtype=torch.int8), negated)
    tensor([127,   0,  -5], dtype=torch.int8)

    Args:
        x: any shape and strides; int8 or int16. The result has the same.
        table: int8 or int16; 256 entries for int8, 65,536 for int16.

    Raises:
        ValueError: the table has another number of entries.
        TypeError: a dtype is not as above.
    """
    _check.integers("x", x.dtype)
    _check.integers("table", table.dtype)
    entries = 1 << (8 * x.element_size())
    if table.shape != (entries,):
        raise ValueError(f"table has shape {list(table.shape)}, but must have [{entries}] for {x.dtype}")
    kernel = _rust_integer.lookup if _rust.takes(x) and _rust.takes(table) else _torch_integer.lookup
    return kernel(x, table)


def lookup_table(
    function: Callable[[Tensor], Tensor],
    scale_in: float,
    scale_out: float,
    dtype_in: torch.dtype,
    dtype_out: torch.dtype,
    *,
    zero_point_in: int = 0,
    zero_point_out: int = 0,
    arithmetic: Arithmetic = NASH,
) -> Tensor:
    """The table of `function` for `lookup`: `table[q] = saturate(round_half_even(function(q * scale_in) / scale_out))`.

    Computed in f64. Where the chip's tables have fewer entries than int16 has integers (`table_bits`), the entries lie
    on a straight line between those it has, rounded half to even. NaN gives the least integer. Zero points are taken
    off before, and added after rounding.

    >>> table = lookup_table(torch.sigmoid, 8 / 128, 1 / 128, torch.int8, torch.int8)
    >>> table[[0, 128, 255]]
    tensor([  0,  64, 127], dtype=torch.int8)

    Args:
        function: from an f64 tensor `[n]` to one of the same shape; or to `[..., n]`, which makes several tables.
        scale_in: of the input.
        scale_out: of the output.
        dtype_in: `torch.int8` or `torch.int16`.
        dtype_out: `torch.int8` or `torch.int16`.
        zero_point_in: the integer of the input that means 0.
        zero_point_out: that of the output.
        arithmetic: of another chip.

    Raises:
        TypeError: a dtype is not as above.
        ValueError: a scale is not positive and finite.
    """
    _check.integers("x", dtype_in)
    _check.integers("table", dtype_out)
    _check.positive("scale_in", scale_in)
    _check.positive("scale_out", scale_out)
    ends_in, ends = torch.iinfo(dtype_in), torch.iinfo(dtype_out)
    step = 1 if dtype_in == torch.int8 else 1 << (16 - arithmetic.table_bits)
    knots = torch.arange(ends_in.min, ends_in.max + 1 + step, step, dtype=torch.float64)
    knots = knots if step > 1 else knots[:-1]
    values = torch.round(function((knots - zero_point_in) * scale_in) / scale_out) + zero_point_out
    values = torch.nan_to_num(values, nan=ends.min).clamp(ends.min, ends.max)
    if step > 1:
        parts = torch.arange(step, dtype=torch.float64) / step
        first, rise = values[..., :-1, None], values.diff()[..., None]
        values = torch.round(first + rise * parts).flatten(-2)
    return values.to(dtype_out)
