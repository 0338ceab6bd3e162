"""The range that keeps most of the information."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .accumulating import AccumulatingObserver

__all__ = ["KLObserver", "kl_threshold"]

_INSTEAD_OF_NONE = 1e-4


class KLObserver(AccumulatingObserver):
    """Chooses the range whose quantized distribution diverges least from that of all the data.

    Migacz, "8-bit Inference with TensorRT", GTC 2017: for i = levels, ..., bins, the first i bins, values
    beyond them added to the last, are P; the same bins without these, merged into `levels` (128 for qint8) and
    spread out again over those not empty, are Q; the i with the least `sum(P * log(P / Q))` wins, the larger
    one on a tie, and clips at the middle of bin i. Where the grid has as many levels as the histogram has bins
    (qint16), a histogram cannot tell, and the range is that of the data.

    Three repairs to the slides. The first bin counts as much as the second: a ReLU's zeros, which every grid holds
    exactly, would outweigh all other values (NVIDIA's pytorch-quantization does the same). Where outliers fall into an
    empty bin, Q has 1e-4 values there, as in MXNet: an infinite divergence would let a single outlier forbid all
    clipping. And a candidate that clips more than half of the values loses: of data without small values, the first bin
    not empty would win, P and Q being equal.

    Args:
        bins: the number of bins.
        update_interval: choose anew at every `update_interval`-th batch; the histogram sees all of them.
        **common: the arguments of `ObserverBase`.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(self, bins: int = 512, update_interval: int = 1, **common: Any) -> None:
        super().__init__(bins, **common)
        if isinstance(update_interval, bool) or not isinstance(update_interval, int) or update_interval < 1:
            raise ValueError(f"update_interval is {update_interval!r}, expected an integer of at least 1")
        self.update_interval = update_interval

    def range_of_seen(self) -> tuple[Tensor, Tensor]:
        """As it is between updates, else chosen anew."""
        if (self.batches_seen - 1) % self.update_interval:
            return self.min_val, self.max_val
        return super().range_of_seen()

    def choose_threshold(self) -> Tensor:
        """Channel by channel."""
        levels = self.quant_max + 1
        histogram = self.histogram
        thresholds = [
            kl_threshold(counts, levels) * width
            for counts, width in zip(histogram.counts, histogram.width, strict=True)
        ]
        return torch.minimum(torch.stack(thresholds).float(), self.max_abs_seen)


def kl_threshold(counts: Tensor, levels: int) -> Tensor:
    """Where to clip for the least divergence, in bins (f64, 0-d): i + 0.5, or all of the bins."""
    bins = counts.numel()
    if levels >= bins:
        return torch.tensor(float(bins), dtype=torch.float64, device=counts.device)
    counts = torch.cat([counts[1:2], counts[1:]])
    candidate = torch.arange(levels, bins + 1, device=counts.device)[:, None]  # one row for each
    index = torch.arange(bins, device=counts.device)
    inside = index < candidate
    kept = torch.where(inside, counts.double(), 0.0)
    outliers = counts.sum() - kept.sum(1, keepdim=True)
    p = torch.where(index == candidate - 1, kept + outliers, kept)

    level = torch.where(inside, index * levels // candidate, 0)
    per_level = torch.zeros(len(candidate), levels, dtype=torch.float64, device=counts.device)
    mass = per_level.scatter_add(1, level, kept).gather(1, level)
    sharers = per_level.scatter_add(1, level, (kept > 0).double()).gather(1, level)
    q = torch.where(kept > 0, mass / sharers, torch.where(p > 0, _INSTEAD_OF_NONE, 0.0))

    p = p / p.sum(1, keepdim=True)
    q = q / q.sum(1, keepdim=True)
    divergence = torch.where(p > 0, p * (p / q).log(), 0.0).sum(1)
    divergence = torch.where(outliers[:, 0] > counts.sum() / 2, torch.inf, divergence)
    best = bins - int(divergence.flip(0).argmin())
    return torch.tensor(min(best + 0.5, float(bins)), dtype=torch.float64, device=counts.device)
