"""Convolutions of integers: exact accumulators, or requantized in the same pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nashquant.arithmetic import NASH, Arithmetic

from . import _check, _rust, _rust_integer, _torch_integer
from ._finish import Finish
from ._output import Output
from ._packed_weight import PackedWeight, accumulator
from ._windows import Padding, windows


def conv(
    x: Tensor,
    weight: Tensor | PackedWeight,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    zero_point_x: int = 0,
    zero_point_weight: int = 0,
) -> Tensor:
    """The exact convolution over one, two or three dimensions; beyond its edges `x` is `zero_point_x`, which means 0.

    The accumulators are int32 where the weight's values prove that none can leave it; else int64. They never wrap.

    >>> x, weight = torch.ones(1, 1, 3, 3, dtype=torch.int8), torch.full((1, 1, 2, 2), 100, dtype=torch.int8)
    >>> conv(x, weight, padding=(0, 1))
    tensor([[[[200, 400, 400, 200],
              [200, 400, 400, 200]]]], dtype=torch.int32)

    Args:
        x: `[batch, C, *size]`, int8 or int16; channels last is read as it lies, as results come from the kernel.
        weight: `[N, C / groups, *kernel]`, int8 or int16; or packed, with its own groups and zero point.
        stride: one for all dimensions, or one each.
        padding: likewise; or for each dimension a pair, before and after.
        dilation: likewise one or one each.
        groups: how many parts of the channels are convolved each by itself; C of them: depthwise.
        zero_point_x: the integer of `x` that means 0.
        zero_point_weight: that of `weight`.

    Raises:
        TypeError: a dtype is not int8 or int16, or `x` has another than `weight` was packed for.
        ValueError: shapes don't match, a number is out of its range, or nothing is left of `x`.
    """
    packed = packed_for(x, weight, groups, zero_point_weight)
    return _convolved(x, packed, None, (stride, padding, dilation), zero_point_x, None)


def conv_requantize(
    x: Tensor,
    weight: Tensor | PackedWeight,
    bias: Tensor | None,
    factor: float | Tensor,
    dtype: torch.dtype,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    zero_point_x: int = 0,
    zero_point_weight: int = 0,
    zero_point: int = 0,
    qmin: int | None = None,
    qmax: int | None = None,
    arithmetic: Arithmetic = NASH,
) -> Tensor:
    """`requantize(conv(x, weight, ...) + bias, factor, dtype, axis=1)` in one pass, bit for bit.

    Args, and what it raises: as `conv` and `matmul_requantize`.
    """
    packed = packed_for(x, weight, groups, zero_point_weight)
    finish = Finish(factor, Output.of(dtype, zero_point, qmin, qmax), arithmetic)
    return _convolved(x, packed, bias, (stride, padding, dilation), zero_point_x, finish)


def _convolved(
    x: Tensor,
    packed: PackedWeight,
    bias: Tensor | None,
    lie: tuple[int | Sequence[int], Padding, int | Sequence[int]],
    zero_point: int,
    finish: Finish | None,
) -> Tensor:
    _check.zero_point("zero_point_x", zero_point, x.dtype)
    over, weight = windows(x, packed, *lie), packed.weight
    _check.bias(bias, weight.shape[0])
    if finish is not None:
        _check.factor_per_output(finish.factor, weight.shape[0])
    acc = accumulator(packed.bound(x.dtype, zero_point))
    if _rust.takes(x) and _rust.takes(weight) and packed.runs_in_rust:
        return _rust_integer.conv(x, packed.core(), weight.shape, over, zero_point, bias, acc, finish)
    sums = _torch_integer.conv(x, weight, *over, packed.groups, zero_point, packed.zero_point, acc)
    return _torch_integer.finished(sums, bias, 1, finish)


def packed_for(x: Tensor, weight: Tensor | PackedWeight, groups: int, zero_point: int) -> PackedWeight:
    """`weight`, packed for `x` if it is not yet."""
    _check.integers("x", x.dtype)
    if not isinstance(weight, PackedWeight):
        return PackedWeight(weight, x.dtype, groups=groups, zero_point=zero_point)
    _check.packed("x", x, weight.dtype, zero_point)
    if groups not in (1, weight.groups):
        raise ValueError(f"groups is {groups}, but weight was packed for {weight.groups}")
    return weight
