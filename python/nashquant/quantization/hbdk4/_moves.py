"""Values that are only moved stay on their grid, and the graph says so: move, QuantizeLinear, DequantizeLinear.

The pair changes no value: it rounds what is a whole number of steps already. A reader that computes with integers
sees that the move is one of integers.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from ._calls import Call
from ._names import QUANTIZER

MOVES = frozenset(
    {
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "MaxPool",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)


def keep_on_grid(graph: ir.Graph, calls: Mapping[ir.Node, Call]) -> None:
    """Puts the pair of its quantizer behind each operator that moves an activation, unless one is there."""
    on_grid = {
        node.outputs[0]: node
        for node, call in calls.items()
        if node.graph is graph and call.grid.axis is None and call.fixed and not call.weight
    }
    for node in list(graph):
        source = on_grid.get(node.inputs[0]) if node.inputs and node.inputs[0] is not None else None
        if source is None or node.op_type not in MOVES or len(node.outputs) != 1:
            continue
        moved = node.outputs[0]
        if not moved.is_graph_output() and all(use.node.op_type == "QuantizeLinear" for use in moved.uses()):
            continue
        on_grid[_insert_pair(graph, node, source)] = source


def _insert_pair(graph: ir.Graph, move: ir.Node, source: ir.Node) -> ir.Value:
    moved, (integers, *grid) = move.outputs[0], source.inputs
    assert integers is not None
    quantize = ir.node("QuantizeLinear", [moved, *grid], _attributes(integers.producer()))
    dequantize = ir.node("DequantizeLinear", [quantize.outputs[0], *grid])
    quantize.outputs[0].name, dequantize.outputs[0].name = f"{moved.name}_integers", f"{moved.name}_on_grid"
    quantize.outputs[0].type, dequantize.outputs[0].type = integers.type, moved.type
    for node in (quantize, dequantize):
        node.outputs[0].shape = moved.shape
        node.metadata_props[QUANTIZER] = source.metadata_props[QUANTIZER]
    ir.convenience.replace_all_uses_with(moved, dequantize.outputs[0], replace_graph_outputs=True)
    quantize.replace_input_with(0, moved)
    graph.insert_after(move, [quantize, dequantize])
    return dequantize.outputs[0]


def _attributes(quantize: ir.Node | None) -> dict[str, int]:
    return {} if quantize is None else {name: attribute.as_int() for name, attribute in quantize.attributes.items()}
