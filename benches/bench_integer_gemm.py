"""Matrix products and convolutions of integers, requantized, against torch's in f32 and its own quantized linear.

What does not depend on activations is made ready before, as torch's quantized linear has it: `Linear`, `Conv` and
`ConvTranspose`. One row is the same call with all but the packed weight made anew.

The rivals compute something else (f32, or another rounding), so ours is compared with the exact product, requantized.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benches.harness import Rival, Row, same_bits
from torch import Tensor
from torch.nn import functional as F

from nashquant import ops

M, N, K = 1024, 512, 512
F32, QUANTIZED = "torch, f32", "torch, quantized linear"
KINDS = "int8 × int8", "int16 × int8", "int16 × int16"
# What is asked of each instruction set on one thread, in times torch's f32; and where they are, once its quantized
# linear.
FLOORS = {"avx512_vnni": {"int8 × int8": 3, "int16 × int8": 1}, "amx": {"int8 × int8": 8, "int16 × int8": 2.5}}
ASKED = FLOORS.get(ops.cpu_capability(), {})
NOTES = {
    F32: "the same shape in f32, with nothing behind it",
    QUANTIZED: "int8 weights per channel and uint8 activations, requantized in f32",
}
# Channels, size, outputs, kernel, stride, groups: the convolutions of a ResNet-18 at 224 x 224, and a depthwise one.
CONVS = {
    "first": (3, 224, 64, 7, 2, 1),
    "56 × 56": (64, 56, 64, 3, 1, 1),
    "14 × 14": (256, 14, 256, 3, 1, 1),
    "depthwise": (128, 56, 128, 3, 1, 128),
    "depthwise, stride 2": (128, 56, 128, 3, 2, 128),
}
# Kernel and padding of transposed ones of stride 2.
TRANSPOSED = {"2 × 2": (2, 0), "4 × 4": (4, 1)}


def integers(dtype: torch.dtype, *shape: int) -> Tensor:
    ends = torch.iinfo(dtype)
    return torch.randint(ends.min, ends.max + 1, shape, dtype=dtype)


def exact(run: Callable[[], Tensor]) -> Rival:
    return Rival("exact, f64", run, same_bits, note="the product in f64, which holds it, then requantized")


def quantized_linear(a: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """torch's own, in its fastest engine here."""
    torch.backends.quantized.engine = "onednn"
    x = torch.quantize_per_tensor(a * 0.01, 0.01, 128, torch.quint8)
    scales, zeros = torch.full((len(weight),), 0.01), torch.zeros(len(weight), dtype=torch.long)
    packed = torch.ops.quantized.linear_prepack(
        torch.quantize_per_channel(weight * 0.01, scales, zeros, 0, torch.qint8), torch.zeros(len(weight))
    )
    return lambda: torch.ops.quantized.linear(x, packed, 1.0, 128)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", KINDS)
def test_matmul_requantize(race: Callable[[Row], None], threads: int, what: str) -> None:
    of_a, of_b = (getattr(torch, kind) for kind in what.split(" × "))
    a, weight = integers(of_a, M, K), integers(of_b, N, K)
    bias, dtype = integers(torch.int32, N) >> 8, of_a  # about as large as the sums
    factor = torch.rand(N, dtype=torch.float64) * 2.0 ** -(8 * of_b.itemsize + 4)
    packed, float_a, float_w = ops.PackedWeight(weight, of_a), a.float(), weight.float()
    linear = ops.Linear(packed, bias, factor, dtype)

    def in_f64() -> Tensor:
        acc = (a.double() @ weight.double().T).long() + bias
        return ops.requantize(acc, factor, dtype, axis=-1)

    rivals = [Rival(F32, lambda: float_a @ float_w.T, None, note=NOTES[F32]), exact(in_f64)]
    floors = {F32: ASKED[what]} if what in ASKED else {}
    if what == "int8 × int8" and "onednn" in torch.backends.quantized.supported_engines:
        rivals.append(Rival(QUANTIZED, quantized_linear(float_a, float_w), None, note=NOTES[QUANTIZED]))
        floors |= {QUANTIZED: 1} if ASKED else {}
    race(
        Row(
            work="matmul_requantize",
            what=what,
            size=f"{M} × {N} × {K}",
            elements=M * N,
            ours=lambda: linear(a),
            rivals=tuple(rivals),
            floors=floors if threads == 1 else {},
        )
    )


