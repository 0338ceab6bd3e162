"""A QDQ model without its quantizers: floats alone, and which tensor was on which grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .grids import Grid, grids

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Plain", "plain"]


@dataclass(frozen=True, eq=False)
class Plain:
    """The float model and the grids of its tensors, by their names.

    Attributes:
        model: as the QDQ model, without QuantizeLinear and DequantizeLinear; nodes keep their names.
        activations: tensor -> its grid.
        weights: initializer -> the grid its floats are on.
    """

    model: ir.Model
    activations: dict[str, Grid]
    weights: dict[str, Grid]


def plain(model: ir.Model) -> Plain:
    """`model` as tools take it that bring quantizers of their own; `model` is not changed.

    A tensor that was quantized twice, to one grid after the other, passes an Identity in between: each has one grid.

    Raises:
        ValueError: `model` quantizes nothing, or its scales are computed or belong to blocks.
    """
    import onnx_ir.passes.common as passes

    model = model.clone()
    graph = model.graph
    found = grids(graph)
    if not found:
        raise ValueError("the model holds no DequantizeLinear with a stored scale, so nothing in it is quantized")
    activations: dict[ir.Value, Grid] = {}
    weights: dict[ir.Value, Grid] = {}
    for grid in found:
        if grid.weight:
            value = _floats(graph, grid, weights)
            weights[value] = grid
        elif grid.quantize is not None:
            value = _unquantized(graph, grid, activations)
            activations[value] = grid
    passes.RemoveUnusedNodesPass()(model)
    return Plain(model, _named(activations), _named(weights))


def _floats(graph: ir.Graph, grid: Grid, taken: dict[ir.Value, Grid]) -> ir.Value:
    """Puts the floats of a weight in place of its integers; those of one that is used twice, once."""
    import onnx_ir as ir

    stored, y = grid.dequantize.inputs[0], grid.dequantize.outputs[0]
    assert stored is not None
    assert stored.const_value is not None
    for value, other in taken.items():
        if other.dequantize.inputs[0] is stored and grid.same_as(other):
            ir.convenience.replace_all_uses_with(y, value, replace_graph_outputs=True)
            return value
    integers = stored.const_value.numpy().astype(np.int64)
    dims = integers.ndim
    floats = (integers - grid.along(grid.zero_point, dims)).astype(np.float32) * grid.along(grid.scale, dims)
    name = stored.name
    stored.name = f"{name}:integers"
    tensor = ir.Tensor(floats.astype(np.float32), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    ir.convenience.replace_all_uses_with(y, value, replace_graph_outputs=True)
    return value


def _unquantized(graph: ir.Graph, grid: Grid, taken: dict[ir.Value, Grid]) -> ir.Value:
    """Leads around a pair; gives the value that was on the grid."""
    import onnx_ir as ir

    assert grid.quantize is not None
    value, y = grid.quantize.inputs[0], grid.dequantize.outputs[0]
    assert value is not None
    name = y.name if y.is_graph_output() else None
    bound = value.is_graph_input() or value.is_graph_output() or value.const_value is not None
    if (value in taken and not grid.same_as(taken[value])) or (name and bound):
        identity = ir.node("Identity", [value], name=f"{grid.name}/Identity")
        identity.outputs[0].name = f"{grid.name}.grid"
        graph.insert_before(grid.dequantize, identity)
        value = identity.outputs[0]
    if value.type is None:
        value.type, value.shape = y.type, y.shape
    ir.convenience.replace_all_uses_with(y, value, replace_graph_outputs=True)
    if name:
        y.name, value.name = f"{name}:quantized", name
    return value


def _named(found: dict[ir.Value, Grid]) -> dict[str, Grid]:
    return {value.name: grid for value, grid in found.items() if value.name}
