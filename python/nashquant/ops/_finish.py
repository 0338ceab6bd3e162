"""How accumulators become integers."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from nashquant.arithmetic import Arithmetic

from ._output import Output


class Finish(NamedTuple):
    """`clamp(round(acc * factor) + zero_point, qmin, qmax)`: one factor, or one for each output."""

    factor: float | Tensor
    output: Output
    arithmetic: Arithmetic
