"""Transposed convolutions of integers: where the stride is s, s convolutions side by side along each dimension.

What lies s apart in the result has the same taps: those s apart in the kernel, which meet neighbours in `x`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nashquant.arithmetic import NASH, Arithmetic

from . import _check
from ._conv import convolved, packed_for
from ._finish import Finish
from ._packed_weight import PackedWeight
from ._prepared import Prepared
from ._windows import Padding, Windows, check_shape, each, pairs


class ConvTranspose:
    """`requantize(conv_transpose(x, weight, ...) + bias, factor, dtype, axis=1)`: all but `x` is made ready once.

    Bit for bit `conv_transpose_requantize`; without a factor `conv_transpose`, with the bias added. Nothing that was
    given is looked at again.

    >>> weight = PackedWeight.transposed(torch.tensor([[[3, 4]]], dtype=torch.int8))
    >>> conv_transpose = ConvTranspose(weight, torch.tensor([10], dtype=torch.int32), stride=2)
    >>> conv_transpose(torch.tensor([[[1, 2]]], dtype=torch.int8))
    tensor([[[13, 14, 16, 18]]], dtype=torch.int32)

    Args:
        weight: `PackedWeight.transposed` of `[C, N / groups, *kernel]`.
        stride: as in `conv_transpose`.
        padding: as in `conv_transpose`.
        output_padding: as in `conv_transpose`.
        dilation: as in `conv_transpose`.

    The others, and what it raises: as `Linear` and `conv_transpose`.
    """

    def __init__(
        self,
        weight: PackedWeight,
        bias: Tensor | None = None,
        factor: float | Tensor | None = None,
        dtype: torch.dtype | None = None,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        output_padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        *,
        zero_point_x: int = 0,
        zero_point: int = 0,
        qmin: int | None = None,
        qmax: int | None = None,
        arithmetic: Arithmetic = NASH,
    ) -> None:
        finish = Finish.of(factor, dtype, zero_point, qmin, qmax, arithmetic)
        self._whole = Prepared(weight, bias, zero_point_x, finish, is_transposed=True)
        shape = list(weight.weight.shape)
        kernel, dims = shape[2:], len(shape) - 2
        self._stride, dilation = each("stride", stride, dims, 1), each("dilation", dilation, dims, 1)
        cut, more = pairs(padding, dims), each("output_padding", output_padding, dims, 0)
        # How much longer the result is than `x`, spread.
        ends = zip(cut, more, dilation, kernel, strict=True)
        self._longer = [m - sum(c) + d * (k - 1) for c, m, d, k in ends]
        along = [
            [_Phase.of(first, s, c[0], k, d, longer) for first in range(s)]
            for s, c, k, d, longer in zip(self._stride, cut, kernel, dilation, self._longer, strict=True)
        ]
        self._parts = [self._part(phases, bias, finish) for phases in itertools.product(*along)]

    def _part(
        self, phases: tuple[_Phase, ...], bias: Tensor | None, finish: Finish | None
    ) -> tuple[tuple[_Phase, ...], Prepared, Windows]:
        whole = self._whole.weight
        weight = whole.weight
        for axis, phase in enumerate(phases, 2):
            taps = torch.tensor(phase.taps, dtype=torch.long, device=weight.device)
            none = torch.full_like(weight.narrow(axis, 0, 1), whole.zero_point)
            weight = weight.index_select(axis, taps) if phase.taps else none
        packed = PackedWeight(weight, whole.dtype, groups=whole.groups, zero_point=whole.zero_point)
        padding = tuple((phase.before, phase.after) for phase in phases)
        windows = Windows((1,) * len(phases), padding, tuple(phase.dilation for phase in phases))
        return phases, Prepared(packed, bias, self._whole.zero_point_x, finish), windows

    def __call__(self, x: Tensor) -> Tensor:
        """`[batch, C, *size]` to `[batch, N, *size]`; from the kernel channels last."""
        whole, weight = self._whole, self._whole.weight
        _check.packed("x", x, weight.dtype)
        check_shape(x, weight)
        size = [(n - 1) * s + 1 + longer for n, s, longer in zip(x.shape[2:], self._stride, self._longer, strict=True)]
        if 0 in x.shape[2:] or min(size) < 1:
            raise ValueError(f"x has shape {list(x.shape)}, of which nothing is left")
        y = torch.empty(x.shape[0], *size, weight.weight.shape[0], dtype=whole.dtype, device=x.device).movedim(-1, 1)
        for phases, prepared, windows in self._parts:
            counts = [-((phase.first - n) // s) for phase, n, s in zip(phases, size, self._stride, strict=True)]
            if min(counts) > 0:
                places = (slice(phase.first, None, s) for phase, s in zip(phases, self._stride, strict=True))
                y[(slice(None), slice(None), *places)] = convolved(x, prepared, windows, counts)
        return y

    def __repr__(self) -> str:
        return self._whole.spelled("ConvTranspose")


class _Phase(NamedTuple):
    """Along one dimension, what lies at `first`, `first + stride`, ... in the result: a convolution of stride 1."""

    first: int
    taps: list[int]
    """Of the kernel, which is turned round."""
    dilation: int
    before: int
    after: int

    @classmethod
    def of(cls, first: int, stride: int, cut: int, kernel: int, dilation: int, longer: int) -> _Phase:
        """`y[m * stride + first]` has `x[i] * w[k]` where `i * stride + k * dilation = m * stride + first + cut`."""
        taps = [k for k in range(kernel) if (first + cut - k * dilation) % stride == 0]
        apart = dilation // math.gcd(dilation, stride)
        # For the tap k, i is m + (first + cut - k * dilation) / stride: least for the last.
        last, reach = (taps[-1], apart * (len(taps) - 1)) if taps else (0, 0)
        before = (last * dilation - first - cut) // stride
        # Windows there are one for each of `x`, and so many more.
        more = (longer - first) // stride
        return cls(first, [kernel - 1 - k for k in reversed(taps)], apart, before, more + reach - before)


def conv_transpose(
    x: Tensor,
    weight: Tensor | PackedWeight,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
    *,
    zero_point_x: int = 0,
    zero_point_weight: int = 0,
) -> Tensor:
    """The exact transposed convolution over one, two or three dimensions; arguments in torch's order.

    >>> x, weight = torch.tensor([[[1, 2]]], dtype=torch.int8), torch.tensor([[[3, 4]]], dtype=torch.int8)
    >>> conv_transpose(x, weight, stride=2)
    tensor([[[3, 4, 6, 8]]], dtype=torch.int32)

    Args:
        x: `[batch, C, *size]`, int8 or int16.
        weight: `[C, N / groups, *kernel]`, as torch has it, int8 or int16; or `PackedWeight.transposed` of it.
        stride: one for all dimensions, or one each.
        padding: likewise; or for each dimension a pair. So much less is cut off at both ends.
        output_padding: what is added at the far end; one, or one each.
        groups: how many parts of the channels are convolved each by itself.
        dilation: one, or one each.
        zero_point_x: the integer of `x` that means 0.
        zero_point_weight: that of `weight`.

    Raises:
        TypeError: a dtype is not int8 or int16, or `x` has another than `weight` was packed for.
        ValueError: shapes don't match, a number is out of its range, or nothing is left.
    """
    packed, how = _packed_for(x, weight, groups, zero_point_weight), (stride, padding, output_padding, dilation)
    return ConvTranspose(packed, None, None, None, *how, zero_point_x=zero_point_x)(x)


def conv_transpose_requantize(
    x: Tensor,
    weight: Tensor | PackedWeight,
    bias: Tensor | None,
    factor: float | Tensor,
    dtype: torch.dtype,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
    *,
    zero_point_x: int = 0,
    zero_point_weight: int = 0,
    zero_point: int = 0,
    qmin: int | None = None,
    qmax: int | None = None,
    arithmetic: Arithmetic = NASH,
) -> Tensor:
    """`requantize(conv_transpose(x, weight, ...) + bias, factor, dtype, axis=1)` in one pass, bit for bit.

    Args, and what it raises: as `conv_transpose` and `matmul_requantize`.
    """
    packed, how = _packed_for(x, weight, groups, zero_point_weight), (stride, padding, output_padding, dilation)
    return ConvTranspose(
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


def _packed_for(x: Tensor, weight: Tensor | PackedWeight, groups: int, zero_point: int) -> PackedWeight:
    if isinstance(weight, PackedWeight):
        return packed_for(x, weight, groups, zero_point)
    _check.integers("x", x.dtype)
    return PackedWeight.transposed(weight, x.dtype, groups=groups, zero_point=zero_point)
