"""Roots, what is divided by them, and logarithms of sums: against the contract, one row at a time."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from nashquant.nash import convert
from nashquant.nash._logarithm import logarithm

from .exact import factor, graph, only_integers, onnx_runtime, saturated

SX, SV, SY, FINE = (float(np.float32(scale)) for scale in (0.037, 0.0113, 0.0021, 0.00003))
NARROW, TWICE = (float(np.float32(scale)) for scale in (0.001, 0.00006))  # logarithms of about ln 5
ONE = "q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z) {body} p = QuantizeLinear(y, sy, zy)"
TWO = "r = QuantizeLinear(v, sv, z) e = DequantizeLinear(r, sv, z)"
LAST = np.array([-1], np.int64)


def rows(body: str, zero: int = 0, sx: float = SX, sy: float = SY, **constants: object) -> list[list[list[int]]]:
    """Rows of the integers that go in, zero points taken off, and of those that come out; near ONNX Runtime's."""
    two = "(d, e)" in body or "(e," in body
    x = torch.randint(-140, 141, (30, 5)) * sx
    x[0] = 0
    inputs = (x, torch.randint(-140, 141, (30, 5)) * SV) if two else (x,)
    text = f"{ONE.format(body=body)} o = DequantizeLinear(p, sy, zy)"
    given: dict[str, object] = {"sx": sx, "sy": sy, "z": np.int8(zero), "zy": np.int16(zero), "n": LAST, **constants}
    if two:
        text, given = f"{TWO} {text}", {**given, "sv": SV}
    source = graph(text, "float[30, 5] x" + (", float[30, 5] v" if two else ""), "float o", **given)  # type: ignore[arg-type]
    model = convert(source)
    assert only_integers(model), model.report
    found, theirs = model.integers(*inputs), onnx_runtime(source, *inputs)[0]
    ours = model(*inputs)
    assert isinstance(ours, Tensor)
    assert (ours - theirs).abs().max() <= 1.01 * sy
    made = found["p"].reshape(30, -1).tolist()
    return [(found[name].long() - zero).tolist() for name in ("q", "r") if name in found] + [made]


def landed(value: int) -> int:
    return saturated(value, -32768, 32767)


@pytest.mark.parametrize("zero", [0, -7])
def test_a_norm_is_the_nearest_factor_of_31_bits_rounded(zero):
    q, p = rows("y = ReduceL2(d, n)", zero)
    for row, (found,) in zip(q, p, strict=True):
        assert found == landed(round(factor(math.sqrt(sum(n * n for n in row)) * SX / SY)) + zero)


@pytest.mark.parametrize("zero", [0, -7])
@pytest.mark.parametrize("body", ["u = Clip(t, eps) y = Div(d, u)", "u = Max(t, eps) y = Div(d, u)"])
def test_what_is_divided_by_its_norm_is_multiplied_by_one_factor(body, zero):
    q, p = rows(f"t = ReduceL2(d, n) {body}", zero, eps=np.float32(1e-8))
    for row, found in zip(q, p, strict=True):
        root = max(math.sqrt(sum(n * n for n in row)) * SX, float(np.float32(1e-8)))
        by = factor(min(SX / SY / root, 2.0**30))
        assert found == [landed(round(n * by) + zero) for n in row]


def test_without_an_epsilon_zero_by_zero_is_zero():
    x = torch.zeros(2, 3)
    text = ONE.format(body="t = ReduceL2(d, n) y = Div(d, t)") + " o = DequantizeLinear(p, sy, zy)"
    model = convert(graph(text, "float[2, 3] x", "float o", sx=SX, sy=SY, z=np.int8(0), zy=np.int16(0), n=LAST))  # type: ignore[arg-type]
    assert torch.equal(model(x), x)  # type: ignore[arg-type]


def test_a_number_by_zero_is_the_end_on_its_side():
    body = "a = Sub(e, e) t = ReduceL2(a, n) y = Div(d, t)"
    text = f"{TWO} {ONE.format(body=body)} o = DequantizeLinear(p, sy, zy)"
    given = {"sx": SX, "sv": SV, "sy": SY, "z": np.int8(0), "zy": np.int16(0), "n": LAST}
    model = convert(graph(text, "float[1, 3] x, float[1, 3] v", "float o", **given))  # type: ignore[arg-type]
    assert model.integers(torch.tensor([[-1.0, 0.0, 1.0]]), torch.ones(1, 3))["p"].tolist() == [[-32768, 0, 32767]]


def test_a_cosine_has_20_bits_behind_the_point_of_each_share():
    body = "s = ReduceL2(d, n) t = ReduceL2(e, n) a = Clip(s, eps) b = Clip(t, eps) f = Div(d, a) g = Div(e, b)"
    q, r, p = rows(f"{body} u = Mul(f, g) y = ReduceSum(u, n)", sy=FINE, eps=1e-8)
    for row, more, (found,) in zip(q, r, p, strict=True):
        shares = []
        for numbers in (row, more):
            root = math.sqrt(sum(n * n for n in numbers))
            by = factor(2**20 / root) if root else 0
            shares.append([round(n * by) for n in numbers])
        total = sum(a * b for a, b in zip(*shares, strict=True))
        assert found == landed(round(total * factor(2.0**-40 / FINE)))


