"""A function of one quantized value, however many ops it is written in, is one table over its integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch
from torch import Tensor

from nashquant import ops

from ._clips import CLIPS
from ._forms import Accumulator, Grid, Target, along
from ._functions import FUNCTIONS
from ._step import Made, Run

if TYPE_CHECKING:
    from ._plan import Plan

__all__ = ["goes_into", "inner_table", "knows", "table"]

_INNER_BITS = 30  # of what no quantizer rounds, before a sign
_LARGEST = 1 << 22  # entries of all tables of one op: a table for each channel where a constant has many values


def knows(node: ir.Node) -> bool:
    """Whether `node` is a pointwise function; a cast between floats is one."""
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Cast":
        to = node.attributes["to"].value
        return ir.DataType(to).is_floating_point()
    return node.op_type in FUNCTIONS


def goes_into(node: ir.Node, reader: ir.Node) -> bool:
    """Whether `reader`, planned later, may take `node` in: a pointwise function, a softmax of a masked sum, ..."""
    if reader.op_type in ("Softmax", "LogSoftmax"):
        return node.op_type in ("Add", "Where", "Neg")
    return knows(reader) or reader.op_type in ("ReduceSum", "ReduceMean", "ReduceL2", "Concat")


def table(plan: Plan, x: ir.Value, target: Target) -> tuple[list[ir.Node], Made] | None:
    """The step that looks up `x`, and the nodes it stands for; None if `x` is no function of one quantized value.

    `target`'s ends are not looked at: the clips in front of a quantizer are part of the function.
    """
    nodes, leaf = _cone(plan, x)
    if leaf is None or all(node.op_type in CLIPS for node in nodes):
        return None
    found = _function(plan, nodes, leaf, x)
    if found is None:
        return None
    slot, source, axis, channels, function = found
    grid = target.grid
    table = ops.lookup_table(
        function,
        source.scale,
        grid.scale,
        source.dtype,
        grid.dtype,
        zero_point_in=source.zero_point,
        zero_point_out=grid.zero_point,
        arithmetic=plan.arithmetic,
    )
    table = table.clamp(grid.low, grid.high)
    run: Run = _reader(table.expand(channels, -1), axis)
    if channels == 1:
        flat = table.reshape(-1)

        def run(q: Tensor) -> Tensor:
            return ops.lookup(q, flat)

    return nodes, Made(run, (slot,), (target.grid,))


def inner_table(plan: Plan, node: ir.Node) -> Made | None:
    """The function of one quantized value that `node` ends, as numbers of 31 bits; None if it is none, or infinite."""
    x = node.outputs[0]
    nodes, leaf = _cone(plan, x) if knows(node) else ([], None)
    found = None if leaf is None else _function(plan, nodes, leaf, x)
    if found is None:
        return None
    slot, source, axis, channels, function = found
    ends = torch.iinfo(source.dtype)
    integers = torch.arange(ends.min, ends.max + 1, dtype=torch.float64)
    values = function((integers - source.zero_point) * source.scale)
    largest = values.abs().max()
    if not bool(values.isfinite().all()) or largest == 0:
        return None
    scale = largest * 2.0**-_INNER_BITS
    table = torch.round(values / scale).long().expand(channels, len(integers))
    return Made(_reader(table, axis), (slot,), (Accumulator(scale, bound=2.0**_INNER_BITS, inner=True),))


_Function = tuple[str, Grid, int, int, Callable[[Tensor], Tensor]]


def _function(plan: Plan, nodes: list[ir.Node], leaf: ir.Value, x: ir.Value) -> _Function | None:
    """The slot and grid of `leaf`, the axis and number of its channels, and what `nodes` make of a real number."""
    slot, source = plan.grid(leaf)
    axis, constants = _constants(plan, nodes, leaf)
    channels = max((c.shape[0] for c in constants.values() if c.dim()), default=1)
    if axis is None or channels << (8 * source.dtype.itemsize) > _LARGEST:
        return None
    return slot, source, axis, channels, lambda real: _evaluate(nodes, x, leaf, real, constants)


def _reader(table: Tensor, axis: int) -> Callable[[Tensor], Tensor]:
    """Looks up in the table of each index of `axis`; `[channels, entries]`."""
    channels, entries = table.shape
    flat = table.reshape(-1)

    def run(q: Tensor) -> Tensor:
        first = torch.arange(channels, device=q.device) * entries + entries // 2
        return flat[q.long() + along(first, axis, q)]

    return run


def _cone(plan: Plan, x: ir.Value) -> tuple[list[ir.Node], ir.Value | None]:
    """The pointwise nodes that lead to `x`, in order, and the one quantized value they start from."""
    nodes: dict[ir.Node, None] = {}
    leaves: set[ir.Value] = set()

    def visit(value: ir.Value) -> None:
        node = value.producer()
        if plan.constant(value) is not None:
            return
        if node is None or plan.is_known(value) or not knows(node):
            leaves.add(value)
            return
        if node not in nodes:
            for each in node.inputs:
                if each is not None:
                    visit(each)
            nodes[node] = None

    visit(x)
    if len(leaves) != 1 or not nodes or not plan.is_quantized(*leaves) or plan.is_stored(*leaves):
        return list(nodes), None
    return list(nodes), leaves.pop()


def _constants(plan: Plan, nodes: list[ir.Node], leaf: ir.Value) -> tuple[int | None, dict[ir.Value, Tensor]]:
    """What the nodes read besides, 0-d or `[channels, 1]`; and the axis of those. No axis: they are no channels."""
    rank = None if leaf.shape is None else len(leaf.shape)
    axes, found = set(), {}
    for node in nodes:
        for value in node.inputs:
            constant = plan.constant(value)
            if value is None or constant is None:
                continue
            constant = constant.double()
            if constant.numel() == 1:
                if constant.dim() > (rank if rank is not None else 0):
                    return None, {}
                found[value] = constant.reshape(())
                continue
            long = [i for i, size in enumerate(constant.shape) if size != 1]
            if rank is None or len(long) != 1 or constant.dim() > rank:
                return None, {}
            axis = rank - constant.dim() + long[0]
            assert leaf.shape is not None
            if leaf.shape[axis] != constant.numel():
                return None, {}
            axes.add(axis)
            found[value] = constant.reshape(-1, 1)
    return (None, {}) if len(axes) > 1 else (axes.pop() if axes else 0, found)


def _evaluate(
    nodes: list[ir.Node], x: ir.Value, leaf: ir.Value, real: Tensor, constants: dict[ir.Value, Tensor]
) -> Tensor:
    known = {**constants, leaf: real}
    for node in nodes:
        function = (lambda x: x) if node.op_type == "Cast" else FUNCTIONS[node.op_type](node)
        known[node.outputs[0]] = function(*[None if value is None else known[value] for value in node.inputs])
    return known[x]
