"""Scales that no chip computes with: refused by `convert`, which names the layer; nothing waits until it runs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from nashquant.nash import convert

from .exact import graph, onnx_runtime

ENTER = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(k, s, z) "
TWO = "v = Neg(x) r = QuantizeLinear(v, s, z) e = DequantizeLinear(r, s, z) "
LEAVE = " last = QuantizeLinear(y, t, z) o = DequantizeLinear(last, t, z)"
PICTURE, MATRIX = "float[1, 2, 4, 4] x", "float[3, 4] x"
CASES = {
    "a product": ("y = MatMul(d, w)", MATRIX),
    "a product and a sum": ("m = MatMul(d, w) y = Add(m, d)", MATRIX),
    "a convolution": ("y = Conv(d, w)", PICTURE),
    "a transposed convolution": ("y = ConvTranspose(d, w)", PICTURE),
    "an einsum": ('y = Einsum<equation = "ij,jk->ik">(d, w)', MATRIX),
    "a sum": (TWO + "y = Add(d, e)", MATRIX),
    "a product of two": (TWO + "y = Mul(d, e)", MATRIX),
    "a product of sums": (TWO + "a = Add(d, e) y = Mul(a, d)", MATRIX),
    "another grid": ("y = Relu(d)", MATRIX),
    "parts side by side": ("y = Concat<axis = 0>(d, d)", MATRIX),
    "a batch norm": ("m = Conv(d, w) y = BatchNormalization(m, g, g, g, g)", PICTURE),
    "an average": ("y = AveragePool<kernel_shape = [2, 2]>(d)", PICTURE),
    "a mean": ("y = GlobalAveragePool(d)", PICTURE),
    "a running sum": ("y = CumSum(d, one)", MATRIX),
    "a resize": ('y = Resize<mode = "linear">(d, , twice)', PICTURE),
    "a sample": ("h = Reshape(d, pairs) y = GridSample(d, h)", PICTURE),
}


def source(body: str, inputs: str, s: float, t: float, zero: int = 0) -> onnx.ModelProto:
    kernel = (2, 2, 1, 1) if "Conv" in body else (4, 4)
    given = {
        "k": np.full(kernel, 3, np.int8),
        "g": np.ones(2, np.float32),
        "one": np.array(1, np.int64),
        "twice": np.array([1, 1, 2, 2], np.float32),
        "pairs": np.array([1, 4, 4, 2], np.int64),
    }
    text = ENTER + body + LEAVE
    given = {name: array for name, array in given.items() if name in text.replace("(", " ").replace(",", " ")}
    return graph(text, inputs, "float o", s=s, t=t, z=np.int8(zero), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_2_to_the_31_steps_of_the_quantizer_is_refused_at_once(case: str):
    body, inputs = CASES[case]
    with pytest.raises(ValueError, match=r"of 'QuantizeLinear_\d': one step of what it rounds is .* must be less than"):
        convert(source(body, inputs, 3000.0, 1e-12))
    x = torch.randn(*(3, 4) if inputs == MATRIX else (1, 2, 4, 4))
    assert convert(source(body, inputs, 0.02, 0.02))(x).isfinite().all()  # type: ignore[union-attr]


def test_so_is_a_sum_of_16_bits_with_zero_points():
    text = (ENTER + TWO + "y = Add(d, e)" + LEAVE).replace("w = DequantizeLinear(k, s, z)", "")
    with pytest.raises(ValueError, match="one step of what it rounds is 3e"):
        convert(graph(text, MATRIX, "float o", s=3000.0, t=1e-7, z=np.uint16(9)))


def test_so_is_a_softmax_or_norm_on_too_small_a_scale():
    for op in ("Softmax(d)", "LayerNormalization(d, k)"):
        text = f"q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = {op} {LEAVE}"
        given = {"k": np.ones(4, np.float32)} if "k" in op else {}
        with pytest.raises(ValueError, match="one step of what it rounds"):
            convert(graph(text, MATRIX, "float o", s=0.1, t=1e-18, z=np.int8(0), **given))  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_the_scale_of_an_activation_is_positive_and_finite(scale: float):
    with pytest.raises(ValueError, match=r"^QuantizeLinear of 'QuantizeLinear_4': its scale is .* positive"):
        convert(source("y = MatMul(d, w)", MATRIX, 0.1, scale))


@pytest.mark.parametrize("scale", [0.0, -0.1])
def test_that_of_a_channel_of_the_weight_may_be_0_or_negative(scale: float):
    text = ENTER.replace("DequantizeLinear(k, s, z)", "DequantizeLinear<axis = 1>(k, ws)") + "y = MatMul(d, w)" + LEAVE
    scales = np.array([0.1, scale, 0.2, 0.3], np.float32)
    made = graph(text, MATRIX, "float o", s=0.1, t=0.2, z=np.int8(0), k=np.full((4, 4), 3, np.int8), ws=scales)
    model, x = convert(made), torch.randn(3, 4)
    assert bool(model.report.floats) == (scale < 0)
    assert torch.allclose(model(x), onnx_runtime(made, x)[0])  # type: ignore[arg-type]


LONG = (
    "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(k, s, z) m = MatMul(d, w) "
    "h = Mod<fmod = 1>(m, far) "
)


def test_a_float_step_reads_the_exact_sum_and_one_behind_the_last_quantizer_what_leaves_the_chip():
    given = {"s": 1e-4, "z": np.int16(0), "k": np.full((4000, 2), 32767, np.int16), "far": np.float32(1e30)}
    x = torch.full((1, 4000), 3.2)
    text = LONG + "p = QuantizeLinear(h, t, z) o = DequantizeLinear(p, t, z)"
    model = convert(graph(text, "float[1, 4000] x", "float o", t=10.0, **given))  # type: ignore[arg-type]
    assert [row.op for row in model.report.floats] == ["Mod"]
    scale = float(np.float32(1e-4))
    assert model(x).tolist() == [[round(4000 * 32000 * 32767 * scale**2 / 10) * 10.0] * 2]  # type: ignore[union-attr]
    behind = convert(graph(LONG, "float[1, 4000] x", "float h, float m", **given))  # type: ignore[arg-type]
    leaving = float(np.float32((2**31 - 1) * scale**2))
    assert [y.tolist() for y in behind(x)] == [[[leaving] * 2]] * 2
