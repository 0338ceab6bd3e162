"""`fake_quantize_per_tensor`, against torch's operator and the estimator that Inductor compiles."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benches import estimator
from benches.harness import Rival, Row
from benches.harness.memory import FRESH, copy_of
from benches.sizes import AT_TWO_THREADS, INT8_SCALE, INT16_SCALE, QINT8, QINT16, SIZES, backward, normal
from torch import Tensor

from nashquant import ops

WORK = "fake_quantize_per_tensor"
FORWARD_FLOORS = {"16K": 20, "64K": 20, "1M": 9, "16M": 6}
BACKWARD_FLOORS = {"1K": 1 / 1.15, "1M": 6}  # at 1K, not slower than torch by more than 15 %
KINDS = {
    "f32": (torch.float32, INT8_SCALE, QINT8),
    "f32, int16 range": (torch.float32, INT16_SCALE, QINT16),
    "bf16": (torch.bfloat16, INT8_SCALE, QINT8),
    "f16": (torch.float16, INT8_SCALE, QINT8),
}
SPEEDS = [(size, "f32") for size in SIZES] + [("1M", kind) for kind in KINDS if kind != "f32"]
COMPOSED = "torch, in place"
UNCLIPPED = "f32, nothing clipped"  # where the estimator's work is the same as ours


@pytest.mark.parametrize(("size", "kind"), SPEEDS)
def test_forward(race: Callable[[Row], None], size: str, kind: str) -> None:
    dtype, scale, (qmin, qmax) = KINDS[kind]
    x = normal(size, dtype)
    inv_scale = 1 / scale

    def composed() -> Tensor:
        return (x * inv_scale).round_().clamp_(qmin, qmax).mul_(scale)

    rivals = [Rival("torch", lambda: torch.fake_quantize_per_tensor_affine(x, scale, 0, qmin, qmax))]
    if (size, kind) == ("1M", "f32"):
        rivals.append(Rival(COMPOSED, composed, note="the formula as four operators"))
    race(
        Row(
            work=WORK,
            what=f"forward, {kind}",
            size=size,
            elements=x.numel(),
            ours=lambda: ops.fake_quantize_per_tensor(x, scale, 0, qmin, qmax),
            rivals=tuple(rivals),
            floors={"torch": FORWARD_FLOORS[size]} if size in FORWARD_FLOORS else {},
            bytes_moved=2 * x.nbytes,
            pace=copy_of(x),
            pace_bytes=2 * x.nbytes,
            at_two_threads=size in AT_TWO_THREADS,
            pace_floor=0.85 if x.nbytes > FRESH and size == "16M" else None,
        )
    )


@pytest.mark.parametrize(("size", "kind"), [*SPEEDS, ("1M", UNCLIPPED)])
def test_forward_and_backward(
    race: Callable[[Row], None], absent: Callable[[str, str], None], size: str, kind: str
) -> None:
    dtype, scale, (qmin, qmax) = KINDS[kind.removesuffix(", nothing clipped")]
    x = normal(size, dtype)
    if kind == UNCLIPPED:
        x.clamp_(qmin * scale, qmax * scale)
    x.requires_grad_()
    grad_y = normal(size, dtype).flip(0)
    rivals = [
        Rival(
            "torch",
            lambda: backward(torch.fake_quantize_per_tensor_affine(x, scale, 0, qmin, qmax), x, grad_y),
        )
    ]
    floors = {"torch": BACKWARD_FLOORS[size]} if size in BACKWARD_FLOORS else {}
    if size == "1M" and kind in ("f32", UNCLIPPED):
        if why := estimator.why_not():
            absent(estimator.NAME, why)
        else:
            run = estimator.compiled(scale, qmin, qmax)
            note = estimator.NOTE if kind == "f32" else ""
            rivals.append(Rival(estimator.NAME, lambda: backward(run(x), x, grad_y), estimator.close, note))
            floors[estimator.NAME] = 1
    race(
        Row(
            work=WORK,
            what=f"forward + backward, {kind}",
            size=size,
            elements=x.numel(),
            ours=lambda: backward(ops.fake_quantize_per_tensor(x, scale, 0, qmin, qmax), x, grad_y),
            rivals=tuple(rivals),
            floors=floors,
            bytes_moved=2 * x.nbytes + x.numel() // 8 + (2 * x.nbytes + x.numel() // 8 if kind != UNCLIPPED else 0),
            pace=copy_of(x.detach()),
            pace_bytes=2 * x.nbytes,
            at_two_threads=size in AT_TWO_THREADS,
        )
    )


def test_in_a_chain(race: Callable[[Row], None], absent: Callable[[str, str], None]) -> None:
    """As within a net: the gradient comes from an operator, not from outside, where it must not be written to."""
    x, grad_y = normal("1M").requires_grad_(), normal("1M").flip(0)
    quantize = torch.fake_quantize_per_tensor_affine
    rivals = [Rival("torch", lambda: backward(-quantize(x, INT8_SCALE, 0, *QINT8), x, grad_y))]
    if why := estimator.why_not():
        absent(estimator.NAME, why)
    else:
        run = estimator.compiled(INT8_SCALE, *QINT8)
        rivals.append(Rival(estimator.NAME, lambda: backward(-run(x), x, grad_y), estimator.close, estimator.NOTE))
    race(
        Row(
            work=WORK,
            what="forward + backward before a negation, f32",
            size="1M",
            elements=x.numel(),
            ours=lambda: backward(-ops.fake_quantize_per_tensor(x, INT8_SCALE, 0, *QINT8), x, grad_y),
            rivals=tuple(rivals),
            floors={estimator.NAME: 1},
            bytes_moved=6 * x.nbytes + 2 * x.numel() // 8,
            pace=copy_of(x.detach()),
            pace_bytes=2 * x.nbytes,
        )
    )
