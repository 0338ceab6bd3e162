"""How often which magnitude was seen, and what can be read from that."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nashquant import ops

from .scale import EPSILON
from .synchronize import join_sums

__all__ = ["MagnitudeHistogram", "check_bins", "rows_of"]


@dataclass(frozen=True, eq=False)
class MagnitudeHistogram:
    """Counts of |x| in equal bins over `0 ... limit`, for each channel. Symmetric grids need no more.

    Attributes:
        counts: int64 `[channels, bins]`.
        limit: f64 `[channels]`, the upper edge of the last bin; 0 as long as only zeros were seen.
    """

    counts: Tensor
    limit: Tensor

    @staticmethod
    def empty(channels: int, bins: int, device: torch.device | None = None) -> MagnitudeHistogram:
        """One that has seen nothing."""
        return MagnitudeHistogram(
            torch.zeros(channels, bins, dtype=torch.int64, device=device),
            torch.zeros(channels, dtype=torch.float64, device=device),
        )

    @property
    def bins(self) -> int:
        """The number of bins."""
        return self.counts.shape[1]

    @property
    def width(self) -> Tensor:
        """The width of a bin, f64 `[channels]`."""
        return self.limit / self.bins

    def added(self, rows: Tensor, max_abs: Tensor, *, across_processes: bool = False) -> MagnitudeHistogram:
        """This histogram with finite `rows` `[channels, n]` added, whose greatest magnitudes are `max_abs`.

        Larger values than ever seen double the limit until they fit, and merge the old bins in pairs: no count is
        ever split, so the order of the batches hardly matters.

        Args:
            rows: may be empty.
            max_abs: f32 `[channels]`.
            across_processes: add what all processes of `torch.distributed` count; `max_abs` is then of all.
        """
        grown = self._reaching(max_abs.double())
        counts = ops.histogram_per_channel(rows, 0, grown.limit, self.bins)
        if across_processes:
            counts = join_sums(counts)
        return MagnitudeHistogram(grown.counts + counts, grown.limit)

    def _reaching(self, top: Tensor) -> MagnitudeHistogram:
        ratio = torch.where((self.limit > 0) & (top > self.limit), top / self.limit, 1.0)
        mantissa, exponent = torch.frexp(ratio)  # the least k with 2**k >= ratio
        doublings = torch.where(mantissa == 0.5, exponent - 1, exponent).long()
        limit = torch.where(self.limit > 0, torch.ldexp(self.limit, doublings), top)
        index = torch.arange(self.bins, device=top.device).expand_as(self.counts) >> doublings.clamp(max=62)[:, None]
        return MagnitudeHistogram(torch.zeros_like(self.counts).scatter_add(1, index, self.counts), limit)

    def percentile(self, fraction: float) -> Tensor:
        """The least bin edge with at least `fraction` of all values below it; f32 `[channels]`."""
        below = self.counts.cumsum(1)
        wanted = torch.ceil(below[:, -1].double() * fraction * (1 - 1e-12))  # 0.999 * 1000 may be 999.0000000000001
        index = (below < wanted[:, None]).sum(1)
        return ((index + 1) * self.width).float()

    def squared_error(self, thresholds: Tensor, qmin: int, qmax: int) -> Tensor:
        """The squared error of quantizing all values seen with the scale of each threshold; both `[channels, k]`.

        Values are taken as spread evenly over their bin, and the error is integrated:
        `s**3 * (G(b / s) - G(a / s)) * count / (b - a)` for a bin `a ... b`, where
        `G(u) = r / 12 + (u - r)**3 / 3` with `r = min(round(u), qmax)` has the derivative `(u - r)**2`. Unlike
        errors at bin centres this is right for bins wider than a step (qint16) as for bins much narrower.
        """
        scale = (thresholds.double() / ((qmax - qmin) / 2)).clamp(min=EPSILON)[..., None]
        width = self.width[:, None]
        u = torch.arange(self.bins + 1, device=scale.device) * (width[..., None] / scale)
        r = u.round().clamp_(max=qmax)
        u -= r
        area = (r / 12 + u * u * u / 3).diff(dim=-1) @ self.counts.double()[..., None]
        return torch.where(width > 0, area[..., 0] * scale[..., 0] ** 3 / width, 0.0)

    def least_error_threshold(self, max_abs: Tensor, qmin: int, qmax: int, stride: int = 1) -> Tensor:
        """The best of `max_abs * i / 100`, i = 1, 1 + stride, ..., 100; the larger on a tie."""
        i = torch.tensor(sorted({*range(1, 101, stride), 100}), dtype=torch.float32, device=max_abs.device)
        return self.best_of(max_abs[:, None] * i / 100, qmin, qmax)

    def best_of(self, thresholds: Tensor, qmin: int, qmax: int) -> Tensor:
        """Of `[channels, k]` thresholds the ones with the least squared error, `[channels]`; the last on a tie."""
        few = max(1, 128 // len(thresholds))  # at a time: many channels would need much memory
        errors = torch.cat(
            [self.squared_error(some, qmin, qmax) for some in torch.split(thresholds, few, dim=1)], dim=1
        )
        last_least = errors.shape[1] - 1 - errors.flip(1).argmin(dim=1, keepdim=True)
        return thresholds.gather(1, last_least)[:, 0]


def rows_of(x: Tensor, axis: int | None) -> Tensor:
    """`x` as `[channels, n]`; one channel if `axis` is None."""
    if axis is None:
        return x.reshape(1, -1)
    return x.movedim(axis, 0).reshape(x.shape[axis], -1)


def check_bins(bins: int) -> int:
    """`bins`. Raises ValueError if it is not an integer of at least 2."""
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
        raise ValueError(f"bins is {bins!r}, expected an integer of at least 2")
    return bins
