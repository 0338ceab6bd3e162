"""How a march rounds holds wherever the integer model rounds: each op against fractions."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from nashquant import march
from nashquant.arithmetic import TFLITE, TFLITE_INT16, Arithmetic, Rounding
from nashquant.march import March
from nashquant.nash import convert

from .exact import graph, saturated

ARITHMETICS = [
    *map(Arithmetic, (Rounding.HALF_EVEN, Rounding.HALF_UP, Rounding.HALF_AWAY, Rounding.FLOOR)),
    *(TFLITE, TFLITE_INT16),
]
ONE = (
    "q = QuantizeLinear(x, sx, zx) d = DequantizeLinear(q, sx, zx) {body}"
    " p = QuantizeLinear(y, sy, zy) o = DequantizeLinear(p, sy, zy)"
)
TWO = "r = QuantizeLinear(v, sv, zv) e = DequantizeLinear(r, sv, zv) " + ONE
HALVES = {"sx": 2.0**-4, "sv": 2.0**-5, "sy": 2.0**-3}  # half of the sums lie between two steps
INT8, INT16 = np.int8(0), np.int16(0)


def rounded(value: Fraction, rounding: Rounding) -> int:
    floor = math.floor(value)
    rest = value - floor
    if rest == Fraction(1, 2):
        ties = {Rounding.HALF_EVEN: floor % 2, Rounding.HALF_UP: 1, Rounding.FLOOR: 0}
        return floor + ties.get(rounding, int(value > 0))
    return floor + int(rest > Fraction(1, 2) and rounding is not Rounding.FLOOR)


def times(acc: int, factor: float, how: Arithmetic) -> int:
    """`round(acc * factor)`, the factor of 31 bits or of 15."""
    if factor == 0:
        return 0
    shift = 31 - math.frexp(factor)[1]
    as_tflite = how in (TFLITE, TFLITE_INT16)
    multiplier = rounded(Fraction(abs(factor)) * 2**shift, Rounding.HALF_AWAY if as_tflite else Rounding.HALF_EVEN)
    if how.multiplier_bits == 15:
        multiplier, shift = min((multiplier + 2**15) >> 16, 2**15 - 1), shift - 16
    product = acc * multiplier * (1 if factor > 0 else -1)
    if how is TFLITE:
        first = rounded(Fraction(product) / 2 ** min(shift, 31), Rounding.HALF_UP)
        return rounded(Fraction(first) / 2 ** max(shift - 31, 0), Rounding.HALF_AWAY)
    return rounded(product / Fraction(2) ** shift, how.rounding)


@pytest.fixture(params=ARITHMETICS, ids=lambda how: f"{how.rounding.value}-{how.multiplier_bits}")
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Arithmetic:
    """The arithmetic of NASH_E, for now."""
    found: Arithmetic = request.param
    spec = replace(March.NASH_E.spec, arithmetic=found)
    monkeypatch.setattr(march, "_SPECS", {**march._SPECS, March.NASH_E: spec})
    return found


def integers(body: str, x: Tensor, v: Tensor | None = None, **given: object) -> list[list[int]]:
    """Those of the inputs and of the result, in rows."""
    inputs = f"float{list(x.shape)} x" + ("" if v is None else f", float{list(v.shape)} v")
    known: dict[str, object] = {"zx": INT8, "zy": INT8, "zv": INT8, **HALVES, **given}
    text = (ONE if v is None else TWO).format(body=body)
    used = {
        name: value
        for name, value in known.items()
        if name in text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    }
    model = convert(graph(text, inputs, "float o", **used), "nash-e")  # type: ignore[arg-type]
    assert not model.report.floats, model.report
    found = model.integers(*([x] if v is None else [x, v]))
    return [found[name].long().flatten(0, -2).tolist() for name in ("q", "r", "p") if name in found]


def steps(scale: float, *shape: int, most: int = 140) -> Tensor:
    return torch.randint(-most, most + 1, shape) * scale


@pytest.mark.parametrize(("op", "sign"), [("Add", 1), ("Sub", -1)])
def test_a_sum_of_16_bits_with_zero_points(op, sign, how):
    zeros = {"zx": np.uint16(32768), "zv": np.uint16(32000), "zy": np.uint16(33000)}
    (q,), (r,), (p,) = integers(f"y = {op}(d, e)", steps(2.0**-4, 1, 300), steps(2.0**-5, 1, 300), **zeros)
    once = Rounding.HALF_AWAY if how is TFLITE else how.rounding
    for a, b, y in zip(q, r, p, strict=True):
        exact = Fraction(a, 2) + sign * Fraction(b - (32000 - 32768), 4)
        assert y == rounded(exact, once) + 33000 - 32768


def test_what_is_added_to_an_accumulator(how):
    weight, scale = np.array([[5, -3], [7, 2]], np.int8), 2.0**-3
    body = "w = DequantizeLinear(wq, sw) t = MatMul(d, w) y = Add(t, e)"
    x, v = steps(2.0**-4, 150, 2, most=9), steps(3 * 2.0**-8, 150, 2, most=100)
    q, r, p = integers(body, x, v, wq=weight, sw=scale, sv=3 * 2.0**-8)
    for row, more, found in zip(q, r, p, strict=True):
        acc = [sum(a * int(w) for a, w in zip(row, column, strict=True)) for column in weight.T]
        total = [n + times(m, 1.5, how) for n, m in zip(acc, more, strict=True)]
        assert found == [saturated(times(n, 2.0**-4, how)) for n in total]


def test_a_quotient(how):
    (q,), (r,), (p,) = integers(
        "y = Div(d, e)",
        steps(2.0**-4, 1, 600, most=100),
        torch.randint(1, 9, (1, 600)) * 0.5 * torch.tensor([1, -1]).repeat(300),
        sv=0.5,
    )
    assert p == [saturated(times(a, 1 / b, how)) for a, b in zip(q, r, strict=True)]


def test_a_softmax(how):
    q, p = integers("y = Softmax(d)", steps(2.0**-12, 40, 5, most=32000), sx=2.0**-12, sy=2.0**-15, zx=INT16, zy=INT16)
    for row, found in zip(q, p, strict=True):
        e = [round(math.exp(-(max(row) - n) * 2.0**-12) * 2**20) for n in row]
        assert found == [saturated(times(n, 2.0**15 / sum(e), how), -32768, 32767) for n in e]


def test_a_layer_norm(how):
    gain, bias = [1.0, -0.5, 2.0, 0.25], [0.5, 0.0, -0.25, 1.0]
    fine, step = 2.0**-12, 2.0**-13
    x = steps(fine, 100, 4, most=32000)
    q, p = integers("y = LayerNormalization(d, g, b)", x, g=gain, b=bias, sx=fine, sy=step, zx=INT16, zy=INT16)
    once = Rounding.HALF_AWAY if how is TFLITE else how.rounding
    for row, found in zip(q, p, strict=True):
        spread = 4 * sum(i * i for i in row) - sum(row) ** 2 + round(float(np.float32(1e-5)) * 16 / fine**2)
        z = [times(4 * i - sum(row), 2**20 / math.sqrt(spread), how) for i in row]
        exact = [Fraction(n) * Fraction(g) / 2**7 + Fraction(b) * 2**13 for n, g, b in zip(z, gain, bias, strict=True)]
        assert found == [saturated(rounded(value, once), -32768, 32767) for value in exact]


def test_the_place_of_a_sample(how):
    x, places = steps(1.0, 1, 1, 1, 6, most=32000), torch.zeros(1, 1, 400, 2)
    places[..., 0] = torch.randint(-30000, 30000, (400,)) * 0.3e-4
    fine = float(np.float32(0.3e-4))
    body = "y = GridSample<align_corners = 1>(d, e)"
    (q,), r, (p,) = integers(body, x, places, sx=1.0, sy=1.0, sv=fine, zx=INT16, zy=INT16, zv=INT16)
    row = [0, *q, 0]
    for (across, _), y in zip(r, p, strict=True):
        at = times(across, fine * 5 / 2 * 2**15, how) + (5 << 14)
        left, part = at >> 15, at & (2**15 - 1)
        acc = row[left + 1] * (2**15 - part) + row[left + 2] * part if -1 <= left <= 5 else 0
        assert y == saturated(times(acc * 2**15, 2.0**-30, how), -32768, 32767)


def test_tables_have_as_many_entries_as_the_march_says(monkeypatch: pytest.MonkeyPatch):
    spec = replace(March.NASH_E.spec, arithmetic=Arithmetic(table_bits=6))
    monkeypatch.setattr(march, "_SPECS", {**march._SPECS, March.NASH_E: spec})
    scale, zero = 2.0**-13, -300
    x = torch.arange(-32768, 32768, 7)[None] * scale
    zeros = {"zx": np.int16(zero), "zy": np.int16(200)}
    (q,), (p,) = integers("y = Tanh(d)", x, sx=scale, sy=2.0**-14, **zeros)

    def knot(n: int) -> int:
        return saturated(round(math.tanh((n - zero) * scale) * 2**14) + 200, -32768, 32767)

    for n, y in zip(q, p, strict=True):
        first = n // 1024 * 1024
        assert y == round(knot(first) + Fraction(n - first, 1024) * (knot(first + 1024) - knot(first)))
