"""A norm that a file writes in its parts is that norm, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nashquant.nash import convert

from .exact import graph, only_integers

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


def test_another_power_is_no_norm():
    given = {**GIVEN, "two": np.float32(4)}
    ours = convert(graph(NORM.format(body=f"{PARTS} y = Mul(d, r)"), "float[4, 6] x", "float o", **KNOWN, **given))  # type: ignore[arg-type]
    assert [row.op for row in ours.report.floats] == ["Sqrt", "Reciprocal", "Mul"]
