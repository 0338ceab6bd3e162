"""A weight that is made ready once, for many products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _check
from ._rust_integer import Weight, pack


class PackedWeight:
    """A weight in the order its kernel reads, with the proof of how wide its accumulators must be.

    `matmul` and `conv` take it in the place of a weight, and need not prepare it again.

    >>> weight = PackedWeight(torch.tensor([[1, 2, 3], [4, 5, -6]], dtype=torch.int8))
    >>> weight
    PackedWeight([2, 3], torch.int8, for torch.int8)
    >>> weight.bound(torch.int8)
    1920

    Args:
        weight: `[N, K]` of a linear layer, or `[N, C / groups, *kernel]` of a convolution; int8 or int16.
        dtype: that of the activations it will meet.
        groups: of the convolution.
        zero_point: the integer of `weight` that means 0.

    Raises:
        TypeError: a dtype is not int8 or int16.
        ValueError: `weight` has fewer than 2 or more than 5 dimensions, `groups` does not divide N, or `zero_point` is
            no integer of its dtype.
    """

    def __init__(
        self, weight: Tensor, dtype: torch.dtype = torch.int8, *, groups: int = 1, zero_point: int = 0
    ) -> None:
        _check.integers("weight", weight.dtype)
        _check.integers("x", dtype)
        _check.zero_point("zero_point", zero_point, weight.dtype)
        if not 2 <= weight.dim() <= 5:
            raise ValueError(f"weight has shape {list(weight.shape)}, but must have 2 to 5 dimensions")
        if groups < 1 or weight.shape[0] % groups:
            raise ValueError(f"weight has {weight.shape[0]} outputs, but groups is {groups}")
        # A copy: what is proved here of its values must hold when they are packed.
        self.weight = weight.detach().clone(memory_format=torch.contiguous_format)
        self.dtype, self.groups, self.zero_point = dtype, groups, zero_point
        self.is_transposed = False
        sums = (self.weight.flatten(1).long() - zero_point).abs().sum(1)
        self._core: Weight | None = None
        self.largest_sum = int(sums.max()) if sums.numel() else 0

    @classmethod
    def transposed(
        cls, weight: Tensor, dtype: torch.dtype = torch.int8, *, groups: int = 1, zero_point: int = 0
    ) -> PackedWeight:
        """The same for `conv_transpose`, from `[C, N / groups, *kernel]`, as torch has the weight.

        Raises:
            TypeError, ValueError: as `PackedWeight`; or `groups` does not divide C.
        """
        if not 3 <= weight.dim() <= 5 or groups < 1 or weight.shape[0] % groups:
            raise ValueError(f"weight has shape {list(weight.shape)}, which are no {groups} groups of kernels")
        parts = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
        packed = cls(parts.flip(list(range(2, weight.dim()))), dtype, groups=groups, zero_point=zero_point)
        packed.is_transposed = True
        return packed

    @property
    def runs_in_rust(self) -> bool:
        """Do its integers, less the zero point, fit into 16 bits?"""
        return fits_16_bits(self.weight.dtype, self.zero_point)

    def core(self) -> Weight:
        """What the kernels read; packed when it is first asked for, and kept."""
        if self._core is None:
            weight, (n, part) = self.weight, self.weight.shape[:2]
            if self.zero_point:
                weight = weight.short() - self.zero_point
            depthwise = self.groups > 1 and self.groups == n and part == 1
            self._core = pack(weight.movedim(1, -1).flatten(1), self.dtype, self.groups, depthwise)
        return self._core

    def bound(self, dtype: torch.dtype, zero_point: int = 0) -> int:
        """What no accumulator exceeds, for activations of `dtype`: the largest sum of magnitudes times theirs."""
        return self.largest_sum * largest(dtype, zero_point)

    def __repr__(self) -> str:
        return f"PackedWeight({list(self.weight.shape)}, {self.weight.dtype}, for {self.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _packed, (self.weight, self.dtype, self.groups, self.zero_point, self.is_transposed)


def fits_16_bits(dtype: torch.dtype, zero_point: int) -> bool:
    """Do all integers of `dtype`, less the zero point, fit into 16 bits, as the kernels have weights?"""
    return zero_point == 0 or dtype == torch.int8


def largest(dtype: torch.dtype, zero_point: int) -> int:
    """The largest magnitude that an integer of `dtype` may mean."""
    ends = torch.iinfo(dtype)
    return max(ends.max - zero_point, zero_point - ends.min)


def accumulator(bound: int) -> torch.dtype:
    """The narrowest dtype of sums that never exceed `bound`."""
    return torch.int32 if bound < 2**31 else torch.int64


def _packed(weight: Tensor, dtype: torch.dtype, groups: int, zero_point: int, is_transposed: bool) -> PackedWeight:
    packed = PackedWeight(weight, dtype, groups=groups, zero_point=zero_point)
    packed.is_transposed = is_transposed
    return packed
