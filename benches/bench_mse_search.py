"""`mse_search_per_tensor` and `_per_channel`, 100 candidates, against a loop over torch's operators."""

from __future__ import annotations

from collections.abc import Callable

import torch
from benches.harness import Rival, Row
from benches.sizes import QINT8, normal
from torch import Tensor

from nashquant import ops

QMIN, QMAX = QINT8
STEPS = (QMAX - QMIN) / 2
LOOP = "torch loop"


def _per_tensor(x: Tensor) -> Tensor:
    max_abs, best, winner = x.abs().max(), float("inf"), x.new_zeros(())
    for i in range(1, 101):
        threshold = max_abs * i / 100
        scale = float((threshold / STEPS).clamp(min=2**-23))
        y = torch.fake_quantize_per_tensor_affine(x, scale, 0, QMIN, QMAX)
        error = float((y - x).square_().sum(dtype=torch.float64))
        if error <= best:
            best, winner = error, threshold
    return winner


def _per_channel(x: Tensor) -> Tensor:
    max_abs = x.abs().amax(1)
    winner, best = max_abs, torch.full_like(max_abs, torch.inf, dtype=torch.float64)
    zero_point = torch.zeros_like(max_abs, dtype=torch.int32)
    for i in range(1, 101):
        threshold = max_abs * i / 100
        scale = (threshold / STEPS).clamp(min=2**-23)
        y = torch.fake_quantize_per_channel_affine(x, scale, zero_point, 0, QMIN, QMAX)
        error = (y - x).square_().sum(1, dtype=torch.float64)
        winner = torch.where(error <= best, threshold, winner)
        best = torch.minimum(error, best)
    return winner


def test_per_tensor(race: Callable[[Row], None]) -> None:
    x = normal("1M")
    race(
        Row(
            work="mse_search_per_tensor",
            what="100 candidates, f32",
            size="1M",
            elements=x.numel(),
            ours=lambda: ops.mse_search_per_tensor(x, QMIN, QMAX),
            rivals=(Rival(LOOP, lambda: _per_tensor(x)),),
            floors={LOOP: 100},
        )
    )


def test_per_channel(race: Callable[[Row], None]) -> None:
    x = torch.randn(512, 4608)
    race(
        Row(
            work="mse_search_per_channel",
            what="100 candidates, f32",
            size="[512,4608]",
            elements=x.numel(),
            ours=lambda: ops.mse_search_per_channel(x, 0, QMIN, QMAX),
            rivals=(Rival(LOOP, lambda: _per_channel(x)),),
            floors={LOOP: 100},
        )
    )