@pytest.mark.parametrize("body", ["f = Div(d, t)", "u = Expand(t, many) f = Div(d, u)"])
def test_a_share_of_its_own_norm_is_never_more_than_one(body):
    """Squares of more than 15 bits are rounded first: a norm of few steps may then be 0."""
    text = f"q = QuantizeLinear(x, s, z) v = DequantizeLinear(q, s, z) d = Mul(v, v) t = ReduceL2(d, n) {body}"
    text += " y = Mul(f, f) p = QuantizeLinear(y, sy, z) o = DequantizeLinear(p, sy, z)"
    given = {"s": 0.001, "sy": 0.0001, "z": np.int16(0), "n": LAST, "many": np.array([3, 1024])}
    given = {name: value for name, value in given.items() if name != "many" or "Expand" in body}
    model = convert(graph(text, "float[3, 1024] x", "float o", **given))  # type: ignore[arg-type]
    assert only_integers(model), model.report
    x = torch.zeros(3, 1024)
    x[:, :2] = torch.tensor([[0.001, 0], [-0.002, 0.001], [3, 4]])
    y = model(x)
    assert isinstance(y, Tensor)
    assert y.max() <= 1.00005
    assert y[2, :4].tolist() == pytest.approx([(9 / 337**0.5) ** 2, (16 / 337**0.5) ** 2, 0, 0], abs=1e-3)


@pytest.mark.parametrize("body", ["t = ReduceL2<keepdims = 0>(d, n)", "r = ReduceL2(d, n) t = Transpose(r)"])
def test_what_is_divided_by_the_norm_of_another_row_is_no_share(body):
    text = f"q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) {body} f = Div(d, t) y = Mul(f, f)"
    text += " p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)"
    source = graph(text, "float[2, 2] x", "float o", s=0.05, z=np.int8(0), n=LAST)
    model, x = convert(source), torch.tensor([[3.0, 4.0], [0.1, 0.2]])
    assert [row.op for row in model.report.floats] == ["Div", "Mul"]
    assert torch.equal(model(x), onnx_runtime(source, x)[0])  # type: ignore[arg-type]


def test_the_root_of_a_variance_is_one_factor():
    q, p = rows("m = ReduceMean(d, n) t = Sub(d, m) u = Mul(t, t) w = ReduceMean(u, n) y = Sqrt(w)")
    for row, (found,) in zip(q, p, strict=True):
        squares = sum((n * 5 - sum(row)) ** 2 for n in row)
        assert found == landed(round(factor(math.sqrt(squares * (SX * SX / 125)) / SY)))


def logarithm_of(row: list[int]) -> int:
    """Of the sum of a row's exponentials, 24 bits behind the point."""
    table = [round(2**20 * math.exp(-(max(row) - n) * NARROW)) for n in row]
    return round(2**24 * (math.log(sum(table)) - 20 * math.log(2)))


def terms() -> tuple[int, int, int]:
    """Factors of the integers and of the logarithm, and their shift."""
    shift = min(44 - math.frexp(NARROW / TWICE)[1], 30 - math.frexp(2.0**-24 / TWICE)[1])
    return round(math.ldexp(NARROW / TWICE, shift)), round(math.ldexp(2.0**-24 / TWICE, shift)), shift


@pytest.mark.parametrize("zero", [0, -7])
def test_the_logarithm_of_a_softmax_is_rounded_once(zero):
    q, p = rows("y = LogSoftmax(d)", zero, sx=NARROW, sy=TWICE)
    by_q, by_log, shift = terms()
    for row, found in zip(q, p, strict=True):
        sums = [(n - max(row)) * by_q - logarithm_of(row) * by_log for n in row]
        assert found == [landed(round(Fraction(n, 2**shift)) + zero) for n in sums]


@pytest.mark.parametrize("zero", [0, -7])
def test_the_logarithm_of_a_sum_of_exponentials_is_rounded_once(zero):
    q, p = rows("y = ReduceLogSumExp(d, n)", zero, sx=NARROW, sy=TWICE)
    by_q, by_log, shift = terms()
    for row, (found,) in zip(q, p, strict=True):
        total = max(row) * by_q + logarithm_of(row) * by_log
        assert found == landed(round(Fraction(total, 2**shift)) + zero)


def test_a_logarithm_is_off_by_less_than_a_step():
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.arange(1, 5000), 2 ** torch.arange(53), 2 ** torch.arange(1, 54) - 1])
    x = torch.cat([x, torch.randint(1, 2**53, (5000,), generator=generator)])
    for bits in (24, 35):
        exact = torch.tensor([math.log(n) for n in x.tolist()], dtype=torch.float64) * 2.0**bits
        assert (logarithm(x, bits) - exact).abs().max() < (0.51 if bits == 24 else 1)
    assert logarithm(torch.tensor([1]), 24).tolist() == [0]


