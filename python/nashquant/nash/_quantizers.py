"""QuantizeLinear and DequantizeLinear: where integers are rounded, and what they mean.

In words: from a quantizer look back over clips and moves to the op that made the value. Clips become the ends of the
grid; the op rounds onto it; the moves then move integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch
from torch import Tensor

from . import _pointwise
from ._clips import CLIPS, bounds
from ._forms import Accumulator, Form, Grid, NotIntegerError, Target, Weight, grid_of
from ._joins import constant_on_grid
from ._rescale import regrid
from ._step import Made, Place

if TYPE_CHECKING:
    from ._plan import Plan

__all__ = ["dequantize", "quantize"]

_INTEGERS = frozenset({"INT4", "UINT4", "INT8", "UINT8", "INT16", "UINT16"})


def quantize(plan: Plan, node: ir.Node) -> tuple[Form, str]:
    """The grid that `node` rounds to, and the slot of the integers.

    Raises:
        NotIntegerError: it rounds to none that is known here.
    """
    x, output = node.inputs[0], node.outputs[0]
    assert x is not None
    scale, zero = _parameters(plan, node)
    grid = grid_of(scale, zero, output.dtype or ir.DataType.UINT8)
    try:
        return _land(plan, x, node, grid)
    except NotIntegerError as error:
        producer = x.producer()
        if producer is not None:
            plan.tried_in_vain(producer, str(error))
        return _enter(plan, x, node, grid)


def dequantize(plan: Plan, node: ir.Node) -> tuple[Form, str]:
    """What `node` says that integers mean, and the slot where they already are.

    Raises:
        NotIntegerError: they mean nothing that is known here.
    """
    q = node.inputs[0]
    assert q is not None
    scale, zero = _parameters(plan, node)
    form = plan.form(q)
    if isinstance(form, Accumulator) and form.scale.dim() == 0 and scale.numel() == 1 and not zero:
        return Accumulator(form.scale * float(scale)), plan.slot(q)
    if q.dtype is None or q.dtype.name not in _INTEGERS:
        raise NotIntegerError(f"its integers are of type {q.dtype}")
    grid = grid_of(scale, zero, q.dtype)
    return grid, plan.slot(q) if isinstance(form, Grid) else plan.signed(q, grid)


def _parameters(plan: Plan, node: ir.Node) -> tuple[Tensor, Tensor | None]:
    scale = plan.constant(node.inputs[1])
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    zero = plan.constant(zero_point)
    if scale is None or (zero_point is not None and zero is None):
        raise NotIntegerError("its scale or zero point is computed")
    return scale, zero


def _land(plan: Plan, x: ir.Value, node: ir.Node, grid: Grid) -> tuple[Form, str]:
    """`x` on its grid, without a float in between."""
    base, between = _before(plan, x)
    clips = [each for each in between if each.op_type in CLIPS]
    target = Target(grid, *bounds(plan, clips, grid))
    if not plan.is_known(x) and (found := _pointwise.table(plan, x, target)) is not None:
        nodes, made = found
        return grid, plan.emit_landing(node, nodes, made, target)
    producer = base.producer()
    if producer is not None and not plan.is_known(base) and _only_use(base) and plan.constant(base) is None:
        op = plan.op(producer)
        if op is not None and op.lands:
            made = op.make(plan, producer, target)
            return _carry(plan, base, between, grid, plan.emit_landing(node, [producer, *clips], made, target))
    form, constant = plan.form(base), plan.constant(base)
    if constant is not None:
        real = form.real() if isinstance(form, Weight) else constant
        slot = plan.hold(f"{base.name} on {target!r}", target.clamp(constant_on_grid(real, grid)))
    elif not isinstance(form, (Grid, Accumulator)):
        raise NotIntegerError(f"its input {base.name!r} is not quantized")
    elif isinstance(form, Grid) and form.same_as(grid) and target == Target.whole(grid):
        slot = plan.slot(base)
    else:
        made = Made(regrid(form, target, plan.arithmetic), (plan.slot(base),), (grid,))
        slot = plan.emit_landing(node, clips or [node], made, target)
    return _carry(plan, base, between, grid, slot)


def _carry(plan: Plan, base: ir.Value, between: Sequence[ir.Node], grid: Grid, slot: str) -> tuple[Form, str]:
    """Takes the integers in `slot`, which stand for `base`, through the moves behind it; clips have been seen to."""
    value, form = base, grid
    for node in between:
        if node.op_type in CLIPS:
            plan.settle(node.outputs[0], form, slot)
        else:
            with plan.standing_for(value, form, slot):
                plan.compile(node)
            slot = plan.slot(node.outputs[0])
        value = node.outputs[0]
    return form, slot


def _before(plan: Plan, x: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
    """The value that clips and moves of single use lead from, to `x`; and those, in order."""
    between: list[ir.Node] = []
    while _only_use(x) and not plan.is_known(x) and plan.constant(x) is None:
        node = x.producer()
        if node is None or not (plan.moves(node) or node.op_type in CLIPS) or node.inputs[0] is None:
            break
        if len(node.outputs) != 1:
            break
        between.insert(0, node)
        x = node.inputs[0]
    return x, between


def _only_use(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def _enter(plan: Plan, x: ir.Value, node: ir.Node, grid: Grid) -> tuple[Form, str]:
    """Floats put on a grid as QuantizeLinear says: divided by the scale, in f32."""
    scale = torch.tensor(grid.scale, dtype=torch.float32)

    def run(x: Tensor) -> Tensor:
        steps = torch.round(x.float() / scale).nan_to_num(nan=grid.low - grid.zero_point)
        return (steps + grid.zero_point).clamp(grid.low, grid.high).to(grid.dtype)

    made = Made(run, (plan.plain(x),), (grid,))
    return grid, plan.emit_landing(node, [node], made, Target.whole(grid), Place.ENTRY)
