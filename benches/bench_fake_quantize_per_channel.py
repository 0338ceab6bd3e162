"""`fake_quantize_per_channel` on weights and activations, against torch's operator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benches.harness import Rival, Row
from benches.harness.memory import copy_of
from benches.sizes import QINT8, backward

from nashquant import ops

SHAPES = {
    "weight [64,64,3,3]": ((64, 64, 3, 3), 0, torch.contiguous_format),
    "weight [512,512,3,3]": ((512, 512, 3, 3), 0, torch.contiguous_format),
    "weight [1024,1024]": ((1024, 1024), 0, torch.contiguous_format),
    "weight [4096,4096]": ((4096, 4096), 0, torch.contiguous_format),
    "NCHW [16,64,32,32] axis 1": ((16, 64, 32, 32), 1, torch.contiguous_format),
    "NHWC [16,64,32,32] axis 1": ((16, 64, 32, 32), 1, torch.channels_last),
}


@pytest.mark.parametrize("size", SHAPES)
def test_forward_and_backward(race: Callable[[Row], None], size: str) -> None:
    shape, axis, memory_format = SHAPES[size]
    x = torch.randn(shape).contiguous(memory_format=memory_format).requires_grad_()
    grad_y = torch.randn(shape).contiguous(memory_format=memory_format)
    scale = torch.linspace(0.01, 0.03, shape[axis])
    zero_point = torch.zeros(shape[axis], dtype=torch.int32)
    qmin, qmax = QINT8
    theirs = torch.fake_quantize_per_channel_affine
    race(
        Row(
            work="fake_quantize_per_channel",
            what="forward + backward, f32",
            size=size,
            elements=x.numel(),
            ours=lambda: backward(ops.fake_quantize_per_channel(x, scale, zero_point, axis, qmin, qmax), x, grad_y),
            rivals=(Rival("torch", lambda: backward(theirs(x, scale, zero_point, axis, qmin, qmax), x, grad_y)),),
            floors={"torch": 6} if x.numel() >= 256 * 1024 else {},
            bytes_moved=4 * x.nbytes + 2 * x.numel() // 8,
            pace=copy_of(x.detach()),
            pace_bytes=2 * x.nbytes,
        )
    )
