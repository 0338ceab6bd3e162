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
LOOP, IN_PLACE = "torch loop", "torch loop, in place"
NOTE = "the formula as operators, without new tensors, in place of torch's fake quantize"


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


def _per_tensor_in_place(x: Tensor) -> Tensor:
    max_abs, best, winner, y = x.abs().max(), float("inf"), x.new_zeros(()), torch.empty_like(x)
    for i in range(1, 101):
        threshold = max_abs * i / 100
        error = float(_squared_error(x, threshold, y).sum(dtype=torch.float64))
        if error <= best:
            best, winner = error, threshold
    return winner


def _squared_error(x: Tensor, threshold: Tensor, y: Tensor) -> Tensor:
    scale = (threshold / STEPS).clamp(min=2**-23)
    return torch.mul(x, 1 / scale, out=y).round_().clamp_(QMIN, QMAX).mul_(scale).sub_(x).square_()


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


def _per_channel_in_place(x: Tensor) -> Tensor:
    max_abs, y = x.abs().amax(1), torch.empty_like(x)
    winner, best = max_abs, torch.full_like(max_abs, torch.inf, dtype=torch.float64)
    for i in range(1, 101):
        threshold = max_abs * i / 100
        error = _squared_error(x, threshold[:, None], y).sum(1, dtype=torch.float64)
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
            rivals=(Rival(LOOP, lambda: _per_tensor(x)), Rival(IN_PLACE, lambda: _per_tensor_in_place(x), note=NOTE)),
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
            rivals=(Rival(LOOP, lambda: _per_channel(x)), Rival(IN_PLACE, lambda: _per_channel_in_place(x), note=NOTE)),
            floors={LOOP: 100},
        )
    )
