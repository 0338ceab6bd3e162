"""Transposed convolutions of integers: convolutions of `x` with zeros between its elements."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nashquant.arithmetic import NASH, Arithmetic

from . import _check
from ._conv import conv, conv_requantize, packed_for
from ._packed_weight import PackedWeight
from ._windows import Padding, each, pairs


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
    packed = _packed_for(x, weight, groups, zero_point_weight)
    apart, ends, dilation = _spread(x, packed, stride, padding, output_padding, dilation, zero_point_x)
    return conv(apart, packed, 1, ends, dilation, packed.groups, zero_point_x=zero_point_x)


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
    packed = _packed_for(x, weight, groups, zero_point_weight)
    apart, ends, dilation = _spread(x, packed, stride, padding, output_padding, dilation, zero_point_x)
    return conv_requantize(
        apart,
        packed,
        bias,
        factor,
        dtype,
        1,
        ends,
        dilation,
        packed.groups,
        zero_point_x=zero_point_x,
        zero_point=zero_point,
        qmin=qmin,
        qmax=qmax,
        arithmetic=arithmetic,
    )


def _packed_for(x: Tensor, weight: Tensor | PackedWeight, groups: int, zero_point: int) -> PackedWeight:
    if isinstance(weight, PackedWeight):
        return packed_for(x, weight, groups, zero_point)
    _check.integers("x", x.dtype)
    return PackedWeight.transposed(weight, x.dtype, groups=groups, zero_point=zero_point)


def _spread(
    x: Tensor,
    weight: PackedWeight,
    stride: int | Sequence[int],
    padding: Padding,
    output_padding: int | Sequence[int],
    dilation: int | Sequence[int],
    zero_point: int,
) -> tuple[Tensor, tuple[tuple[int, int], ...], tuple[int, ...]]:
    """`x` with `stride - 1` zeros between its elements; the padding and the dilation of the convolution over it."""
    kernel = weight.weight.shape[2:]
    dims = len(kernel)
    if dims < 1 or x.dim() != dims + 2:
        raise ValueError(f"x has shape {list(x.shape)}, but the kernel has {dims} dimensions")
    stride, dilation = each("stride", stride, dims, 1), each("dilation", dilation, dims, 1)
    cut, more = pairs(padding, dims), each("output_padding", output_padding, dims, 0)
    reach = [apart * (k - 1) for apart, k in zip(dilation, kernel, strict=True)]
    before = [r - c[0] for r, c in zip(reach, cut, strict=True)]
    after = [r - c[1] + m for r, c, m in zip(reach, cut, more, strict=True)]
    size = [(n - 1) * step + 1 for n, step in zip(x.shape[2:], stride, strict=True)]
    if 0 in x.shape[2:]:
        raise ValueError(f"x has shape {list(x.shape)}, of which nothing is left")
    apart = torch.full((*x.shape[:2], *size), zero_point, dtype=x.dtype, device=x.device)
    apart[(slice(None), slice(None), *(slice(None, None, step) for step in stride))] = x
    # A convolution adds at its ends; where more is cut off than the kernel reaches, elements go.
    inside = (slice(max(-b, 0), n - max(-a, 0)) for b, a, n in zip(before, after, size, strict=True))
    ends = tuple((max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True))
    return apart[(slice(None), slice(None), *inside)], ends, dilation
