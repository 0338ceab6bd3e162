"""The best of several percentiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import ObserverBase
from .magnitude_histogram import MagnitudeHistogram, check_bins, rows_of
from .percentile import check_percentile
from .scale import clamp_range, greatest_magnitude

__all__ = ["MixObserver"]


class MixObserver(ObserverBase):
    """Chooses, of several percentiles of the batch's magnitudes, the one with the least squared quantization
    error.

    Vendor documents say so much ("tries several percentile settings, keeps the smallest L2"); which
    percentiles, and that the error is read from the histogram (`MagnitudeHistogram.squared_error`), is our
    choice.

    Args:
        percentiles: what is tried, in percent.
        bins: how finely a batch's magnitudes are told apart.
        **common: the arguments of `ObserverBase`.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        percentiles: tuple[float, ...] = (99.0, 99.9, 99.99, 99.999, 100.0),
        bins: int = 2048,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if not percentiles:
            raise ValueError("percentiles is empty, expected at least one")
        self.percentiles = tuple(sorted(check_percentile(percentile) for percentile in percentiles))
        self.bins = check_bins(bins)

    def choose_range(self, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The range of `x`, clamped to the best percentile."""
        rows = rows_of(x, self.ch_axis if self.per_channel else None)
        max_abs = greatest_magnitude(low, high)
        histogram = MagnitudeHistogram.empty(rows.shape[0], self.bins, x.device).added(
            rows, max_abs, across_processes=self.is_sync_quantize
        )
        percentiles = torch.stack([histogram.percentile(p / 100) for p in self.percentiles], dim=1)
        candidates = torch.minimum(percentiles, max_abs[:, None])
        return clamp_range(low, high, histogram.best_of(candidates, self.quant_min, self.quant_max).reshape(low.shape))
