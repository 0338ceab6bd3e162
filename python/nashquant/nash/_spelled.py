"""Norms that a file writes in their parts, known by their last op."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import _elementwise, _normalize
from ._arguments import axes_of
from ._forms import Target
from ._step import Made
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["mul"]


def mul(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """A product; or `x / √(mean(x²) + ε)`, and that times a constant gain, which is one norm."""
    gain, of = torch.tensor(1.0, dtype=torch.float64), node
    for factor, other in (node.inputs, reversed(node.inputs)):
        constant, producer = plan.constant(factor), None if other is None else other.producer()
        if constant is not None and producer is not None and producer.op_type == "Mul":
            gain, of = constant.double(), producer
    for x, factor in (of.inputs, reversed(of.inputs)):
        parts = None if target is None else _reciprocal_root(factor)
        if parts is not None and parts[-1].inputs[0] is x:
            return _rms_norm(plan, parts, gain, target) or _elementwise.mul(plan, node, target)
    return _elementwise.mul(plan, node, target)


def _reciprocal_root(value: ir.Value | None) -> list[ir.Node] | None:
    """The nodes of `1 / √(mean(x²) + ε)`, backwards."""
    nodes: list[ir.Node] = []
    for op in ("Reciprocal", "Sqrt", "Add", "ReduceMean", "Pow"):
        node = None if value is None else value.producer()
        if node is None or node.op_type != op:
            return None
        nodes.append(node)
        value = node.inputs[0]
    return nodes


def _rms_norm(plan: Plan, parts: list[ir.Node], gain: Tensor, target: Target | None) -> Made | None:
    _, _, add, mean, power = parts
    x, epsilon, exponent = power.inputs[0], plan.constant(add.inputs[1]), plan.constant(power.inputs[1])
    axes, sizes = axes_of(plan, mean), _normalize.sizes_of(x)
    over = () if axes is None else tuple(sorted(axis % len(sizes) - len(sizes) for axis in axes))
    last = over == tuple(range(-len(over), 0)) and bool(over)
    if not last or not attribute(mean, "keepdims", 1) or gain.dim() > len(over):
        return None
    if epsilon is None or epsilon.numel() != 1 or exponent is None or exponent.flatten().tolist() != [2.0]:
        return None
    constants = gain, torch.zeros((), dtype=torch.float64)
    return _normalize.norm(plan, x, target, sizes, over, constants, float(epsilon), centered=False)
