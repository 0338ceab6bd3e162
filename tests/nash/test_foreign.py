"""Files of other tools, as their quantizers write them; ONNX Runtime says what they compute."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from nashquant.nash import convert

from .exact import graph, only_integers, onnx_runtime


def in_onnx_runtime_s_domain(zero: np.generic, axis: bool = False) -> onnx.ModelProto:
    """A convolution with 16 bits before opset 21: QuantizeLinear and DequantizeLinear are of "com.microsoft"."""

    def pair(x: str, y: str) -> list[onnx.NodeProto]:
        more = {"axis": 1} if axis else {}
        names = [x, "s", "z"], [f"{y}_q", "s", "z"]
        return [
            helper.make_node("QuantizeLinear", names[0], [f"{y}_q"], domain="com.microsoft", **more),
            helper.make_node("DequantizeLinear", names[1], [y], domain="com.microsoft", **more),
        ]

    nodes = [
        *pair("x", "d"),
        helper.make_node("DequantizeLinear", ["k", "sk"], ["w"], domain="com.microsoft"),
        helper.make_node("Conv", ["d", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        *pair("r", "o"),
    ]
    rng, many = np.random.default_rng(0), np.ones(3 if axis else (), np.float32)
    held = {
        "s": many * np.float32(0.001),
        "z": np.full_like(many, zero, zero.dtype),
        "k": rng.integers(-127, 128, (3, 3, 1, 1), np.int8),
        "sk": np.float32(0.005),
    }
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()],
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=imports, ir_version=8)


@pytest.mark.parametrize("zero", [np.uint16(30000), np.int16(0), np.int16(-9), np.uint8(120), np.int8(3)])
def test_quantizers_of_onnx_runtime_s_own_domain_are_known(zero: np.generic) -> None:
    source = in_onnx_runtime_s_domain(zero)
    model, x = convert(source), torch.randn(2, 3, 4, 4) * (1 if zero.itemsize == 2 else 0.1)
    assert only_integers(model), model.report
    assert (model(x) - onnx_runtime(source, x)[0]).abs().max() <= 0.00101


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_so_are_those_of_4_bits(kind: int) -> None:
    source = in_onnx_runtime_s_domain(np.uint8(120))
    held = {each.name: each for each in source.graph.initializer}
    low = -8 if kind == TensorProto.INT4 else 0
    held["k"].CopyFrom(helper.make_tensor("k", kind, [3, 3, 1, 1], [low + i for i in range(9)]))
    held["z"].CopyFrom(helper.make_tensor("z", kind, [], [low + 3]))
    held["s"].CopyFrom(numpy_helper.from_array(np.float32(0.1), "s"))
    model, x = convert(source), torch.randn(2, 3, 4, 4)
    assert only_integers(model), model.report
    assert (model(x) - onnx_runtime(source, x)[0]).abs().max() <= 0.101


def test_floats_of_16_bits_stay_such_in_its_domain() -> None:
    source = in_onnx_runtime_s_domain(np.uint8(120))
    for held in source.graph.initializer:
        if held.data_type == TensorProto.FLOAT:
            held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held).astype(np.float16), held.name))
    for value in (*source.graph.input, *source.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    model, x = convert(source), torch.randn(2, 3, 4, 4).half() * 0.1
    assert only_integers(model), model.report
    found, expected = model(x), onnx_runtime(source, x)[0]
    assert found.dtype == expected.dtype == torch.float16
    assert (found - expected).abs().max() <= 0.00101


def test_those_that_no_integer_form_has_run_there() -> None:
    source = in_onnx_runtime_s_domain(np.uint16(30000), axis=True)
    model, x = convert(source), torch.randn(2, 3, 4, 4)
    assert "an activation quantized per axis" in {row.reason for row in model.report.floats}
    assert torch.equal(model(x), onnx_runtime(source, x)[0])


@pytest.mark.parametrize("opset", [19, 21])
def test_half_precision_comes_out_as_such(opset: int) -> None:
    text = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(k, s) m = MatMul(d, w)"
    text += " p = QuantizeLinear(m, s, z) o = DequantizeLinear(p, s, z)"
    given = {"s": np.float16(0.05), "z": np.int8(3), "k": np.random.default_rng(0).integers(-9, 9, (4, 3), np.int8)}
    source = graph(text, "float16[2, 4] x", "float16 o, float16 m", opset, **given)
    model, x = convert(source), torch.randn(2, 4).half()
    assert only_integers(model)
    for ours, theirs in zip(model(x), onnx_runtime(source, x), strict=True):
        assert ours.dtype == theirs.dtype == torch.float16
        assert torch.allclose(ours, theirs, atol=0.002)


def parsed(body: str, **held: np.ndarray | np.generic) -> onnx.ModelProto:
    """As `graph`, but for what ONNX's checker refuses."""
    text = f'<ir_version: 8, opset_import: ["": 13, "acme": 1]> g (float[2, 4] x) => (float o) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    given = {"s": np.float32(0.1), "z": np.int8(0), **held}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(each), name) for name, each in given.items())
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


D = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) "
K = {"k": np.ones((4, 5), np.int8)}
INVALID: dict[str, tuple[str, dict[str, np.ndarray], str]] = {
    "an op of nobody's": (
        f"{D} o = acme.Foo(d)",
        {},
        r"acme\.Foo \('Foo_2'\) has no integer form, and ONNX Runtime does not",
    ),
    "a value of nobody's": (f"{D} o = Add(d, b)", {}, "the model is not valid ONNX: 'b' is read, but nothing gives it"),
    "sizes that do not meet": (
        f"{D} w = DequantizeLinear(k, s) o = MatMul(w, d)",
        K,
        "the type of 'q' is unknown: the model is not valid ONNX: .*Incompatible dimensions for matrix multiplication",
    ),
    "too few scales": (
        f"{D} w = DequantizeLinear<axis = 1>(k, t) o = MatMul(d, w)",
        {**K, "t": np.ones(3, np.float32)},
        r"'w' is \[4, 5\], but has 3 scales on axis 1",
    ),
    "an axis that is not there": (
        f"{D} w = DequantizeLinear<axis = 3>(k, t) o = MatMul(d, w)",
        {**K, "t": np.ones(5, np.float32)},
        r"'w' is \[4, 5\], but has 5 scales on axis 3",
    ),
    "too few zero points": (
        f"{D} w = DequantizeLinear<axis = 1>(k, t, y) o = MatMul(d, w)",
        {**K, "t": np.ones(5, np.float32), "y": np.zeros(2, np.int8)},
        "'w' has 5 scales, but 2 zero points",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_what_is_no_valid_onnx_is_told_with_its_reason(case: str) -> None:
    body, held, message = INVALID[case]
    with pytest.raises(ValueError, match=message):
        convert(parsed(body, **held))
