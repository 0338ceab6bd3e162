"""What a kernel can do to a tensor in the pass that quantizes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["RELU", "RELU6", "Clamp"]


class Clamp(NamedTuple):
    """A function that clamps to `low ... high`, and whose gradient passes strictly between them.

    Attributes:
        function: the same in torch, with its gradient.
        low: least value, the same in every float dtype.
        high: greatest value, likewise; may be infinite.
    """

    function: Callable[[Tensor], Tensor]
    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float]:
        """`low` and `high`."""
        return self.low, self.high


RELU = Clamp(torch.relu, 0.0, float("inf"))
RELU6 = Clamp(F.relu6, 0.0, 6.0)
