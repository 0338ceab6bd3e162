"""The drop-ins for torch.ao's modules in training, against both of these: affine, on unsigned integers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benches.harness import Rival, Row, same_bits
from benches.harness.memory import copy_of
from benches.sizes import EARLIER, HARDLY, backward, normal
from torch.ao import quantization as theirs

from nashquant.compat import torch_ao as ours

GRID = {
    "quant_min": 0,
    "quant_max": 255,
    "dtype": torch.quint8,
    "qscheme": torch.per_tensor_affine,
    "averaging_constant": HARDLY,
}
NAMES = ("FakeQuantize", "FusedMovingAvgObsFakeQuantize")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["1K", "16K", "1M"])
def test_training(race: Callable[[Row], None], size: str, name: str) -> None:
    x, grad_y = normal(size).requires_grad_(), normal(size).flip(0)
    mine = getattr(ours, name)(ours.MovingAverageMinMaxObserver, **GRID)
    module, fused = (getattr(theirs, each)(theirs.MovingAverageMinMaxObserver, **GRID) for each in NAMES)
    for quantizer in (mine, module, fused):
        quantizer(x.detach() * EARLIER)
    same = {"FakeQuantize": (same_bits, None), "FusedMovingAvgObsFakeQuantize": (None, same_bits)}[name]
    rivals = (
        Rival("torch.ao", lambda: backward(module(x), x, grad_y), same[0]),
        Rival("torch.ao fused", lambda: backward(fused(x), x, grad_y), same[1]),
    )
    race(
        Row(
            work=f"compat.torch_ao {name}",
            what="training step, f32, affine",
            size=size,
            elements=x.numel(),
            ours=lambda: backward(mine(x), x, grad_y),
            rivals=rivals,
            floors={"torch.ao fused": 1},
            bytes_moved=5 * x.nbytes + 2 * x.numel() // 8,
            pace=copy_of(x.detach()),
            pace_bytes=2 * x.nbytes,
        )
    )
