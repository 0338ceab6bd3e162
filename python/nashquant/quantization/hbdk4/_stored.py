"""Quantizers in the ONNX graph: each gets initializers of its own, and a weight becomes the integers it stands for."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import onnx_ir.passes.common as passes
from torch import Tensor

from ._calls import Call
from ._names import CALL, QUANTIZER, Free, scopes
from ._qdq import stored_as

_DEFAULTS = ("output_dtype", "block_size", "saturate")  # written out by torch, and unless set they mean nothing


def find_calls(graph: ir.Graph, calls: Mapping[str, Call]) -> dict[ir.Node, Call]:
    """The DequantizeLinear nodes of the calls."""
    found = {}
    for node in graph:
        fx_node = scopes(node)[-1:]
        if node.op_type == "DequantizeLinear" and fx_node and fx_node[0] in calls:
            found[node] = calls[fx_node[0]]
    return found


def store_quantized(model: ir.Model, calls: Mapping[ir.Node, Call]) -> None:
    """Gives each quantizer initializers of its own name: scale, zero point, and the integers of a weight.

    A weight's floats, its QuantizeLinear and whatever led to it go.
    """
    known: dict[tuple[str, ir.DataType, bytes], ir.Value] = {}
    wanted: dict[ir.Value, str] = {}

    def initializer(name: str, values: Tensor, dtype: ir.DataType) -> ir.Value:
        array = values.cpu().numpy().astype(dtype.numpy())
        key = (name, dtype, array.tobytes())
        if key not in known:
            tensor = ir.Tensor(array, name=f"{name}:{len(known)}")
            kind = ir.TensorType(dtype)
            value = ir.Value(name=tensor.name, type=kind, shape=tensor.shape, const_value=tensor)
            model.graph.register_initializer(value)
            known[key], wanted[value] = value, name
        return known[key]

    for dequantize, call in calls.items():
        name, grid = call.quantizer, call.grid
        stored = stored_as(grid.qmin, grid.qmax)
        quantize = dequantize.inputs[0].producer() if dequantize.inputs[0] else None
        for node in (quantize, dequantize):
            if node is None:
                continue
            node.metadata_props[QUANTIZER] = name
            if call.turns > 1:
                node.metadata_props[CALL] = f"{call.turn}/{call.turns}"
            for default in _DEFAULTS if grid.axis is not None else (*_DEFAULTS, "axis"):
                node.attributes.pop(default, None)
            if not call.fixed:
                continue
            node.replace_input_with(1, initializer(f"{name}.scale", grid.scale, ir.DataType.FLOAT))
            node.replace_input_with(2, initializer(f"{name}.zero_point", grid.zero_point, stored))
        if call.weight and call.fixed:
            integers = grid.integers(call.y)
            name = call.parameter or f"{name}.integers"
            dequantize.replace_input_with(0, initializer(name, integers, stored))
    passes.RemoveUnusedNodesPass()(model)
    free = Free(model.graph.initializers)
    for value, name in wanted.items():
        value.name = free(name)
