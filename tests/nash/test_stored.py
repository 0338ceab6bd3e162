"""Ops on integers as the file stores them, with no DequantizeLinear in front: what they mean is what is stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nashquant.nash import convert

from .exact import graph, onnx_runtime

Q = "q = QuantizeLinear(x, s, z) "
DQ = " o = DequantizeLinear(y, s, z)"
CASES = {
    "a border of zero points": (f"{Q} y = Pad(q, n, z) {DQ}", {"n": np.array([0, 0, 1, 0, 0, 2])}),
    "a border of the least integer": (f"{Q} y = Pad(q, n) {DQ}", {"n": np.array([0, 0, 1, 0, 0, 2])}),
    "a clip": (f"{Q} y = Clip(q, z, k) {DQ}", {"k": np.uint8(140)}),
    "a part that is constant": (f"{Q} y = Concat<axis = 0>(q, k) {DQ}", {"k": np.full((2, 3, 8), 130, np.uint8)}),
    "two grids": ("r = QuantizeLinear(x, s, k) q = QuantizeLinear(x, s, z) o = Less(q, r)", {"k": np.uint8(9)}),
    "a cast": (f"{Q} c = Cast<to = 1>(q) f = Sqrt(c) y = QuantizeLinear(f, s, z) {DQ}", {}),
    "the largest": (f"{Q} o = ArgMax<axis = 1>(q)", {}),
    "a part that is picked": (f"{Q} y = MaxPool<kernel_shape = [2], strides = [2]>(q) {DQ}", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_integers_are_those_of_the_file(case: str):
    body, constants = CASES[case]
    kind = "bool" if "Less" in body else "int64" if "ArgMax" in body else "float"
    model = graph(body, "float[1, 3, 8] x", f"{kind} o", s=0.05, z=np.uint8(128), **constants)
    x = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(convert(model)(x), onnx_runtime(model, x)[0])


def test_what_onnx_runtime_computes_on_them_is_listed():
    body, constants = CASES["a border of zero points"]
    model = graph(body, "float[1, 3, 8] x", "float o", s=0.05, z=np.uint8(128), **constants)
    ((op, reason),) = [(row.op, row.reason) for row in convert(model).report.floats]
    assert (op, reason) == ("Pad", "it computes on integers as they are stored")
    two = graph(f"{Q} a = Clip(q, z, z) y = Max(a, q) {DQ}", "float[1, 3, 8] x", "float o", s=0.05, z=np.uint8(128))
    assert [row.op for row in convert(two).report.floats] == ["Clip", "Max"]
