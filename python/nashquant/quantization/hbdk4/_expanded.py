"""Constants that grow with the batch in front of their quantizer, such as a class token: stored on its grid.

What they are then does not depend on how QuantizeLinear divides: it rounds what is a whole number of steps already.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch

from ._calls import Call
from ._moves import MOVES


def keep_expanded(model: ir.Model, calls: Mapping[ir.Node, Call]) -> None:
    """Puts each float constant that only moves lead from to a quantizer per tensor on the quantizer's grid."""
    changed = False
    for dequantize, call in calls.items():
        quantize = None if dequantize.inputs[0] is None else dequantize.inputs[0].producer()
        if quantize is None or call.weight or not call.fixed or call.grid.axis is not None:
            continue
        node, value = quantize, quantize.inputs[0]
        while value is not None and (mover := value.producer()) is not None and mover.op_type in MOVES:
            node, value = mover, mover.inputs[0]
        if (
            value is None
            or value.const_value is None
            or value.dtype != ir.DataType.FLOAT
            or not _leads_there(node, quantize)
        ):
            continue
        values = torch.from_numpy(value.const_value.numpy().copy())
        tensor = ir.Tensor(call.grid.fake_quantize(values).numpy(), name=f"{value.name}:on {call.quantizer}")
        stored = ir.Value(name=tensor.name, type=value.type, shape=value.shape, const_value=tensor)
        if tensor.name not in model.graph.initializers:
            model.graph.register_initializer(stored)
        node.replace_input_with(0, model.graph.initializers[stored.name or ""])
        changed = True
    if changed:
        passes.RemoveUnusedNodesPass()(model)


def _leads_there(node: ir.Node, quantize: ir.Node) -> bool:
    """Whether nothing but `quantize` reads what `node` gives, and what is made of that."""
    while node is not quantize:
        uses = list(node.outputs[0].uses())
        if len(uses) != 1 or node.outputs[0].is_graph_output():
            return False
        node = uses[0].node
    return True
