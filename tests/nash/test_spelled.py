"""A norm or a softmax that a file writes in its parts is that norm or softmax, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nashquant.nash import convert

from .exact import graph, only_integers, onnx_runtime

NORM = (
    "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) {body}"
    " p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)"
)
PARTS = "a = Pow(d, two) b = ReduceMean(a, n) c = Add(b, e) f = Sqrt(c) r = Reciprocal(f)"
KNOWN = {"s": 0.03, "z": np.int8(0)}
GAIN = np.linspace(-1, 2, 6).astype(np.float32)
GIVEN = {"two": np.float32(2), "n": np.array([-1], np.int64), "e": np.float32(0.25)}


@pytest.mark.parametrize("last", ["t = Mul(d, r) y = Mul(t, g)", "t = Mul(r, d) y = Mul(g, t)"])
def test_a_root_mean_square_norm_in_parts_is_one(last):
    spelled = graph(NORM.format(body=f"{PARTS} {last}"), "float[4, 6] x", "float o", **KNOWN, **GIVEN, g=GAIN)  # type: ignore[arg-type]
    whole = "y = RMSNormalization<epsilon = 0.25>(d, g)"
    one = graph(NORM.format(body=whole), "float[4, 6] x", "float o", opset=23, **KNOWN, g=GAIN)  # type: ignore[arg-type]
    ours, x = convert(spelled), torch.randn(4, 6)
    assert only_integers(ours), ours.report
    assert torch.equal(ours.integers(x)["p"], convert(one).integers(x)["p"])


MEAN = "m = ReduceMean(d, n) t = Sub(d, m)"
BIAS = np.linspace(0.5, -0.5, 6).astype(np.float32)
NUMBERS = {**GIVEN, "half": np.float32(0.5), "minus": np.float32(-0.5), "one": np.float32(1)}


@pytest.mark.parametrize(
    "body",
    [
        "a = Pow(t, two) b = ReduceMean(a, n) c = Add(b, e) f = Sqrt(c) u = Div(t, f) v = Mul(u, g) y = Add(v, h)",
        "a = Mul(t, t) b = ReduceMean(a, n) c = Add(e, b) f = Pow(c, minus) u = Mul(f, t) v = Mul(g, u) y = Add(h, v)",
        "a = Mul(t, t) b = ReduceMean(a, n) c = Add(b, e) f = Sqrt(c) r = Div(one, f) u = Mul(t, r) v = Mul(u, g)"
        " y = Add(v, h)",
        "a = Mul(t, t) b = ReduceMean(a, n) c = Add(b, e) f = Pow(c, half) u = Div(t, f) v = Mul(u, g) y = Add(v, h)",
    ],
)
def test_a_layer_norm_in_parts_is_one(body):
    read = {name: value for name, value in NUMBERS.items() if f"{name})" in f"{MEAN} {body}" or f"({name}," in body}
    spelled = graph(NORM.format(body=f"{MEAN} {body}"), "float[4, 6] x", "float o", **KNOWN, **read, g=GAIN, h=BIAS)
    whole = "y = LayerNormalization<epsilon = 0.25>(d, g, h)"
    one = graph(NORM.format(body=whole), "float[4, 6] x", "float o", **KNOWN, g=GAIN, h=BIAS)  # type: ignore[arg-type]
    ours, x = convert(spelled), torch.randn(4, 6)
    assert only_integers(ours), ours.report
    assert torch.equal(ours.integers(x)["p"], convert(one).integers(x)["p"])


def test_a_gain_for_more_than_is_normalized_is_no_norm():
    body = f"{PARTS} t = Mul(d, r) y = Mul(t, g)"
    source = graph(NORM.format(body=body), "float[4, 1] x", "float o", **KNOWN, **GIVEN, g=GAIN)  # type: ignore[arg-type]
    x = torch.randn(4, 1)
    ours, (theirs,) = convert(source)(x), onnx_runtime(source, x)
    assert theirs.shape == (4, 6)
    assert torch.allclose(ours, theirs, atol=0.031)  # type: ignore[arg-type]


@pytest.mark.parametrize("less", ["m = ReduceMax(d, n) t = Sub(d, m)", "t = Identity(d)"])
def test_a_softmax_in_parts_is_one(less):
    body = f"{less} a = Exp(t) b = ReduceSum(a, n) y = Div(a, b)"
    spelled = graph(NORM.format(body=body), "float[4, 6] x", "float o", **KNOWN, n=GIVEN["n"])  # type: ignore[arg-type]
    one = graph(NORM.format(body="y = Softmax<axis = -1>(d)"), "float[4, 6] x", "float o", **KNOWN)  # type: ignore[arg-type]
    ours, x = convert(spelled), torch.randn(4, 6)
    assert only_integers(ours), ours.report
    assert torch.equal(ours.integers(x)["p"], convert(one).integers(x)["p"])


@pytest.mark.parametrize(
    "body",
    [
        "m = ReduceMax(d, n) t = Sub(d, m) a = Exp(t) b = ReduceSum(a, k) y = Div(a, b)",  # over two axes
        "m = ReduceMax(d, k) t = Sub(d, m) a = Exp(t) b = ReduceSum(a, n) y = Div(a, b)",  # the greatest of another
    ],
)
def test_another_sum_of_exponentials_is_no_softmax(body):
    given = {"n": GIVEN["n"], "k": np.array([0], np.int64)}
    source, x = graph(NORM.format(body=body), "float[4, 6] x", "float o", **KNOWN, **given), torch.randn(4, 6)  # type: ignore[arg-type]
    assert (convert(source)(x) - onnx_runtime(source, x)[0]).abs().max() <= 1.01 * 0.03  # type: ignore[operator]


def test_another_power_is_no_norm():
    given = {**GIVEN, "two": np.float32(4)}
    ours = convert(graph(NORM.format(body=f"{PARTS} y = Mul(d, r)"), "float[4, 6] x", "float o", **KNOWN, **given))  # type: ignore[arg-type]
    assert "+" not in next(step.op for step in ours.steps if step.outputs == ("p",))  # each op by itself
    source = graph(NORM.format(body=f"{PARTS} y = Mul(d, r)"), "float[4, 6] x", "float o", **KNOWN, **given)  # type: ignore[arg-type]
    x = torch.randn(4, 6)
    assert (ours(x) - onnx_runtime(source, x)[0]).abs().max() <= 1.01 * 0.03  # type: ignore[operator]
