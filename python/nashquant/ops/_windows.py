"""Where the windows of a convolution lie."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from ._packed_weight import PackedWeight

Padding = int | Sequence[int] | Sequence[tuple[int, int]]


class Windows(NamedTuple):
    """For each dimension its stride, what is added before and after (less than 0: cut off), and from tap to tap."""

    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    @classmethod
    def of(
        cls, weight: PackedWeight, stride: int | Sequence[int], padding: Padding, dilation: int | Sequence[int]
    ) -> Windows:
        """Those of `weight`.

        Raises:
            ValueError: it is that of no convolution, or a number is out of its range.
        """
        shape, dims = list(weight.weight.shape), weight.weight.dim() - 2
        if dims < 1:
            raise ValueError(f"weight has shape {shape}, but of a convolution must have 3 to 5 dimensions")
        return cls(each("stride", stride, dims, 1), pairs(padding, dims), each("dilation", dilation, dims, 1))

    def over(self, x: Tensor, weight: PackedWeight) -> list[int]:
        """How many there are over `x` along each dimension.

        Raises:
            ValueError: `x` is not of a shape for `weight`, or there is no window.
        """
        check_shape(x, weight)
        shape = weight.weight.shape
        counts = self.output(x.shape[2:], shape[2:])
        if min(counts) < 1:
            raise ValueError(
                f"x has shape {list(x.shape)}, which with its padding has no room for weight {list(shape)}"
            )
        return counts

    def output(self, size: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """How many windows there are along each dimension; 0 or less where there is no room for one.

        >>> Windows((2,), ((1, 1),), (1,)).output([5], [3])
        [3]
        """
        parts = zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)
        return [(n + sum(ends) - apart * (k - 1) - 1) // step + 1 for n, k, step, ends, apart in parts]


def check_shape(x: Tensor, weight: PackedWeight) -> None:
    """An error unless `x` has the channels and dimensions that `weight` has."""
    shape = weight.weight.shape
    channels = shape[1] * weight.groups
    if x.dim() != len(shape) or x.shape[1] != channels:
        expected = f"[batch, {channels}, {', '.join(['size'] * (len(shape) - 2))}]"
        raise ValueError(f"x has shape {list(x.shape)}, but must have {expected}, as weight {list(shape)} has")


def each(name: str, value: int | Sequence[int], dims: int, least: int) -> tuple[int, ...]:
    """One number for each dimension."""
    numbers = tuple(value) if isinstance(value, Sequence) else (value,) * dims
    if len(numbers) != dims or not all(isinstance(n, Integral) and n >= least for n in numbers):
        raise ValueError(f"{name} is {value}, but must be one whole number or {dims}, and at least {least}")
    return numbers


def pairs(padding: Padding, dims: int) -> tuple[tuple[int, int], ...]:
    """Padding before and after, for each dimension."""
    given = padding if isinstance(padding, Sequence) else (padding,) * dims
    ends = tuple((end[0], end[-1]) if isinstance(end, Sequence) else (end, end) for end in given)
    if len(ends) != dims or not all(isinstance(n, Integral) and n >= 0 for end in ends for n in end):
        raise ValueError(
            f"padding is {padding}, but must be one whole number, or {dims} of them or pairs, and at least 0"
        )
    return ends
