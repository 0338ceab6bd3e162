"""From a file, or what was exported, to a graph in one spelling: quantizers as pairs, constants as initializers."""

from __future__ import annotations

import os
from collections.abc import Sequence

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from nashquant import qdq

__all__ = ["read", "to_bytes", "why_untyped"]

_NARROW = (ir.DataType.INT4, ir.DataType.UINT4)


def read(source: object) -> ir.Model:
    """The graph of an ONNX file, a model in memory, or what `export` gave; the given model is not changed.

    Raises:
        TypeError: `source` is none of these.
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        ValueError: it is not an ONNX file.
    """
    model = _load(source)
    for tidy in (
        passes.InlinePass(),
        passes.RemoveInitializersFromInputsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    ):
        tidy(model)
    _infer(model)
    for node in list(model.graph):
        if node.domain in ("", "ai.onnx") and node.op_type in _SPELLED:
            _SPELLED[node.op_type](model.graph, node)
    passes.RemoveUnusedNodesPass()(model)
    for i, node in enumerate(model.graph):
        node.name = node.name or f"{node.op_type}_{i}"
    return model


def _infer(model: ir.Model) -> None:
    """The types and shapes of all values, through ONNX Runtime's own QuantizeLinear and DequantizeLinear too.

    Its quantizer writes those for 16 bits before opset 21, where ONNX's don't take them. A Cast stands in for each.
    """
    if not any(map(_is_ort_s, model.graph)):
        passes.ShapeInferencePass()(model)
        return
    other = ir.from_proto(ir.to_proto(model))
    for node in filter(_is_ort_s, list(other.graph)):
        x, to = node.inputs[0], _gives(node)
        assert x is not None
        if x.dtype in _NARROW:  # no Cast takes them before opset 21
            x = ir.Value(name=f"{x.name}_stand_in", type=ir.TensorType(ir.DataType.INT8), shape=x.shape)
            other.graph.inputs.append(x)
        to = ir.DataType.INT8 if to in _NARROW else to
        _replace(other.graph, node, ir.node("Cast", [x], {"to": int(to)}))
    passes.ShapeInferencePass()(other)
    known = {value.name: value for node in other.graph for value in node.outputs}
    for node in model.graph:
        for value in node.outputs:
            if value.name in known:
                value.type, value.shape = known[value.name].type, known[value.name].shape
        if _is_ort_s(node):
            node.outputs[0].dtype = _gives(node)


def _gives(node: ir.Node) -> ir.DataType:
    """The type of what a QuantizeLinear or DequantizeLinear gives."""
    if node.op_type == "DequantizeLinear":
        scale = node.inputs[1]
        return ir.DataType.FLOAT if scale is None or scale.dtype is None else scale.dtype
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    return ir.DataType.UINT8 if zero is None or zero.dtype is None else zero.dtype


def _is_ort_s(node: ir.Node) -> bool:
    return node.domain == "com.microsoft" and node.op_type in ("QuantizeLinear", "DequantizeLinear")


def why_untyped(model: ir.Model) -> str:
    """What ONNX's shape inference has against `model`, to be put behind an error; empty if nothing."""
    try:
        onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True)
    except Exception as error:
        return f": the model is not valid ONNX: {error}"
    return ""


def to_bytes(model: ir.Model) -> bytes:
    """What `read` takes again once it is parsed, weights kept in a file of their own included."""
    content: bytes = ir.to_proto(ir.external_data.load_to_model(model)).SerializeToString()
    return content


def _load(source: object) -> ir.Model:
    from nashquant.quantization.hbdk4 import ExportedModel

    if isinstance(source, ExportedModel):
        source = source.path
    if isinstance(source, ir.Model):
        return ir.from_proto(ir.to_proto(source))
    if isinstance(source, onnx.ModelProto):
        return ir.from_proto(source)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"convert takes an ONNX file, a model or what export gave, not {type(source).__name__}")
    return qdq.read(source)


