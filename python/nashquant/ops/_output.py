"""Where a requantized result lands."""

from __future__ import annotations

from typing import NamedTuple

import torch

from . import _check


class Output(NamedTuple):
    """The integers of `dtype` from `qmin` to `qmax`, of which `zero_point` means 0."""

    dtype: torch.dtype
    zero_point: int
    qmin: int
    qmax: int

    @classmethod
    def of(cls, dtype: torch.dtype, zero_point: int = 0, qmin: int | None = None, qmax: int | None = None) -> Output:
        """The whole of `dtype` where no ends are given.

        >>> Output.of(torch.int8, qmin=0)
        Output(dtype=torch.int8, zero_point=0, qmin=0, qmax=127)

        Raises:
            TypeError: `dtype` is not int8 or int16.
            ValueError: a number is not one of `dtype`, or `qmin` is greater than `qmax`.
        """
        _check.integers("y", dtype)
        least, greatest = _check.ENDS[dtype]
        low, high = least if qmin is None else qmin, greatest if qmax is None else qmax
        if not least <= low <= high <= greatest:
            raise ValueError(
                f"qmin is {low} and qmax {high}, but must be in order and lie between {least} and {greatest}"
            )
        _check.zero_point("zero_point", zero_point, dtype)
        return cls(dtype, zero_point, low, high)
