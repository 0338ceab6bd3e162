"""How accumulators become integers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nashquant.arithmetic import Arithmetic

from ._output import Output


class Finish(NamedTuple):
    """`clamp(round(acc * factor) + zero_point, qmin, qmax)`: one factor, or one for each output."""

    factor: float | Tensor
    output: Output
    arithmetic: Arithmetic

    @classmethod
    def of(
        cls,
        factor: float | Tensor | None,
        dtype: torch.dtype | None,
        zero_point: int,
        qmin: int | None,
        qmax: int | None,
        arithmetic: Arithmetic,
    ) -> Finish | None:
        """None without a factor: they stay accumulators.

        Raises:
            TypeError, ValueError: as `Output.of`; or there is a factor without a dtype, or the other way round; or
                neither, but a number that accumulators don't have.
        """
        if factor is None and dtype is None:
            for name, value, none in (("zero_point", zero_point, 0), ("qmin", qmin, None), ("qmax", qmax, None)):
                if value != none:
                    raise ValueError(f"{name} is {value}, but accumulators have none: it needs a factor and a dtype")
            return None
        if factor is None or dtype is None:
            raise ValueError(f"factor is {factor} and dtype {dtype}, but both must be given, or neither")
        return cls(factor, Output.of(dtype, zero_point, qmin, qmax), arithmetic)

    def copied(self) -> Finish:
        """With factors that nobody else has."""
        factor = self.factor
        return self._replace(factor=factor.detach().clone() if isinstance(factor, Tensor) else factor)
