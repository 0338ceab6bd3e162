"""A linear layer of integers."""

from __future__ import annotations

import torch
from torch import Tensor

from nashquant.arithmetic import NASH, Arithmetic

from . import _check, _rust_integer, _torch_integer
from ._finish import Finish
from ._packed_weight import PackedWeight
from ._prepared import Prepared


class Linear:
    """`requantize((x - zero_point_x) @ weight.T + bias, factor, dtype, axis=-1)`: all but `x` is made ready once.

    Bit for bit `matmul_requantize`; without a factor `matmul`, with the bias added. Nothing that was given is looked at
    again.

    >>> weight = PackedWeight(torch.tensor([[1, 2, 3], [4, 5, -6]], dtype=torch.int8))
    >>> linear = Linear(weight, torch.tensor([10, 0], dtype=torch.int32), 0.5, torch.int8)
    >>> linear(torch.tensor([[1, 1, 1], [9, 9, 9]], dtype=torch.int8))
    tensor([[ 8,  2],
            [32, 14]], dtype=torch.int8)
    >>> Linear(weight)(torch.tensor([1, 1, 1], dtype=torch.int8))
    tensor([6, 3], dtype=torch.int32)

    Args:
        weight: packed from `[N, K]`.
        bias: `[N]`, int32 or int64, in steps of the accumulator; or None.
        factor: `scale of x * scale of weight / scale of y`: one, or f64 `[N]`. None: accumulators are wanted, int32
            where none can leave it, else int64.
        dtype: of the result, `torch.int8` or `torch.int16`; None without a factor.
        zero_point_x: the integer of `x` that means 0.
        zero_point: that of the result.
        qmin: least integer of the result; 0 makes a ReLU of it.
        qmax: greatest integer of the result.
        arithmetic: how another chip rounds.

    Raises:
        TypeError: a dtype is not as above, or `x` has another than `weight` was packed for.
        ValueError: shapes don't match; a number is no integer of its dtype; a bias lies beyond -2**62 or 2**62; there
            is a factor without a dtype, or one that is negative or 2**31 or more; or `zero_point`, `qmin` or `qmax`
            without a factor.
    """

    def __init__(
        self,
        weight: PackedWeight,
        bias: Tensor | None = None,
        factor: float | Tensor | None = None,
        dtype: torch.dtype | None = None,
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
        if weight.weight.dim() != 2:
            raise ValueError(f"weight has shape {list(weight.weight.shape)}, but must be packed from [N, K]")
        if weight.groups != 1:
            raise ValueError(f"weight has {weight.groups} groups, but of a matrix product must have one")
        self._n, self._depth = weight.weight.shape

    def __call__(self, x: Tensor) -> Tensor:
        """`[..., K]` or `[K]` to `[..., N]` or `[N]`."""
        prepared = self._prepared
        weight = prepared.weight
        _check.packed("x", x, weight.dtype)
        if x.dim() < 1 or x.shape[-1] != self._depth:
            raise ValueError(
                f"x has shape {list(x.shape)}, but its last dimension must be {self._depth}, as weight has"
            )
        if prepared.runs_in_rust(x):
            assert prepared.core is not None
            return _rust_integer.matmul(x, prepared.core, self._n, prepared.dtype)
        zeros = prepared.zero_point_x, weight.zero_point
        return prepared.finished(_torch_integer.matmul(x, weight.weight.T, *zeros, prepared.sums), -1)

    def __repr__(self) -> str:
        return self._prepared.spelled("Linear")
