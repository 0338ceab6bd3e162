"""The `FakeQuantize` module in training: moving average, new scale, fake quantize; forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benches.harness import Rival, Row
from benches.harness.memory import copy_of
from benches.sizes import AT_TWO_THREADS, EARLIER, HARDLY, QINT8, SIZES, backward, normal
from torch import Tensor
from torch.ao.quantization import (
    FakeQuantize as TorchFakeQuantize,
)
from torch.ao.quantization import (
    FusedMovingAvgObsFakeQuantize,
    MovingAverageMinMaxObserver,
)

from nashquant.dtype import qint8
from nashquant.quantization import FakeQuantize
from nashquant.quantization.observer import MinMaxObserver

FLOORS = {"1M": 4.5, "1K": 3}
FUSED = "torch.ao fused"


def _within_a_step(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    y, their_y = ours[0].detach(), theirs[0].detach()
    step = float(y.abs().max()) / 127
    assert float((y - their_y).abs().max()) <= 2 * step


@pytest.mark.parametrize("size", SIZES)
def test_training(race: Callable[[Row], None], size: str) -> None:
    x = normal(size).requires_grad_()
    grad_y = normal(size).flip(0)
    ours = FakeQuantize(observer=MinMaxObserver, dtype=qint8, averaging_constant=HARDLY)
    grid = {"quant_min": QINT8[0], "quant_max": QINT8[1]}
    symmetric = {**grid, "dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric, "averaging_constant": HARDLY}
    theirs = TorchFakeQuantize(MovingAverageMinMaxObserver, **symmetric)
    fused = FusedMovingAvgObsFakeQuantize(MovingAverageMinMaxObserver, **symmetric)
    for quantizer in (ours, theirs, fused):
        quantizer(x.detach() * EARLIER)
    race(
        Row(
            work="FakeQuantize module",
            what="training step, f32",
            size=size,
            elements=x.numel(),
            ours=lambda: backward(ours(x), x, grad_y),
            rivals=(
                Rival("torch.ao", lambda: backward(theirs(x), x, grad_y)),
                Rival(FUSED, lambda: backward(fused(x), x, grad_y), _within_a_step, "computes another scale"),
            ),
            floors={FUSED: 1, **({"torch.ao": FLOORS[size]} if size in FLOORS else {})},
            bytes_moved=5 * x.nbytes + 2 * x.numel() // 8,
            pace=copy_of(x.detach()),
            pace_bytes=2 * x.nbytes,
            at_two_threads=size in AT_TWO_THREADS,
        )
    )
