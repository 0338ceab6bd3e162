"""What several ops compute before a quantizer rounds: exact on the way, rounded once, against fractions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nashquant.nash import convert

from .exact import factor, graph, only_integers, onnx_runtime, saturated

SX, SV, SY = (float(np.float32(scale)) for scale in (0.037, 0.0113, 0.00051))
TWO = (
    "r = QuantizeLinear(v, sv, z) e = DequantizeLinear(r, sv, z) q = QuantizeLinear(x, sx, z)"
    " d = DequantizeLinear(q, sx, z) {body} p = QuantizeLinear(y, sy, zy) o = DequantizeLinear(p, sy, zy)"
)


def landed(value: int) -> int:
    return saturated(value, -32768, 32767)


def integers(body: str, zero: int = 0, **constants: object) -> list[list[list[int]]]:
    """Rows of the two inputs, zero points taken off, and of the result as it is, one step from ONNX Runtime at most."""
    x, v = (torch.randint(-140, 141, (40, 5)) * scale for scale in (SX, SV))
    given: dict[str, object] = {"sx": SX, "sv": SV, "sy": SY, "z": np.int8(zero), "zy": np.int16(zero), **constants}
    source = graph(TWO.format(body=body), "float[40, 5] x, float[40, 5] v", "float o", **given)  # type: ignore[arg-type]
    model = convert(source)
    assert only_integers(model), model.report
    found = model.integers(x, v)
    (theirs,) = onnx_runtime(source, x, v)
    assert (model(x, v) - theirs).abs().max() <= 1.01 * SY  # type: ignore[operator]
    return [(found[name].long() - zero).tolist() for name in ("q", "r") if name in found] + [found["p"].tolist()]


def test_a_gate_is_a_table_of_31_bits_and_one_product():
    q, r, p = integers("t = Sigmoid(e) y = Mul(d, t)")
    largest = max(1 / (1 + math.exp(-n * SV)) for n in range(-128, 128))
    scale = largest / 2**30
    by = factor(SX * scale / SY)
    for row, gates, found in zip(q, r, p, strict=True):
        table = [round(1 / (1 + math.exp(-n * SV)) / scale) for n in gates]
        assert found == [landed(round(n * gate * by)) for n, gate in zip(row, table, strict=True)]


@pytest.mark.parametrize("zero", [0, -7])
def test_a_product_of_sums_is_rounded_once(zero):
    q, r, p = integers("a = Add(d, e) b = Sub(d, e) y = Mul(a, b)", zero)
    scale = SX * (128 + max(zero, -zero - 1)) / 2**29
    of_x, of_v, by = factor(SX / scale), factor(SV / scale), factor(scale * scale / SY)
    for row, more, found in zip(q, r, p, strict=True):
        terms = [(round(n * of_x), round(m * of_v)) for n, m in zip(row, more, strict=True)]
        sums = [(a + b, a - b) for a, b in terms]
        assert found == [landed(round(a * b * by) + zero) for a, b in sums]


def test_what_is_added_to_a_product_is_rounded_to_its_steps():
    q, r, p = integers("t = Mul(d, e) y = Add(d, t)")
    for row, more, found in zip(q, r, p, strict=True):
        sums = [n * m + round(n * factor(SX / (SX * SV))) for n, m in zip(row, more, strict=True)]
        assert found == [landed(round(n * factor(SX * SV / SY))) for n in sums]


def test_what_lies_on_the_way_is_no_accumulator_of_the_chip():
    body = (
        "q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z) t = Exp(d) m = ReduceSum(t, n) u = Add(m, d)"
        " p = QuantizeLinear(u, sy, z) o = DequantizeLinear(p, sy, z)"
    )
    given: dict[str, object] = {"sx": SX, "sy": 1.0, "z": np.int8(0), "n": np.array([1], np.int64)}
    model = convert(graph(body, "float[2, 64] x", "float o", **given))  # type: ignore[arg-type]
    assert only_integers(model)
    assert model.overflows(torch.full((2, 64), 4.0)) == {}  # sums of 36 bits


def test_the_sum_of_products_is_exact():
    q, r, p = integers("t = Mul(d, e) y = ReduceSum(t, n)", n=np.array([1], np.int64))
    for row, more, found in zip(q, r, p, strict=True):
        assert found == [landed(round(sum(n * m for n, m in zip(row, more, strict=True)) * factor(SX * SV / SY)))]


def test_a_variance_is_exact_but_for_what_is_taken_from_the_mean():
    axes = np.array([1], np.int64)
    q, p = integers("m = ReduceMean(d, n) t = Sub(d, m) u = Mul(t, t) y = ReduceMean(u, n)", n=axes)
    for row, found in zip(q, p, strict=True):
        squares = sum((round(n * factor(5.0)) - sum(row)) ** 2 for n in row)
        assert found == [landed(round(squares * factor(SX * SX / 125 / SY)))]


def test_an_accumulator_is_scaled_before_it_is_rounded():
    q, r, p = integers(
        "w = Transpose(e) t = MatMul(d, w) u = Mul(t, half) y = Div(u, four)", half=np.float32(0.5), four=np.float32(4)
    )
    for row, found in zip(q, p, strict=True):
        products = [sum(n * m for n, m in zip(row, column, strict=True)) for column in r]
        assert found == [landed(round(n * factor(SX * SV * 0.125 / SY))) for n in products]


def test_what_an_output_reads_too_is_no_step_on_the_way():
    body = (
        "q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z) t = Sigmoid(d) y = Mul(d, t)"
        " p = QuantizeLinear(y, sx, z) o = DequantizeLinear(p, sx, z)"
    )
    source = graph(body, "float[8] x", "float o, float[8] t", sx=SX, z=np.int8(0))
    model, x = convert(source), torch.randn(8)
    ours, theirs = model(x), onnx_runtime(source, x)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))  # t as float, to its last bit


@pytest.mark.parametrize(
    "body",
    [
        "a = ReduceMean(d, n) h = Sub(d, a) g = Mul(h, h) b = ReduceMean(g, n) k = Shape(b) m = Reshape(b, k)"
        " y = Sqrt(m)",
        "f = Sigmoid(d) g = Mul(f, e) h = ReduceSum(g, n) k = Shape(f) y = Expand(h, k)",
    ],
)
def test_what_lies_on_the_way_may_be_asked_for_its_sizes(body):
    """As torch exports a standard deviation over several axes, with a free batch."""
    given = {"sx": SX, "sv": SV, "sy": SY, "z": np.int8(0), "zy": np.int16(0), "n": np.array([-1], np.int64)}
    source = graph(TWO.format(body=body), "float[b, 5] x, float[b, 5] v", "float o", **given)  # type: ignore[arg-type]
    model, inputs = convert(source), (torch.randn(4, 5), torch.randn(4, 5))
    assert only_integers(model), model.report
    assert (model(*inputs) - onnx_runtime(source, *inputs)[0]).abs().max() <= 1.01 * SY  # type: ignore[operator]


def test_what_may_leave_64_bits_runs_as_float():

    body = "a = Exp(d) b = Exp(e) t = Mul(a, b) u = Mul(t, d) y = Mul(u, e)"
    x, v = (torch.randint(-20, 21, (3, 4)) * scale for scale in (SX, SV))
    given: dict[str, object] = {"sx": SX, "sv": SV, "sy": SY, "z": np.int8(0), "zy": np.int16(0)}
    source = graph(TWO.format(body=body), "float[3, 4] x, float[3, 4] v", "float o", **given)  # type: ignore[arg-type]
    model = convert(source)
    assert any("64 bits" in row.reason for row in model.report.floats)
    found = model(x, v)
    assert isinstance(found, Tensor)
    assert (found - onnx_runtime(source, x, v)[0]).abs().max() <= 1.01 * SY


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 1, 1)])
def test_a_number_may_have_as_many_axes_as_the_sum_it_multiplies(shape):
    text = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(k, s, z) m = MatMul(d, w)"
    text += " y = Mul(m, c) p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)"
    k = torch.randint(-9, 9, (4, 3), dtype=torch.int8).numpy()
    source = graph(text, "float[2, 4] x", "float o", s=0.02, z=np.int8(0), k=k, c=np.full(shape, 0.5, np.float32))
    model, x = convert(source), torch.randn(2, 4)
    assert only_integers(model) == (len(shape) <= 2)
    (theirs,) = onnx_runtime(source, x)
    assert model(x).shape == theirs.shape  # type: ignore[union-attr]
    assert (model(x) - theirs).abs().max() <= 0.0201  # type: ignore[operator]


@pytest.mark.parametrize("sides", ["m, c", "c, m"])
def test_what_has_more_axes_than_a_sum_with_a_scale_for_each_channel_is_added_as_float(sides):
    text = (
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear<axis = 0>(k, sw) m = Conv(d, w)"
    )
    text += f" y = Add({sides}) p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)"
    given = {
        "k": np.full((3, 2, 1), 5, np.int8),
        "sw": np.array([0.1, 0.2, 0.4]),
        "c": np.ones((1, 1, 1, 1), np.float32),
    }
    source = graph(text, "float[2, 2, 5] x", "float o", s=0.02, z=np.int8(0), **given)
    model, x = convert(source), torch.randn(2, 2, 5)
    (theirs,) = onnx_runtime(source, x)
    assert (model(x) - theirs).abs().max() <= 0.0201  # type: ignore[operator]
