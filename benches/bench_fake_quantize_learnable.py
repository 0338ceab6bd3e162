"""`fake_quantize_learnable_per_tensor` and `_per_channel` (LSQ), against torch's private operators of that name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benches.harness import Rival, Row
from benches.harness.memory import copy_of
from benches.sizes import QINT8, normal
from torch import Tensor

from nashquant import ops

QMIN, QMAX = QINT8
GRAD_FACTOR = 0.5


def agree(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    """The gradient of x to the bit; sums over all elements are added in another order."""
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("granularity", ["per_tensor", "per_channel"])
def test_forward_and_backward(race: Callable[[Row], None], granularity: str) -> None:
    x = normal("1M").requires_grad_()
    grad_y = normal("1M").flip(0)
    channels = 1 if granularity == "per_tensor" else 256
    scale, zero_point = torch.full((channels,), 0.02).requires_grad_(), torch.zeros(channels).requires_grad_()
    rows, wanted = x.view(channels, -1), (x, scale, zero_point)
    if granularity == "per_tensor":
        ours = lambda: ops.fake_quantize_learnable_per_tensor(x, scale, zero_point, QMIN, QMAX, GRAD_FACTOR)  # noqa: E731
        theirs = lambda: torch._fake_quantize_learnable_per_tensor_affine(  # noqa: E731
            x, scale, zero_point, QMIN, QMAX, GRAD_FACTOR
        )
        grads = grad_y
    else:
        ours = lambda: ops.fake_quantize_learnable_per_channel(rows, scale, zero_point, 0, QMIN, QMAX, GRAD_FACTOR)  # noqa: E731
        theirs = lambda: torch._fake_quantize_learnable_per_channel_affine(  # noqa: E731
            rows, scale, zero_point, 0, QMIN, QMAX, GRAD_FACTOR
        )
        grads = grad_y.view(channels, -1)
    race(
        Row(
            work=f"fake_quantize_learnable_{granularity}",
            what="forward + backward, f32",
            size="1M" if granularity == "per_tensor" else "[256,4096]",
            elements=x.numel(),
            ours=lambda: torch.autograd.grad(ours(), wanted, grads),
            rivals=(Rival("torch", lambda: torch.autograd.grad(theirs(), wanted, grads), agree),),
            floors={"torch": 6},
            bytes_moved=5 * x.nbytes,
            pace=copy_of(x.detach()),
            pace_bytes=2 * x.nbytes,
        )
    )
