"""Products of integer matrices: exact accumulators, or requantized in the same pass."""

from __future__ import annotations

import torch
from torch import Tensor

from nashquant.arithmetic import NASH, Arithmetic

from . import _check, _torch_integer
from ._integer import requantize
from ._packed_weight import PackedWeight, accumulator, largest


def matmul(a: Tensor, b: Tensor | PackedWeight, *, zero_point_a: int = 0, zero_point_b: int = 0) -> Tensor:
    """The exact product `(a - zero_point_a) @ (b - zero_point_b)`; with a `PackedWeight`, `a @ weight.T`.

    The accumulators are int32 where none can leave it, which shapes, dtypes and a packed weight's own values prove;
    else int64. They never wrap.

    >>> a, b = torch.tensor([[100, -3]], dtype=torch.int8), torch.tensor([[127], [1]], dtype=torch.int8)
    >>> matmul(a, b)
    tensor([[12697]], dtype=torch.int32)

    Args:
        a: `[..., M, K]` or `[K]`, int8 or int16.
        b: `[..., K, N]`, int8 or int16, its leading dimensions broadcast with those of `a`; or a packed `[N, K]`, whose
            zero point is its own.
        zero_point_a: the integer of `a` that means 0.
        zero_point_b: that of `b`.

    Raises:
        TypeError: a dtype is not int8 or int16, or `a` has another than `b` was packed for.
        ValueError: shapes don't match, or a zero point is no integer of its dtype.
    """
    _check.integers("a", a.dtype)
    _check.zero_point("zero_point_a", zero_point_a, a.dtype)
    if isinstance(b, PackedWeight):
        _check.packed("a", a, b.dtype, zero_point_b)
        if b.weight.dim() != 2:
            raise ValueError(f"b has shape {list(b.weight.shape)}, but of a matrix product must be packed from [N, K]")
        bound, other, zero_point_b = b.bound(a.dtype, zero_point_a), b.weight.T, b.zero_point
    else:
        _check.integers("b", b.dtype)
        _check.zero_point("zero_point_b", zero_point_b, b.dtype)
        if b.dim() < 2:
            raise ValueError(f"b has shape {list(b.shape)}, but must have 2 dimensions or more")
        bound, other = b.shape[-2] * largest(a.dtype, zero_point_a) * largest(b.dtype, zero_point_b), b
    if a.dim() < 1 or a.shape[-1] != other.shape[-2]:
        raise ValueError(f"a has shape {list(a.shape)}, but its last dimension must be {other.shape[-2]}, as b has")
    return _torch_integer.matmul(a, other, zero_point_a, zero_point_b, accumulator(bound))


def matmul_requantize(
    a: Tensor,
    b: Tensor | PackedWeight,
    bias: Tensor | None,
    factor: float | Tensor,
    dtype: torch.dtype,
    *,
    zero_point_a: int = 0,
    zero_point_b: int = 0,
    zero_point: int = 0,
    qmin: int | None = None,
    qmax: int | None = None,
    arithmetic: Arithmetic = NASH,
) -> Tensor:
    """`requantize(matmul(a, b) + bias, factor, dtype, axis=-1)` in one pass, bit for bit.

    >>> a, b = torch.tensor([[100, -3]], dtype=torch.int8), torch.tensor([[127], [1]], dtype=torch.int8)
    >>> matmul_requantize(a, b, torch.tensor([3], dtype=torch.int32), 0.01, torch.int8)
    tensor([[127]], dtype=torch.int8)

    Args:
        a: as in `matmul`.
        b: as in `matmul`.
        bias: `[N]`, int32 or int64, in steps of the accumulator; or None.
        factor: `scale of a * scale of b / scale of y`: one, or f64 `[N]`.
        dtype: `torch.int8` or `torch.int16`.
        zero_point_a: as in `matmul`.
        zero_point_b: as in `matmul`.
        zero_point: the integer of the result that means 0.
        qmin: least integer of the result; 0 makes a ReLU of it.
        qmax: greatest integer of the result.
        arithmetic: how another chip rounds.

    Raises:
        TypeError: as `matmul` and `requantize`; or `bias` is not int32 or int64.
        ValueError: as `matmul` and `requantize`; or `bias` has not N elements.
    """
    acc = matmul(a, b, zero_point_a=zero_point_a, zero_point_b=zero_point_b)
    _check.bias(bias, acc.shape[-1])
    acc = acc if bias is None else acc.long() + bias
    axis = -1 if isinstance(factor, Tensor) else None
    return requantize(acc, factor, dtype, axis=axis, zero_point=zero_point, qmin=qmin, qmax=qmax, arithmetic=arithmetic)
