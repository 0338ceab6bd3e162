"""A function of one quantized value, however many ops it is written in, is one table over its integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
import torch
from torch import Tensor

from nashquant import ops

from ._clips import CLIPS
from ._forms import Target
from ._functions import FUNCTIONS
from ._step import Made, Run

if TYPE_CHECKING:
    from ._plan import Plan

__all__ = ["goes_into", "knows", "table"]

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
    """Whether `reader`, planned later, may take `node` in: a pointwise function, or a softmax of a masked sum."""
    return knows(reader) or (reader.op_type == "Softmax" and node.op_type in ("Add", "Where"))


def table(plan: Plan, x: ir.Value, target: Target) -> tuple[list[ir.Node], Made] | None:
    """The step that looks up `x`, and the nodes it stands for; None if `x` is no function of one quantized value.

    `target`'s ends are not looked at: the clips in front of a quantizer are part of the function.
    """
    nodes, leaf = _cone(plan, x)
    if leaf is None or all(node.op_type in CLIPS for node in nodes):
        return None
    slot, source = plan.grid(leaf)
    axis, constants = _constants(plan, nodes, leaf)
    if axis is None:
        return None
    channels = max((c.shape[0] for c in constants.values() if c.dim()), default=1)
    entries = 1 << (8 * torch.empty((), dtype=source.dtype).element_size())
    if channels * entries > _LARGEST:
        return None
    grid = target.grid
    table = ops.lookup_table(
        lambda real: _evaluate(nodes, x, leaf, real, constants),
        source.scale,
        grid.scale,
        source.dtype,
        grid.dtype,
        zero_point_in=source.zero_point,
        zero_point_out=grid.zero_point,
        arithmetic=plan.arithmetic,
    )
    flat = table.clamp(grid.low, grid.high).expand(channels, entries).reshape(-1)
    run: Run
    if channels == 1:

        def run(q: Tensor) -> Tensor:
            return ops.lookup(q, flat)
    else:

        def run(q: Tensor) -> Tensor:
            first = torch.arange(channels, device=q.device) * entries + entries // 2
            shape = [1] * q.dim()
            shape[axis] = -1
            return flat[q.long() + first.reshape(shape)]

    return nodes, Made(run, (slot,), (target.grid,))


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
    if len(leaves) != 1 or not nodes or not plan.is_quantized(*leaves):
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
