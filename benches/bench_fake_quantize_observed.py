"""`fake_quantize_observed_per_tensor`, which observes and quantizes in one call, against torch's operators for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benches.harness import Rival, Row
from benches.harness.memory import copy_of
from benches.sizes import EARLIER, HARDLY, QINT8, backward, normal
from torch import Tensor

from nashquant import ops

QMIN, QMAX = QINT8
FUSED = "torch fused"


def composed(x: Tensor, low: Tensor, high: Tensor, zero_point: Tensor) -> Tensor:
    """One operator after another, as torch.ao's observer and quantizer call them."""
    least, greatest = torch.aminmax(x.detach())
    low.add_((least - low) * HARDLY)
    high.add_((greatest - high) * HARDLY)
    scale = (torch.maximum(-low, high) / ((QMAX - QMIN) / 2)).clamp(min=2**-23).reshape(1)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, QMIN, QMAX)


@pytest.mark.parametrize("way", ["forward", "forward + backward"])
@pytest.mark.parametrize("size", ["64K", "1M"])
def test_per_tensor(race: Callable[[Row], None], size: str, way: str) -> None:
    x, grad_y = normal(size), normal(size).flip(0)
    x.requires_grad_(way != "forward")
    low, high = torch.aminmax(x.detach() * EARLIER)
    ours, theirs = (low.clone(), high.clone(), torch.ones(1)), (low.clone(), high.clone())
    fused = (low.clone(), high.clone(), torch.ones(1), torch.zeros(1, dtype=torch.int32))
    on, zero_point = torch.ones(1, dtype=torch.long), torch.zeros(1, dtype=torch.int32)

    def whole(y: Tensor | None) -> object:
        assert y is not None
        return y if way == "forward" else backward(y, x, grad_y)

    def in_torch() -> Tensor:
        operator = torch.fused_moving_avg_obs_fake_quant
        return operator(x, on, on, *fused, HARDLY, QMIN, QMAX, -1, False, True)

    def within_a_step(ours: object, theirs: object) -> None:
        y, their_y = (z if isinstance(z, Tensor) else z[0] for z in (ours, theirs))  # type: ignore[index]
        assert float((y - their_y).detach().abs().max()) <= 2 * float(y.detach().abs().max()) / 127

    race(
        Row(
            work="fake_quantize_observed_per_tensor",
            what=f"{way}, f32",
            size=size,
            elements=x.numel(),
            ours=lambda: whole(
                ops.fake_quantize_observed_per_tensor(x, *ours, averaging_constant=HARDLY, qmin=QMIN, qmax=QMAX)
            ),
            rivals=(
                Rival("torch", lambda: whole(composed(x, *theirs, zero_point))),
                Rival(FUSED, lambda: whole(in_torch()), within_a_step, "computes another scale"),
            ),
            bytes_moved=(3 if way == "forward" else 5) * x.nbytes,
            pace=copy_of(x.detach()),
            pace_bytes=2 * x.nbytes,
        )
    )