def _conv(graph: ir.Graph, node: ir.Node) -> None:
    x, w, bias = node.inputs[0:3], node.inputs[3:6], [*node.inputs[8:9]]
    attributes = list(node.attributes.values())
    operands = [_dequantized(graph, node, x), _dequantized(graph, node, w, axis=0)]
    if bias and bias[0] is not None:
        operands.append(_bias(graph, node, bias[0], x[1], w[1]))
    _quantized(graph, node, ir.Node("", "Conv", operands, attributes), *node.inputs[6:8])


def _matmul(graph: ir.Graph, node: ir.Node) -> None:
    a, b = node.inputs[0:3], node.inputs[3:6]
    operands = [_dequantized(graph, node, a), _dequantized(graph, node, b, axis=-1)]
    _quantized(graph, node, ir.Node("", "MatMul", operands), *node.inputs[6:8])


def _dequantized(graph: ir.Graph, before: ir.Node, quantized: Sequence[ir.Value | None], axis: int = 1) -> ir.Value:
    q, scale, zero = quantized
    assert q is not None
    rank = len(q.shape) if q.shape is not None else 0
    made = ir.node("DequantizeLinear", [q, scale, zero], {"axis": axis % rank if rank else max(axis, 0)})
    return _placed(graph, before, made, q, "dequantized", ir.DataType.FLOAT)


def _bias(graph: ir.Graph, before: ir.Node, q: ir.Value, *scales: ir.Value | None) -> ir.Value:
    """The integers of a bias stand on the accumulator: their scale is the product of the other two."""
    product = ir.node("Mul", list(scales))
    of_bias = _placed(graph, before, product, q, "scale", ir.DataType.FLOAT)
    made = ir.node("DequantizeLinear", [q, of_bias], {"axis": 0})
    return _placed(graph, before, made, q, "dequantized", ir.DataType.FLOAT)


def _quantized(graph: ir.Graph, node: ir.Node, op: ir.Node, scale: ir.Value | None, zero: ir.Value | None) -> None:
    (output,) = node.outputs
    real = _placed(graph, node, op, output, "real", ir.DataType.FLOAT)
    real.shape = output.shape
    _replace(graph, node, ir.node("QuantizeLinear", [real, scale, zero], name=node.name))


def _replace(graph: ir.Graph, node: ir.Node, made: ir.Node) -> None:
    """`made` in the place of `node`, its output under the same name."""
    (output,) = node.outputs
    made.outputs[0].type, made.outputs[0].shape = output.type, output.shape
    graph.insert_before(node, made)
    name = output.name
    ir.convenience.replace_all_uses_with(output, made.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    made.outputs[0].name = name


def _placed(graph: ir.Graph, before: ir.Node, node: ir.Node, like: ir.Value, what: str, dtype: ir.DataType) -> ir.Value:
    (output,) = node.outputs
    taken = {value.name for each in graph for value in each.outputs} | set(graph.initializers)
    name = f"{like.name}_{what}"
    while name in taken:
        name += "_"
    output.name, output.type = name, ir.TensorType(dtype)
    output.shape = like.shape if what != "scale" else None
    node.name = f"{before.name or before.op_type}/{node.op_type}"
    graph.insert_before(before, node)
    return output


def _concat(graph: ir.Graph, node: ir.Node) -> None:
    """Of a sequence that is made here, the parts put side by side."""
    sequence = node.inputs[0].producer() if node.inputs[0] is not None else None
    stacked = node.attributes.get("new_axis")
    if sequence is None or sequence.op_type != "SequenceConstruct" or (stacked is not None and stacked.as_int()):
        return
    made = ir.node("Concat", list(sequence.inputs), {"axis": node.attributes["axis"].as_int()}, name=node.name)
    made.metadata_props.update(node.metadata_props)
    _replace(graph, node, made)


_SPELLED = {"QLinearConv": _conv, "QLinearMatMul": _matmul, "ConcatFromSequence": _concat}