def test_matmul_requantize_made_anew(race: Callable[[Row], None]) -> None:
    a, packed = integers(torch.int8, M, K), ops.PackedWeight(integers(torch.int8, N, K))
    bias, factor = integers(torch.int32, N) >> 8, torch.rand(N, dtype=torch.float64) * 2.0**-12
    linear = ops.Linear(packed, bias, factor, torch.int8)
    race(
        Row(
            work="matmul_requantize",
            what="int8 × int8, all but the weight made anew",
            size=f"{M} × {N} × {K}",
            elements=M * N,
            ours=lambda: ops.matmul_requantize(a, packed, bias, factor, torch.int8),
            rivals=(Rival("made ready", lambda: linear(a), note="ops.Linear: the same product"),),
        )
    )


@pytest.mark.parametrize("what", CONVS)
def test_conv_requantize(race: Callable[[Row], None], what: str) -> None:
    channels, size, n, kernel, stride, groups = CONVS[what]
    x = integers(torch.int8, 1, channels, size, size).contiguous(memory_format=torch.channels_last)
    weight, bias = integers(torch.int8, n, channels // groups, kernel, kernel), integers(torch.int32, n) >> 8
    factor = torch.rand(n, dtype=torch.float64) * 2.0**-12
    how = (stride, kernel // 2, 1)
    conv = ops.Conv(ops.PackedWeight(weight, groups=groups), bias, factor, torch.int8, *how)
    float_x, float_w = x.float(), weight.float()

    def in_f64() -> Tensor:
        acc = F.conv2d(x.double(), weight.double(), None, *how, groups).long() + bias.reshape(-1, 1, 1)
        return ops.requantize(acc, factor, torch.int8, axis=1)

    race(
        Row(
            work="conv_requantize",
            what=f"int8, {what}",
            size=f"{channels} × {size} × {size} to {n}, {kernel} × {kernel}",
            elements=n * (size // stride) ** 2,
            ours=lambda: conv(x),
            rivals=(
                Rival(F32, lambda: F.conv2d(float_x, float_w, None, *how, groups), None, note=NOTES[F32]),
                exact(in_f64),
            ),
        )
    )


@pytest.mark.parametrize("what", TRANSPOSED)
def test_conv_transpose_requantize(race: Callable[[Row], None], what: str) -> None:
    kernel, padding = TRANSPOSED[what]
    x = integers(torch.int8, 1, 128, 28, 28).contiguous(memory_format=torch.channels_last)
    weight, factor = integers(torch.int8, 128, 64, kernel, kernel), 2.0**-14
    conv = ops.ConvTranspose(ops.PackedWeight.transposed(weight), None, factor, torch.int8, 2, padding)
    float_x, float_w = x.float(), weight.float()

    def in_f64() -> Tensor:
        acc = F.conv_transpose2d(x.double(), weight.double(), None, 2, padding).long()
        return ops.requantize(acc, factor, torch.int8)

    def in_f32() -> Tensor:
        return F.conv_transpose2d(float_x, float_w, None, 2, padding)

    race(
        Row(
            work="conv_transpose_requantize",
            what=f"int8, {what}, stride 2",
            size="128 × 28 × 28 to 64 × 56 × 56",
            elements=64 * 56 * 56,
            ours=lambda: conv(x),
            rivals=(Rival(F32, in_f32, None, note=NOTES[F32]), exact(in_f64)),
        )
    )
