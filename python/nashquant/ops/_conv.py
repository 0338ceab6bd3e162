"""Convolutions of integers: exact accumulators, or requantized in the same pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nashquant.arithmetic import NASH, Arithmetic

from . import _check, _torch_integer
from ._integer import requantize
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
        x: `[batch, C, *size]`, int8 or int16. The result has its memory format.
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
    _check.integers("x", x.dtype)
    _check.zero_point("zero_point_x", zero_point_x, x.dtype)
    packed = packed_for(x, weight, groups, zero_point_weight)
    over = windows(x, packed, stride, padding, dilation)
    dtype = accumulator(packed.bound(x.dtype, zero_point_x))
    return _torch_integer.conv(x, packed.weight, *over, packed.groups, zero_point_x, packed.zero_point, dtype)


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
    acc = conv(
        x, weight, stride, padding, dilation, groups, zero_point_x=zero_point_x, zero_point_weight=zero_point_weight
    )
    _check.bias(bias, acc.shape[1])
    acc = acc if bias is None else acc.long() + bias.reshape(-1, *[1] * (acc.dim() - 2))
    axis = 1 if isinstance(factor, Tensor) else None
    return requantize(acc, factor, dtype, axis=axis, zero_point=zero_point, qmin=qmin, qmax=qmax, arithmetic=arithmetic)


def packed_for(x: Tensor, weight: Tensor | PackedWeight, groups: int, zero_point: int) -> PackedWeight:
    """`weight`, packed for `x` if it is not yet."""
    if not isinstance(weight, PackedWeight):
        return PackedWeight(weight, x.dtype, groups=groups, zero_point=zero_point)
    _check.packed("x", x, weight.dtype, zero_point)
    if groups not in (1, weight.groups):
        raise ValueError(f"groups is {groups}, but weight was packed for {weight.groups}")
    return weight
