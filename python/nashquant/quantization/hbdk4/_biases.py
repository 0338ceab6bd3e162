"""Biases that ONNX Runtime's optimizer would ruin, as integers with a scale of their own.

It puts a float bias between two grids into steps of the accumulator, `scale_x · scale_w`, in an int32 (its pass
WeightBiasQuantization). With int16 in front these steps are so fine that a bias may be more of them than int32 holds.
What a DequantizeLinear gives, it leaves alone.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

_LARGEST = 2.0**31 - 1
_DIGITS = 24  # of an f32: that many bits, and a power of two


def keep_biases(model: ir.Model) -> None:
    """Stores each bias that its accumulator's steps can't hold in an int32 as int32 `[channels]`, times powers of two:
    the same numbers (below 2**-102, multiples of 2**-126).

    Only behind int16, where ONNX Runtime computes in floats: behind int8 its own kernels take an int32 bias for steps
    of the accumulator, whatever its scale.
    """
    kept: dict[ir.Value, ir.Value] = {}
    for node in list(model.graph):
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is None or bias.const_value is None or bias.dtype != ir.DataType.FLOAT or not _leaves_int32(node, bias):
            continue
        if bias not in kept:
            kept[bias] = _dequantized(model.graph, node, bias)
        node.replace_input_with(2, kept[bias])
    if kept:
        passes.RemoveUnusedNodesPass()(model)


def _leaves_int32(node: ir.Node, bias: ir.Value) -> bool:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm"):
        return False
    (integers, scale_x), (_, scale_w) = (_grid(value) for value in node.inputs[:2])
    if scale_x is None or scale_w is None or integers != ir.DataType.INT16 or scale_x.size != 1:
        return False
    assert bias.const_value is not None
    values = bias.const_value.numpy()
    fits = scale_w.size in (1, values.size)  # else ONNX Runtime leaves it alone
    return fits and bool((np.abs(values) > _LARGEST * scale_x.reshape(()) * scale_w.reshape(-1)).any())


def _grid(value: ir.Value | None) -> tuple[ir.DataType | None, np.ndarray | None]:
    """The integers and the scale that a DequantizeLinear made `value` of."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None or node.inputs[1] is None:
        return None, None
    stored = node.inputs[1].const_value
    return node.inputs[0].dtype, None if stored is None else stored.numpy().astype(np.float64)


def _dequantized(graph: ir.Graph, before: ir.Node, bias: ir.Value) -> ir.Value:
    assert bias.const_value is not None
    values = bias.const_value.numpy()
    exponents = np.maximum(np.frexp(values)[1] - _DIGITS, -126)
    integers = np.ldexp(values.astype(np.float64), -exponents).round().astype(np.int32)
    name = bias.name
    bias.name = f"{name}:floats"
    inputs = [
        _initializer(graph, f"{name}", integers),
        _initializer(graph, f"{name}.scale", np.ldexp(np.float32(1), exponents)),
    ]
    node = ir.node("DequantizeLinear", inputs, {"axis": 0})
    node.metadata_props.update(before.metadata_props)
    y = node.outputs[0]
    y.name, y.type, y.shape = f"{name}_dequantized", bias.type, bias.shape
    graph.insert_before(before, node)
    return y


def _initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value
