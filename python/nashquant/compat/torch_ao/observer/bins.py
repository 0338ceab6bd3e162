"""The arithmetic of a histogram over an interval: counting, stretching it, and the part of it worth quantizing."""

from __future__ import annotations

from functools import cache
from itertools import accumulate, repeat

import torch
from torch import Tensor

from nashquant.compat.torch_ao.parity import is_exact

__all__ = ["MOST_EXACT", "Errors", "count", "least_error_part", "stretched"]

MOST_EXACT = 2**24
"""As many as f32 counts without losing one."""
_FINER = 16  # a histogram is cut into so many parts per bin before it is stretched
_STEP = 1e-5


def count(x: Tensor, bins: int, low: Tensor, high: Tensor) -> Tensor:
    """How many of `x` lie in each of `bins` equal bins over `low ... high`, as `torch.histc` counts, of any number."""
    parts = (x,) if is_exact() else torch.split(x.reshape(-1), MOST_EXACT)
    counts = [torch.histc(part, bins, min=low, max=high) for part in parts]  # type: ignore[arg-type]
    return counts[0] if len(counts) == 1 else torch.stack([part.double() for part in counts]).sum(0)


def stretched(counts: Tensor, low: Tensor, high: Tensor, new_low: Tensor, new_high: Tensor) -> Tensor:
    """The counts over `low ... high`, dealt out to as many bins over the wider `new_low ... new_high`.

    Raises:
        AssertionError: it is not wider.
    """
    bins = len(counts)
    if low == high:
        return torch.histc(low, bins, min=new_low, max=new_high) * counts.sum()  # type: ignore[arg-type]
    if new_low > low:
        raise AssertionError("update_min must be <= orig_min")
    if new_high < high:
        raise AssertionError("update_max must be >= orig_max")
    pieces = bins * _FINER
    starts = torch.linspace(low, high, pieces + 1, device=low.device)[:-1].to(counts.device)
    edges = torch.linspace(new_low, new_high, bins + 1, device=low.device).to(counts.device)
    middles = starts + 0.5 * ((high - low) / pieces)
    home = (torch.bucketize(middles, edges, right=True) - 1).clamp(0, bins - 1)
    return torch.bincount(home, weights=counts.repeat_interleave(_FINER) / _FINER, minlength=bins)


def least_error_part(counts: Tensor, low: Tensor, high: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """The part of `low ... high` whose quantization to `steps` integers has the least squared error, near enough.

    From both ends, quantile by quantile (1e-5 each), the one that gives way by more bins is moved in, for as long as
    the error does not grow: the search of caffe2's `NormMinimization`, as torch.ao has it.
    """
    bins = len(counts)
    total = counts.sum().item()
    share = counts.cumsum(0)
    rising, falling = _quantiles()
    # One look-up for every quantile at once. torch.ao compares bin by bin in the dtype of the counts, as here.
    lefts = torch.searchsorted(share, (rising * total).to(share)).tolist()
    rights = (torch.searchsorted(share, (falling * total).to(share), right=True) - 1).tolist()
    alphas, betas = rising.tolist(), falling.tolist()
    error_of = Errors(counts, (high.item() - low.item()) / bins, steps)
    start, end, least = 0, bins - 1, torch.inf
    i, j = 0, 0
    while alphas[i] < betas[j]:
        left = max(start, min(lefts[i + 1], end))
        right = min(end, max(rights[j + 1], start))
        next_start, next_end = start, end
        if left - start > end - right:
            next_start = left
            i += 1
        else:
            next_end = right
            j += 1
        if (next_start, next_end) == (start, end):
            continue
        error = error_of(next_start, next_end)
        if error > least:
            break
        least, start, end = error, next_start, next_end
    width = (high - low) / bins
    return low + width * start, low + width * (end + 1)


@cache
def _quantiles() -> tuple[Tensor, Tensor]:
    """0, 1e-5, ... and 1, 1 - 1e-5, ..., each the sum of the one before: the roundings are part of the search."""
    count = round(1 / _STEP) + 2
    rising = list(accumulate(repeat(_STEP, count), initial=0.0))
    falling = list(accumulate(repeat(-_STEP, count), initial=1.0))
    return torch.tensor(rising, dtype=torch.float64), torch.tensor(falling, dtype=torch.float64)


class Errors:
    """The squared error of quantizing all that was counted to `steps` integers over some of the bins.

    Values are spread evenly in their bins, so that between `a` and `b` off the middle of a step they contribute
    `density * (b ** 3 - a ** 3) / 3`.
    """

    def __init__(self, counts: Tensor, width: float, steps: int) -> None:
        self.counts, self.width, self.steps = counts, width, steps
        self.index = torch.arange(len(counts), device=counts.device)

    def __call__(self, first: int, last: int) -> float:
        """That of the bins `first ... last`."""
        step = self.width * (last - first + 1) / self.steps
        if step == 0.0:
            return 0.0
        begin = (self.index - first) * self.width
        end = begin + self.width
        step_of_begin = self._step_of(begin, step)
        step_of_end = self._step_of(end, step)
        half = torch.tensor(step / 2, device=begin.device)
        density = self.counts / self.width
        head = _cubes(begin - (step_of_begin + 0.5) * step, half)
        body = _cubes(-half, half)
        tail = _cubes(-half, end - (step_of_end * step + step / 2))
        error = density * head + (step_of_end - step_of_begin - 1) * (density * body) + density * tail
        return error.sum().item()

    def _step_of(self, position: Tensor, step: float) -> Tensor:
        return torch.div(position, step, rounding_mode="floor").clamp(0, self.steps - 1)


def _cubes(begin: Tensor, end: Tensor) -> Tensor:
    return (end * end * end - begin * begin * begin) / 3
