"""Products of integer matrices: exact accumulators, or requantized in the same pass."""

from __future__ import annotations

import torch
from torch import Tensor

from nashquant.arithmetic import NASH, Arithmetic

from . import _check, _rust, _rust_integer, _torch_integer
from ._finish import Finish
from ._linear import Linear
from ._output import Output
from ._packed_weight import PackedWeight, accumulator, fits_16_bits, largest

_SMALL = 1 << 19
"""Products in one matrix up to which many matrices are one call in float, whose sums are exact: 3 to 15 times as fast
as a kernel's call for each at 80,000 of them or fewer; at 2,500,000 no faster (int8), or half as fast (int16)."""


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
    if isinstance(b, PackedWeight):
        _check_packed(a, b, zero_point_a, zero_point_b)
        return Linear(b, zero_point_x=zero_point_a)(a)
    return _product(a, b, None, zero_point_a, zero_point_b, None)


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
        ValueError: as `matmul` and `requantize`; or `bias` has not N elements, or one beyond
            -2**62 or 2**62.
    """
    if isinstance(b, PackedWeight):
        _check_packed(a, b, zero_point_a, zero_point_b)
        return Linear(
            b,
            bias,
            factor,
            dtype,
            zero_point_x=zero_point_a,
            zero_point=zero_point,
            qmin=qmin,
            qmax=qmax,
            arithmetic=arithmetic,
        )(a)
    finish = Finish(factor, Output.of(dtype, zero_point, qmin, qmax), arithmetic)
    return _product(a, b, bias, zero_point_a, zero_point_b, finish)


def _product(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    zero_point_a: int,
    zero_point_b: int,
    finish: Finish | None,
) -> Tensor:
    _check.integers("a", a.dtype)
    _check.zero_point("zero_point_a", zero_point_a, a.dtype)
    _check.integers("b", b.dtype)
    _check.zero_point("zero_point_b", zero_point_b, b.dtype)
    if b.dim() < 2:
        raise ValueError(f"b has shape {list(b.shape)}, but must have 2 dimensions or more")
    depth, n = b.shape[-2:]
    _check_operands(a, depth, bias, n, finish)
    _check.broadcast(a.shape[:-2], b.shape[:-2])
    bound = depth * largest(a.dtype, zero_point_a) * largest(b.dtype, zero_point_b)
    acc = accumulator(bound)
    if not (_rust.takes(a) and _rust.takes(b) and fits_16_bits(b.dtype, zero_point_b)):
        sums = _torch_integer.matmul(a, b, zero_point_a, zero_point_b, acc)
        return _torch_integer.finished(sums, bias, -1, finish, acc)
    rows = 1 if a.dim() == 1 else a.shape[-2]
    if b.dim() > 2 and rows * depth * n <= _SMALL:
        return _many_small(a, b, bias, zero_point_a, zero_point_b, bound, acc, finish)
    if zero_point_b:
        b = b.short() - zero_point_b

    dtype = acc if finish is None else finish.output.dtype

    def one(a: Tensor, b: Tensor) -> Tensor:
        linear = _rust_integer.linear(_rust_integer.pack(b.T, a.dtype), zero_point_a, bias, finish)
        return _rust_integer.matmul(a, linear, n, dtype)

    if b.dim() == 2:
        return one(a, b)
    matrix = a.reshape(1, -1) if a.dim() == 1 else a
    leading: torch.Size = torch.broadcast_shapes(matrix.shape[:-2], b.shape[:-2])  # type: ignore[no-untyped-call]
    many = (
        matrix.expand(*leading, *matrix.shape[-2:]).flatten(0, -3),
        b.expand(*leading, *b.shape[-2:]).flatten(0, -3),
    )
    y = (
        torch.stack([one(*pair) for pair in zip(*many, strict=True)])
        if leading.numel()
        else torch.empty(0, dtype=dtype)
    )
    return y.reshape(*leading, *a.shape[-2:-1], n)


def _check_packed(a: Tensor, b: PackedWeight, zero_point_a: int, zero_point_b: int) -> None:
    _check.integers("a", a.dtype)
    _check.packed("a", a, b.dtype, zero_point_b)
    _check.zero_point("zero_point_a", zero_point_a, a.dtype)
    if b.weight.dim() != 2:
        raise ValueError(f"b has shape {list(b.weight.shape)}, but of a matrix product must be packed from [N, K]")
    _check_depth(a, b.weight.shape[1])


def _check_depth(a: Tensor, depth: int) -> None:
    if a.dim() < 1 or a.shape[-1] != depth:
        raise ValueError(f"a has shape {list(a.shape)}, but its last dimension must be {depth}, as b has")


def _check_operands(a: Tensor, depth: int, bias: Tensor | None, n: int, finish: Finish | None) -> None:
    _check_depth(a, depth)
    _check.bias(bias, n)
    if finish is not None:
        _check.factor_per_output(finish.factor, n)


def _many_small(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None,
    zero_point_a: int,
    zero_point_b: int,
    bound: float,
    acc: torch.dtype,
    finish: Finish | None,
) -> Tensor:
    """All matrices in one call: no sum leaves `bound`, so that f32 holds each below 2**24, and f64 below 2**53."""
    real = torch.float32 if bound < 2**24 else torch.float64
    product = ((a.to(real) - zero_point_a) @ (b.to(real) - zero_point_b)).to(acc)
    if finish is None:
        return product
    if bias is not None:
        _check.bias_within_i64(bias)
    total = product if bias is None else product.long() + bias
    axis = total.dim() - 1 if isinstance(finish.factor, Tensor) else None
    return _rust_integer.requantize(total, finish.factor, finish.output, axis, finish.arithmetic)
