"""`min_max_per_tensor` and `min_max_per_channel`, against `torch.aminmax`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benches.harness import Rival, Row
from benches.harness.memory import read_of
from benches.sizes import normal

from nashquant import ops


@pytest.mark.parametrize("size", ["1M", "16M"])
def test_per_tensor(race: Callable[[Row], None], size: str) -> None:
    x = normal(size)
    race(
        Row(
            work="min_max_per_tensor",
            what="f32",
            size=size,
            elements=x.numel(),
            ours=lambda: ops.min_max_per_tensor(x),
            rivals=(Rival("torch", lambda: tuple(torch.aminmax(x))),),
            bytes_moved=x.nbytes,
            pace=read_of(x),
            pace_bytes=x.nbytes,
            pace_name="read",
            pace_floor=0.8,
        )
    )


@pytest.mark.parametrize(
    ("size", "shape", "axis"),
    [("[512,2048] axis 0", (512, 2048), 0), ("[16,64,32,32] axis 1", (16, 64, 32, 32), 1)],
    ids=["rows", "NCHW"],
)
def test_per_channel(race: Callable[[Row], None], size: str, shape: tuple[int, ...], axis: int) -> None:
    x = torch.randn(shape)
    others = [i for i in range(x.dim()) if i != axis]
    race(
        Row(
            work="min_max_per_channel",
            what="f32",
            size=size,
            elements=x.numel(),
            ours=lambda: ops.min_max_per_channel(x, axis),
            rivals=(
                Rival("torch", lambda: tuple(torch.aminmax(x.movedim(axis, 0).reshape(shape[axis], -1), dim=1))),
                Rival("torch, amin and amax", lambda: (x.amin(others), x.amax(others)), note="two passes"),
            ),
            floors={"torch": 8},
            bytes_moved=x.nbytes,
            pace=read_of(x),
            pace_bytes=x.nbytes,
            pace_name="read",
        )
    )
