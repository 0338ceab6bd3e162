"""Convolutions of integers: exact accumulators, or requantized in the same pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nashquant.arithmetic import NASH, Arithmetic

from . import _check, _rust_integer, _torch_integer
from ._finish import Finish
from ._packed_weight import PackedWeight
from ._prepared import Prepared
from ._windows import Padding, Windows


class Conv:
    """`requantize(conv(x, weight, ...) + bias, factor, dtype, axis=1)`: all but `x` is made ready once.

    Bit for bit `conv_requantize`; without a factor `conv`, with the bias added. Nothing that was given is looked at
    again.

    >>> weight = PackedWeight(torch.full((1, 1, 2, 2), 100, dtype=torch.int8))
    >>> conv = Conv(weight, torch.tensor([28], dtype=torch.int32), 0.25, torch.int8, padding=(0, 1))
    >>> conv(torch.ones(1, 1, 3, 3, dtype=torch.int8))
    tensor([[[[ 57, 107, 107,  57],
              [ 57, 107, 107,  57]]]], dtype=torch.int8)

    Args:
        weight: packed from `[N, C / groups, *kernel]`, with its groups.
        stride: as in `conv`.
        padding: as in `conv`.
        dilation: as in `conv`.

    The others, and what it raises: as `Linear` and `conv`.
    """

    def __init__(
        self,
        weight: PackedWeight,
        bias: Tensor | None = None,
        factor: float | Tensor | None = None,
        dtype: torch.dtype | None = None,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        *,
        zero_point_x: int = 0,
        zero_point: int = 0,
        qmin: int | None = None,
        qmax: int | None = None,
        arithmetic: Arithmetic = NASH,
    ) -> None:
        self._prepared = Prepared(
            weight, bias, zero_point_x, Finish.of(factor, dtype, zero_point, qmin, qmax, arithmetic)
        )
        self._windows = Windows.of(weight, stride, padding, dilation)

    def __call__(self, x: Tensor) -> Tensor:
        """`[batch, C, *size]` to `[batch, N, *windows]`; from the kernel channels last."""
        weight = self._prepared.weight
        _check.packed("x", x, weight.dtype)
        return convolved(x, self._prepared, self._windows, self._windows.over(x, weight))

    def __repr__(self) -> str:
        return self._prepared.spelled("Conv")


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
    packed, how = packed_for(x, weight, groups, zero_point_weight), (stride, padding, dilation)
    return Conv(packed, None, None, None, *how, zero_point_x=zero_point_x)(x)


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
    packed, how = packed_for(x, weight, groups, zero_point_weight), (stride, padding, dilation)
    return Conv(
        packed,
        bias,
        factor,
        dtype,
        *how,
        zero_point_x=zero_point_x,
        zero_point=zero_point,
        qmin=qmin,
        qmax=qmax,
        arithmetic=arithmetic,
    )(x)


def convolved(x: Tensor, prepared: Prepared, windows: Windows, counts: Sequence[int]) -> Tensor:
    """What `windows`, so many along each dimension, make of `x`."""
    weight = prepared.weight
    if prepared.runs_in_rust(x):
        assert prepared.core is not None
        return _rust_integer.conv(x, prepared.core, weight.weight.shape, windows, counts, prepared.dtype)
    zeros = prepared.zero_point_x, weight.zero_point
    return prepared.finished(_torch_integer.conv(x, weight.weight, *windows, weight.groups, *zeros, prepared.sums), 1)


def packed_for(x: Tensor, weight: Tensor | PackedWeight, groups: int, zero_point: int) -> PackedWeight:
    """`weight`, packed for `x` if it is not yet."""
    _check.integers("x", x.dtype)
    if not isinstance(weight, PackedWeight):
        return PackedWeight(weight, x.dtype, groups=groups, zero_point=zero_point)
    _check.packed("x", x, weight.dtype, zero_point)
    if groups not in (1, weight.groups):
        raise ValueError(f"groups is {groups}, but weight was packed for {weight.groups}")
    return weight
