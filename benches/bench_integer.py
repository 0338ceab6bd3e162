"""`add_saturating` and `requantize`, against the same formulas composed of torch's operators. All exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benches.harness import Rival, Row
from benches.harness.memory import copy_of
from benches.sizes import SIZES
from torch import Tensor

from nashquant import ops

FLOORS = {"int8": 15, "int16": 18}
COMPOSED, IN_PLACE, INTEGERS = "torch, f64", "torch, f64 in place", "torch, int64"
FACTOR_A, FACTOR_B = 1503238553 / 2**31, 1288490189 / 2**31  # 0.7 and 0.6, of 31 bits: f64 holds every product exactly
NOTES = {
    COMPOSED: "the formula as it reads: round and clamp of a product or sum in f64, which is exact for these factors",
    IN_PLACE: "the same without new tensors in between; the fastest way we found",
    INTEGERS: "the formula of any factor: products, shifts and comparisons in int64",
}


def random(dtype: torch.dtype) -> Tensor:
    ends = torch.iinfo(dtype)
    return torch.randint(ends.min, ends.max + 1, (SIZES["1M"],), dtype=dtype)


def added_in_integers(a: Tensor, b: Tensor) -> Tensor:
    total = a.long() * 1503238553 + b.long() * 1288490189
    ends = torch.iinfo(a.dtype)
    whole, rest = total >> 31, total & (2**31 - 1)
    up = (rest > 2**30) | ((rest == 2**30) & (whole & 1 == 1))
    return (whole + up).clamp(ends.min, ends.max).to(a.dtype)


@pytest.mark.parametrize("kind", FLOORS)
def test_add_saturating(race: Callable[[Row], None], kind: str) -> None:
    dtype = getattr(torch, kind)
    a, b, ends = random(dtype), random(dtype), torch.iinfo(dtype)

    def composed() -> Tensor:
        return torch.round(a.double() * FACTOR_A + b.double() * FACTOR_B).clamp(ends.min, ends.max).to(dtype)

    def in_place() -> Tensor:
        total = a.double().mul_(FACTOR_A).add_(b.double(), alpha=FACTOR_B)
        return total.round_().clamp_(ends.min, ends.max).to(dtype)

    race(
        Row(
            work="add_saturating",
            what=kind,
            size="1M",
            elements=a.numel(),
            ours=lambda: ops.add_saturating(a, b, FACTOR_A, FACTOR_B),
            rivals=(
                Rival(COMPOSED, composed, note=NOTES[COMPOSED]),
                Rival(IN_PLACE, in_place, note=NOTES[IN_PLACE]),
                Rival(INTEGERS, lambda: added_in_integers(a, b), note=NOTES[INTEGERS]),
            ),
            floors={COMPOSED: FLOORS[kind], IN_PLACE: FLOORS[kind], INTEGERS: FLOORS[kind]},
            bytes_moved=3 * a.nbytes,
            pace=copy_of(a),
            pace_bytes=2 * a.nbytes,
        )
    )


@pytest.mark.parametrize("kind", FLOORS)
def test_requantize(race: Callable[[Row], None], kind: str) -> None:
    dtype = getattr(torch, kind)
    acc, ends, factor = random(torch.int32), torch.iinfo(dtype), 1717987 * 2.0**-44  # 1e-7, of 21 bits

    def composed() -> Tensor:
        return torch.round(acc.double() * factor).clamp(ends.min, ends.max).to(dtype)

    def in_place() -> Tensor:
        return acc.double().mul_(factor).round_().clamp_(ends.min, ends.max).to(dtype)

    race(
        Row(
            work="requantize",
            what=f"int32 to {kind}",
            size="1M",
            elements=acc.numel(),
            ours=lambda: ops.requantize(acc, factor, dtype),
            rivals=(
                Rival(COMPOSED, composed, note=NOTES[COMPOSED]),
                Rival(IN_PLACE, in_place, note=NOTES[IN_PLACE]),
            ),
            bytes_moved=acc.nbytes + acc.numel() * dtype.itemsize,
            pace=copy_of(acc),
            pace_bytes=2 * acc.nbytes,
        )
    )
