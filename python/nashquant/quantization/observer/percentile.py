"""The range that holds nearly all of the data."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import ObserverBase
from .magnitude_histogram import MagnitudeHistogram, check_bins, rows_of
from .scale import clamp_range, greatest_magnitude

__all__ = ["PercentileObserver", "check_percentile"]


class PercentileObserver(ObserverBase):
    """Chooses the range that holds `percentile` percent of the batch's magnitudes.

    The threshold is the upper edge of the histogram bin of |x| in which that percentile lies, never beyond
    the data. Percentile calibration as in Wu et al., "Integer Quantization for Deep Learning Inference:
    Principles and Empirical Evaluation", 2020, section 3.3.1. The range of the batch, clamped to it, enters
    the moving average.

    Args:
        percentile: in percent: 99.99, not 0.9999.
        bins: how finely a batch's magnitudes are told apart.
        **common: the arguments of `ObserverBase`.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(self, percentile: float = 99.99, bins: int = 2048, **common: Any) -> None:
        super().__init__(**common)
        self.percentile, self.bins = check_percentile(percentile), check_bins(bins)

    def choose_range(self, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The range of `x`, clamped to the percentile."""
        rows = rows_of(x, self.ch_axis if self.per_channel else None)
        histogram = MagnitudeHistogram.empty(rows.shape[0], self.bins, x.device).added(
            rows, greatest_magnitude(low, high), across_processes=self.is_sync_quantize
        )
        return clamp_range(low, high, histogram.percentile(self.percentile / 100).reshape(low.shape))

    def extra_repr(self) -> str:
        """The averaging constant, the percentile and the range."""
        parameters = f"averaging_constant={self.averaging_constant:g}, percentile={self.percentile:g}"
        return f"{parameters}, {self.range_repr()}"


def check_percentile(percentile: float) -> float:
    """`percentile`. Raises ValueError if it is not in percent."""
    if isinstance(percentile, bool) or not isinstance(percentile, (int, float)) or not 1 < percentile <= 100:
        raise ValueError(f"percentile is {percentile!r}, expected percent, as in 99.99: more than 1, at most 100")
    return float(percentile)