def test_a_computed_bias_is_rounded_to_the_steps_of_the_sum():
    text = (
        "q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z) r = QuantizeLinear(v, sv, z)"
        " e = DequantizeLinear(r, sv, z) y = Gemm<transB = 1, alpha = 0.5, beta = -2.0>(d, e, d)"
        " p = QuantizeLinear(y, sy, zy) o = DequantizeLinear(p, sy, zy)"
    )
    given = {"sx": SX, "sv": SV, "sy": SY, "z": np.int8(0), "zy": np.int16(0)}
    model = convert(graph(text, "float[4, 4] x, float[4, 4] v", "float o", **given))  # type: ignore[arg-type]
    assert only_integers(model)
    found = model.integers(torch.randn(4, 4), torch.randn(4, 4))
    q, r, p = (found[name].tolist() for name in ("q", "r", "p"))
    for i in range(4):
        for j in range(4):
            acc = sum(a * b for a, b in zip(q[i], r[j], strict=True)) + round(q[i][j] * factor(-2 / (SV * 0.5)))
            assert p[i][j] == landed(round(acc * factor(SX * SV * 0.5 / SY)))


@pytest.mark.parametrize(
    "equation", ["bcij,bkij->bkc", "ij,jk", "ij,kj->ki", "i,j->ji", "ij,ij->", "bij,bjk->ikb", "ij->ji", "ij->j"]
)
def test_an_einsum_is_the_exact_sum(equation):
    letters = equation.split("->")[0].split(",")
    sizes = dict(zip("bcijk", (2, 3, 4, 5, 6), strict=True))
    shapes = [[sizes[each] for each in one] for one in letters]
    names = ("x", "v")[: len(shapes)]
    text = "".join(f"{n}q = QuantizeLinear({n}, s, z) {n}d = DequantizeLinear({n}q, s, z) " for n in names)
    text += f'y = Einsum<equation = "{equation}">({", ".join(f"{n}d" for n in names)})'
    text += " p = QuantizeLinear(y, s, zy) o = DequantizeLinear(p, s, zy)"
    inputs = ", ".join(f"float{shape} {n}" for n, shape in zip(names, shapes, strict=True))
    model = convert(graph(text, inputs, "float o", s=1.0, z=np.uint8(131), zy=np.int16(0)))
    assert only_integers(model), model.report
    given = [torch.randint(-100, 100, shape).float() for shape in shapes]
    expected = torch.einsum(equation, *(x.double() for x in given)).clamp(-32768, 32767)
    assert torch.equal(model.integers(*given)["p"].double(), expected)


@pytest.mark.parametrize(
    ("equation", "shapes"), [("bij,bjk->bik", ([1, 2, 3], [4, 3, 2])), ("ij,jk->ik", ([2, 1], [3, 2]))]
)
def test_an_axis_of_one_is_repeated_in_an_einsum(equation, shapes):
    text = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) r = QuantizeLinear(v, s, z)"
    text += f' e = DequantizeLinear(r, s, z) y = Einsum<equation = "{equation}">(d, e)'
    text += " p = QuantizeLinear(y, s, zy) o = DequantizeLinear(p, s, zy)"
    inputs = ", ".join(f"float{shape} {name}" for name, shape in zip("xv", shapes, strict=True))
    model = convert(graph(text, inputs, "float o", s=1.0, z=np.uint8(131), zy=np.int16(0)))
    given = [torch.randint(-100, 100, shape).float() for shape in shapes]
    assert torch.equal(model(*given), torch.einsum(equation, *given).clamp(-32768, 32767))  # type: ignore[arg-type]


def test_what_is_added_to_a_root_may_have_more_axes():
    text = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) n = ReduceL2<keepdims = 0>(d, k) y = Add(n, c)"
    text += " p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)"
    given = {"s": 1.0, "z": np.int8(0), "k": LAST, "c": np.ones((1, 1), np.float32)}
    model = convert(graph(text, "float[2, 2] x", "float o", **given))  # type: ignore[arg-type]
    assert model(torch.tensor([[3.0, 4], [6, 8]])).tolist() == [[6, 11]]  # type: ignore[union-attr]


@pytest.mark.parametrize("equation", ["ii->i", "ij,jk,kl->il", "ij,k->k", "...i,i->..."])
def test_another_einsum_runs_as_float_and_says_why(equation):
    operands = equation.split("->")[0].split(",")
    text = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = ReduceSum<keepdims = 0>(d, n) "
    given = ", ".join("e" if len(each) == 1 else "d" for each in operands)
    text += f'y = Einsum<equation = "{equation}">({given}) p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)'
    source = graph(text, "float[3, 3] x", "float o", s=1.0, z=np.int8(0), n=np.array([0], np.int64))
    model, x = convert(source), torch.randint(-3, 4, (3, 3)).float()
    assert any("equation" in row.reason for row in model.report.floats)
    assert torch.equal(model(x), onnx_runtime(source, x)[0])  # type: ignore[arg-type]
