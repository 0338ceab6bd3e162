"""Observers that remember everything they saw, as a histogram."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import ObserverBase
from .magnitude_histogram import MagnitudeHistogram, check_bins, rows_of
from .scale import clamp_range, greatest_magnitude

__all__ = ["AccumulatingObserver"]


class AccumulatingObserver(ObserverBase):
    """Adds every batch to one histogram, and chooses the range from all of it.

    There is nothing to average over then: `averaging_constant` only matters as 0, which freezes the range,
    and where a range was loaded or set before anything was seen: the range then moves from there by the
    moving average. The histogram is no part of the state_dict, and starts anew when one is loaded.

    Args:
        bins: the number of bins of the histogram.
        **common: the arguments of `ObserverBase`.
    """

    counts: Tensor
    limit: Tensor
    seen_min: Tensor
    seen_max: Tensor

    def __init__(self, bins: int, **common: Any) -> None:
        super().__init__(**common)
        empty = MagnitudeHistogram.empty(self.channel_len, check_bins(bins), self.min_val.device)
        self.register_buffer("counts", empty.counts, persistent=False)
        self.register_buffer("limit", empty.limit, persistent=False)
        self.register_buffer("seen_min", self.min_val.clone(), persistent=False)
        self.register_buffer("seen_max", self.max_val.clone(), persistent=False)
        self.batches_seen = 0
        self._starts_from_range = False

    @property
    def histogram(self) -> MagnitudeHistogram:
        """What was seen so far."""
        return MagnitudeHistogram(self.counts, self.limit)

    def choose_range(self, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The range of all that was seen, `x` included."""
        if self.batches_seen == 0:
            self._starts_from_range = self._is_started()
        rows, max_abs = rows_of(x, self.ch_axis if self.per_channel else None), greatest_magnitude(low, high)
        histogram = self.histogram.added(rows, max_abs, across_processes=self.is_sync_quantize)
        self.counts.copy_(histogram.counts)
        self.limit.copy_(histogram.limit)
        self.seen_min.copy_(torch.minimum(self.seen_min, low))
        self.seen_max.copy_(torch.maximum(self.seen_max, high))
        self.batches_seen += 1
        return self.range_of_seen()

    def range_of_seen(self) -> tuple[Tensor, Tensor]:
        """The range of all that was seen, clamped to the threshold its histogram asks for."""
        return clamp_range(self.seen_min, self.seen_max, self.choose_threshold().reshape(self.min_val.shape))

    def choose_threshold(self) -> Tensor:
        """The magnitude beyond which values are clipped, f32 `[channel_len]`."""
        raise NotImplementedError

    @property
    def max_abs_seen(self) -> Tensor:
        """The greatest magnitude seen, f32 `[channel_len]`."""
        return greatest_magnitude(self.seen_min, self.seen_max)

    def follow(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The histogram's choice, or the moving average towards it from a loaded range."""
        return super().follow(low, high) if self._starts_from_range else self.widened(low, high)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.counts.zero_()
        self.limit.zero_()
        self.seen_min.fill_(torch.inf)
        self.seen_max.fill_(-torch.inf)
        self.batches_seen = 0
