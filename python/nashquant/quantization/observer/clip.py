"""Ranges that are clipped by what is known beforehand: fixed ends, or so many standard deviations."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .base import ObserverBase
from .magnitude_histogram import rows_of
from .synchronize import join_sums

__all__ = ["ClipObserver", "ClipStdObserver"]


class ClipObserver(ObserverBase):
    """Chooses the range of the batch, clipped to `xmin ... xmax`.

    >>> observer = ClipObserver(xmin=-2.0, xmax=2.0)
    >>> _ = observer(torch.tensor([-1.0, 7.0]))
    >>> observer
    ClipObserver(averaging_constant=0.01, xmin=-2, xmax=2, min_val=-1, max_val=2)

    Args:
        xmin: the least value that counts.
        xmax: the greatest.
        **common: the arguments of `ObserverBase`.

    Raises:
        ValueError: not `xmin < xmax`, both finite.
    """

    def __init__(self, xmin: float = -1.0, xmax: float = 1.0, **common: Any) -> None:
        super().__init__(**common)
        if not (math.isfinite(xmin) and math.isfinite(xmax) and xmin < xmax):
            raise ValueError(f"xmin is {xmin!r} and xmax is {xmax!r}, expected finite numbers, xmin below xmax")
        self.xmin, self.xmax = float(xmin), float(xmax)

    def choose_range(self, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The range of `x`, clipped."""
        return low.clamp(self.xmin, self.xmax), high.clamp(self.xmin, self.xmax)

    def extra_repr(self) -> str:
        """The averaging constant, the ends and the range."""
        parameters = f"averaging_constant={self.averaging_constant:g}, xmin={self.xmin:g}, xmax={self.xmax:g}"
        return f"{parameters}, {self.range_repr()}"


class ClipStdObserver(ObserverBase):
    """Chooses the range of the batch, clipped to `mean - std_scale * std ... mean + std_scale * std`.

    Mean and (population) standard deviation are those of the batch, in f64. The vendor documents the name; this reading
    of it, and its default, are our choice.

    >>> observer = ClipStdObserver(std_scale=1.0)
    >>> _ = observer(torch.tensor([-1.0, 1.0, -1.0, 1.0]))
    >>> observer
    ClipStdObserver(averaging_constant=0.01, std_scale=1, min_val=-1, max_val=1)

    Args:
        std_scale: how many standard deviations.
        **common: the arguments of `ObserverBase`.

    Raises:
        ValueError: `std_scale` is not a finite number above 0.
    """

    def __init__(self, std_scale: float = 3.0, **common: Any) -> None:
        super().__init__(**common)
        if not (math.isfinite(std_scale) and std_scale > 0):
            raise ValueError(f"std_scale is {std_scale!r}, expected a finite number above 0")
        self.std_scale = float(std_scale)

    def choose_range(self, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The range of `x`, clipped."""
        rows = rows_of(x, self.ch_axis if self.per_channel else None).double()
        sums = torch.stack([torch.ones_like(rows).sum(1), rows.sum(1), rows.square().sum(1)])
        count, total, squares = join_sums(sums) if self.is_sync_quantize else sums
        mean = total / count
        reach = self.std_scale * (squares / count - mean.square()).clamp(min=0).sqrt()
        least, greatest = ((mean + end).float().reshape(low.shape) for end in (-reach, reach))
        return torch.maximum(low, least), torch.minimum(high, greatest)

    def extra_repr(self) -> str:
        """The averaging constant, the factor and the range."""
        parameters = f"averaging_constant={self.averaging_constant:g}, std_scale={self.std_scale:g}"
        return f"{parameters}, {self.range_repr()}"
