"""What is rounded, and where: each op that rounds, against the same in fractions, number by number."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from nashquant.nash import convert

from .exact import factor, graph, saturated

SX, SV, SY = (float(np.float32(scale)) for scale in (0.037, 0.0113, 0.051))
ONE = (
    "q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z) {body}"
    " p = QuantizeLinear(y, sy, z) o = DequantizeLinear(p, sy, z)"
)
TWO = "r = QuantizeLinear(v, sv, z) e = DequantizeLinear(r, sv, z) " + ONE


def integers(body: str, *x: torch.Tensor, **given: object) -> tuple[torch.Tensor, ...]:
    """The integers of the inputs, and of the result."""
    two = len(x) == 2
    shape = str(list(x[0].shape))
    inputs = f"float{shape} v, float{shape} x" if two else f"float{shape} x"
    scales: dict[str, object] = {"sx": SX, "sy": SY, "z": np.int8(0), **({"sv": SV} if two else {}), **given}
    model = convert(graph((TWO if two else ONE).format(body=body), inputs, "float o", **scales))  # type: ignore[arg-type]
    assert not model.report.floats
    found = model.integers(*reversed(x))
    return (found["q"], found["r"], found["p"]) if two else (found["q"], found["p"])


def some(scale: float, *shape: int) -> torch.Tensor:
    return torch.randint(-140, 141, shape) * scale  # some saturate


@pytest.mark.parametrize(("op", "sign"), [("Add", 1), ("Sub", -1)])
def test_a_sum_is_rounded_once_on_the_shift_of_the_larger_factor(op, sign):
    q, r, p = integers(f"y = {op}(d, e)", some(SX, 400), some(SV, 400))
    shift = 31 - math.frexp(SX / SY)[1]
    of_x, of_v = (Fraction(round(Fraction(s / SY) * 2**shift), 2**shift) for s in (SX, SV))
    expected = [saturated(round(a * of_x + sign * b * of_v)) for a, b in zip(q.tolist(), r.tolist(), strict=True)]
    assert p.tolist() == expected


def test_a_product_is_rounded_once():
    q, r, p = integers("y = Mul(d, e)", some(SX, 400), some(SV, 400))
    by = factor(SX * SV / SY)
    assert p.tolist() == [saturated(round(a * b * by)) for a, b in zip(q.tolist(), r.tolist(), strict=True)]


def test_a_product_of_16_bits_around_far_zero_points_does_not_wrap():
    # 65535 · 65535 and 65535 · 40000 are no int32.
    body = "c = Mul(p, q) r = QuantizeLinear(c, so, zo)"
    both = "p = DequantizeLinear(a, s, za) q = DequantizeLinear(b, s, zb)"
    model = convert(
        graph(
            f"{both} {body}",
            "uint16[n] a, int16[n] b",
            "int16 r",
            s=0.5,
            so=2.0**16,
            za=np.uint16(0),
            zb=np.int16(-(2**15)),
            zo=np.int16(3),
        )
    )
    a = torch.tensor([65535, 65535, 1], dtype=torch.int32).to(torch.uint16)
    y = model(a, torch.tensor([2**15 - 1, 40000 - 2**15, 7], dtype=torch.int16))
    # (65535² / 4, 65535 · 40000 / 4, 32775 / 4) / 65536 = 16383.5.., 9999.8.., 0.1..
    assert y.tolist() == [16387, 10003, 3]


def test_a_quotient_is_a_product_with_a_factor_for_each_divisor():
    q, r, p = integers("y = Div(d, e)", some(SX, 600), torch.randint(-9, 10, (600,)) * SV)
    expected = []
    for a, b in zip(q.tolist(), r.tolist(), strict=True):
        by = factor(SX / (SV * SY) / b) if b else 0
        expected.append(saturated(round(a * by)) if b else saturated(255 * ((a > 0) - (a < 0))))
    assert 0 in r.tolist()
    assert p.tolist() == expected


@pytest.mark.parametrize(("body", "n"), [("y = GlobalAveragePool(d)", 15), ("y = ReduceSum(d, axes)", 1)])
def test_a_mean_is_an_exact_sum_and_one_factor(body, n):
    axes = {"axes": np.array([2], np.int64), "sy": 10 * SY} if n == 1 else {}
    q, p = integers(body, some(SX, 6, 5, 15), **axes)
    by = factor(SX / (n * float(np.float32(10 * SY)))) if n == 1 else factor(SX / (n * SY))
    assert p.flatten().tolist() == [saturated(round(s * by)) for s in q.long().sum(2).flatten().tolist()]


def test_a_softmax_has_a_table_an_exact_sum_and_one_factor():
    fine, scale = float(np.float32(0.00037)), float(np.float32(1 / 33000))  # 16 bits see the last bit of the table
    q, p = integers("y = Softmax(d)", some(SX, 20, 9), sx=fine, sy=scale, z=np.int16(0))
    for row, found in zip(q.tolist(), p.tolist(), strict=True):
        e = [round(math.exp(-(max(row) - n) * fine) * 2**20) for n in row]
        by = factor(1 / (sum(e) * scale))
        assert found == [saturated(round(n * by), -32768, 32767) for n in e]


def test_a_layer_norm_has_exact_sums_and_rounds_twice():
    gain, bias = np.linspace(-1.5, 2, 12).astype(np.float32), np.linspace(1, -0.3, 12).astype(np.float32)
    fine, step = float(np.float32(0.00037)), float(np.float32(0.00021))
    x = some(SX, 200, 12)
    q, p = integers("y = LayerNormalization(d, g, b)", x, g=gain, b=bias, sx=fine, sy=step, z=np.int16(0))
    for row, found in zip(q.tolist(), p.tolist(), strict=True):
        n, total = len(row), sum(row)
        spread = n * sum(i * i for i in row) - total**2 + float(np.float32(1e-5)) * n * n / fine**2
        z = [round((n * i - total) * factor(2**20 / math.sqrt(spread))) for i in row]
        expected = []
        for i, of_one, offset in zip(z, gain.tolist(), bias.tolist(), strict=True):
            by = of_one / step * 2.0**-20
            shift = min(31 - math.frexp(by)[1], 46)
            exact = Fraction(i * round(by * 2.0**shift) + round(offset / step * 2.0**shift), 2**shift)
            expected.append(saturated(round(exact), -32768, 32767))
        assert found == expected


def test_what_a_layer_norm_adds_to_the_variance_counts_below_one_step_too():
    # V = 3, ε · n² / s² = 0.443: 3 / √3.443 · 64 = 103.5 less what the roundings take; with 0 it would be 110.8.
    body = "d = DequantizeLinear(q, s, z) c = LayerNormalization(d, g) y = QuantizeLinear(c, so, z)"
    of = {"s": 0.019, "so": 1 / 64, "z": np.int16(0), "g": np.ones(4, np.float32)}
    model = convert(graph(body, "int16[n, 4] q", "int16 y", **of))
    assert model(torch.tensor([[1, 0, 0, 0]], dtype=torch.int16)).tolist() == [[103, -34, -34, -34]]


def test_a_resized_line_is_an_exact_sum_with_weights_of_15_bits():
    body = 'y = Resize<mode = "linear">(d, , n)'
    q, p = integers(body, some(SX, 1, 2, 7), n=np.array([1, 1, 17 / 7], np.float32))
    scale = float(np.float32(17 / 7))
    for row, found in zip(q[0].tolist(), p[0].tolist(), strict=True):
        expected = []
        for i in range(int(7 * scale)):
            at = (i + 0.5) / scale - 0.5
            low, right = math.floor(at), round((at - math.floor(at)) * 2**15)
            left, after = row[max(low, 0)], row[min(low + 1, 6)]
            acc = left * (2**15 - right) + after * right
            expected.append(saturated(round(acc * factor(SX / SY * 2.0**-15))))
        assert found == expected


def test_the_weights_of_a_resize_add_up_to_one():
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) "
        'y = Resize<mode = "cubic">(d, , , n) p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)',
        "float[1, 1, 7, 9] x",
        "float o",
        s=1.0,
        z=np.int16(0),
        n=np.array([1, 1, 31, 53]),
    )
    assert torch.equal(convert(model)(torch.full((1, 1, 7, 9), 32_000.0)), torch.full((1, 1, 31, 53), 32_000.0))
