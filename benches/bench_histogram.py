"""`histogram_per_tensor`, against `torch.histc`; `percentile_per_tensor`, against `torch.kthvalue`. Both exact.

The rivals are given the magnitudes: only ours takes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from benches.harness import Rival, Row
from benches.sizes import normal
from torch import Tensor

from nashquant import ops

BINS, PERCENTILE = 2048, 99.99


def close_counts(ours: Tensor, theirs: Tensor) -> None:
    """The same number of values; torch bins in f32, so that values beside an edge may go to the other side."""
    assert int(ours.sum()) == int(theirs.sum())
    assert int((ours - theirs).abs().sum()) <= ours.sum() * 1e-3


def test_histogram_per_tensor(race: Callable[[Row], None]) -> None:
    x = normal("1M")
    magnitude = x.abs()
    limit = float(magnitude.max())
    race(
        Row(
            work="histogram_per_tensor",
            what="2048 bins of the magnitude, f32",
            size="1M",
            elements=x.numel(),
            ours=lambda: ops.histogram_per_tensor(x, limit, BINS),
            rivals=(
                Rival(
                    "torch", lambda: torch.histc(magnitude, BINS, 0.0, limit), lambda a, b: close_counts(a, b.long())
                ),
            ),
            floors={"torch": 6},
        )
    )


def test_percentile_per_tensor(race: Callable[[Row], None]) -> None:
    x = normal("1M")
    magnitude = x.abs()
    rank = math.ceil(PERCENTILE / 100 * x.numel())
    race(
        Row(
            work="percentile_per_tensor",
            what="99.99 of the magnitude, f32",
            size="1M",
            elements=x.numel(),
            ours=lambda: ops.percentile_per_tensor(x, PERCENTILE),
            rivals=(
                Rival("torch", lambda: torch.kthvalue(magnitude, rank).values),
                Rival("torch, topk", lambda: torch.topk(magnitude, x.numel() + 1 - rank).values[-1]),
            ),
            floors={"torch": 8},
        )
    )
