from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nashquant.nash import convert

from .exact import graph, only_integers, onnx_runtime, saturated

AROUND = (
    "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) {body}"
    " p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)"
)
INTEGERS = torch.arange(-128, 128)


def of(body: str, shape: str = "[n]", s: float = 2.0**-5, **given: object) -> object:
    kept = {name: value for name, value in given.items() if name != "z"}
    return graph(AROUND.format(body=body), f"float{shape} x", "float o", s=s, z=given.get("z", np.int8(0)), **kept)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "function"),
    [
        ("y = Sigmoid(d)", lambda x: 1 / (1 + math.exp(-x))),
        ("t = Sigmoid(d) y = Mul(d, t)", lambda x: x / (1 + math.exp(-x))),
        ("y = Gelu(d)", lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
        ("t = Add(d, one) u = Mul(t, t) y = Reciprocal(u)", lambda x: math.inf if x == -1 else 1 / (x + 1) ** 2),
        ("y = Sqrt(d)", lambda x: math.sqrt(x) if x >= 0 else math.nan),
        ("t = Neg(d) y = Clip(t, , one)", lambda x: min(-x, 1)),
    ],
)
def test_a_function_of_one_value_is_one_table_of_what_it_gives(body, function):
    model = of(body, **({"one": np.float32(1)} if "one" in body else {}))
    ours = convert(model)
    expected = []
    for q in INTEGERS.tolist():
        y = function(q / 32)
        low_or_high = -128 if math.isnan(y) else 127
        expected.append(saturated(round(y * 32)) if math.isfinite(y) else low_or_high)
    assert ours.integers(INTEGERS / 32)["p"].tolist() == expected
    assert [step.place.value for step in ours.steps] == ["quantize", "integer", "dequantize"]


def test_a_constant_for_each_channel_makes_a_table_for_each():
    model = of("t = Mul(d, gain) y = Tanh(t)", "[2, 3, 4]", gain=np.array([[1.0], [-2.0], [0.5]], np.float32))
    ours, x = convert(model), torch.randn(2, 3, 4)
    assert torch.allclose(ours(x), onnx_runtime(model, x)[0], atol=1e-6)
    assert only_integers(ours)


def test_16_bits_have_a_table_of_65536_numbers():
    model = of("y = Tanh(d)", s=2.0**-13, z=np.int16(0))
    q = torch.arange(-32768, 32768)
    found = convert(model).integers(q / 2**13)["p"]
    assert found.tolist() == [saturated(round(math.tanh(i / 2**13) * 2**13), -32768, 32767) for i in q.tolist()]


@pytest.mark.parametrize("zero", [0, 77, 255])
def test_tables_know_zero_points(zero):
    model = of("y = Exp(d)", z=np.uint8(zero))
    ours, x = convert(model), torch.linspace(-8, 8, 501)
    assert torch.allclose(ours(x), onnx_runtime(model, x)[0], atol=1e-6)


def test_a_function_of_two_values_is_no_table():
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) r = QuantizeLinear(v, s, z)"
        "e = DequantizeLinear(r, s, z) y = Pow(d, e) p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)",
        "float[4] x, float[4] v",
        "float o",
        s=0.1,
        z=np.int8(0),
    )
    ours, inputs = convert(model), (torch.rand(4), torch.rand(4))
    (row,) = ours.report.floats
    assert row.op == "Pow"
    assert "of several values" in row.reason
    assert torch.allclose(ours(*inputs), onnx_runtime(model, *inputs)[0], atol=1e-6)
