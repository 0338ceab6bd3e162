"""Values between the pixels: weights of 15 bits, an exact sum, one rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nashquant import ops
from nashquant.arithmetic import Rounding

from ._elementwise import needed
from ._fixed_point import Factors
from ._forms import NotIntegerError, Target
from ._joins import common
from ._rescale import factor_onto, land, regrid
from ._step import Made
from ._taps import BITS, Resizing
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["grid_sample", "resize"]


def resize(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Nearest only picks; linear and cubic weigh the neighbours along each axis."""
    resizing = Resizing.of(plan, node)
    slot, grid = plan.grid(node.inputs[0])
    read = (slot,) if resizing.computed is None else (slot, plan.plain(resizing.computed))
    if resizing.mode == "nearest":
        target = common(plan, [node.inputs[0]], target)
        onto = regrid(grid, target, plan.arithmetic)

        def pick(x: Tensor, sizes: Tensor | None = None) -> Tensor:
            for axis, taps, _ in resizing.along(x.shape, sizes):
                x = x.index_select(axis, taps[:, 0])
            return onto(x)

        return Made(pick, read, (target.grid,))
    wanted = needed(target)
    factor = factor_onto(wanted, grid.scale)

    def run(x: Tensor, sizes: Tensor | None = None) -> Tensor:
        acc, bits = x.long() - grid.zero_point, 0
        for axis, taps, weights in resizing.along(x.shape, sizes):
            shape = [1] * acc.dim()
            shape[axis] = -1
            parts = [acc.index_select(axis, taps[:, i]) * weights[:, i].reshape(shape) for i in range(taps.shape[1])]
            acc, bits = torch.stack(parts).sum(0), bits + BITS
        return land(acc, factor * 2.0**-bits, None, wanted, plan.arithmetic)

    return Made(run, read, (wanted.grid,))


def grid_sample(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Looks where coordinates say: `pixel = q · scale · size / 2 + (size - 1) / 2`, 15 bits behind the point."""
    target = needed(target)
    (slot, grid), (where, coordinates) = plan.grid(node.inputs[0]), plan.grid(node.inputs[1])
    mode = str(attribute(node, "mode", "linear"))
    padding = str(attribute(node, "padding_mode", "zeros"))
    corners = bool(attribute(node, "align_corners", 0))
    if mode not in ("linear", "bilinear", "nearest"):
        raise NotIntegerError(f"its mode is {mode}")
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    if shape is None or len(shape) != 4:
        raise NotIntegerError("it samples something else than images")
    bits = 0 if mode == "nearest" else 2 * BITS
    factor = factor_onto(target, grid.scale) * 2.0**-bits

    def pixels(q: Tensor, size: int) -> Tensor:
        half = torch.tensor(coordinates.scale * (size - corners) / 2 * 2.0**BITS, dtype=torch.float64)
        at = Factors.of(half, plan.arithmetic).times(q.long() - coordinates.zero_point) + ((size - 1) << (BITS - 1))
        if padding == "reflection":
            first, span = (0, (size - 1) << BITS) if corners else (-(1 << (BITS - 1)), size << BITS)
            if span:
                past = (at - first).abs() % (2 * span)
                at = torch.minimum(past, 2 * span - past) + first
        return at if padding == "zeros" else at.clamp(0, (size - 1) << BITS)

    def run(x: Tensor, q: Tensor) -> Tensor:
        n, c, height, width = x.shape
        across, down = pixels(q[..., 0], width), pixels(q[..., 1], height)
        flat = (x.long() - grid.zero_point).reshape(n, c, height * width)

        def at(row: Tensor, column: Tensor) -> Tensor:
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).reshape(n, 1, -1)
            return flat.gather(2, index.expand(n, c, -1)).reshape(n, c, *row.shape[1:]) * inside[:, None]

        if mode == "nearest":
            acc = at(*(ops.shifted(each, BITS, Rounding.HALF_EVEN) for each in (down, across)))
        else:
            one = 1 << BITS
            row, column = down >> BITS, across >> BITS
            low, left = (down & (one - 1))[:, None], (across & (one - 1))[:, None]
            acc = (at(row, column) * (one - left) + at(row, column + 1) * left) * (one - low)
            acc = acc + (at(row + 1, column) * (one - left) + at(row + 1, column + 1) * left) * low
        return land(acc, factor, None, target, plan.arithmetic)

    return Made(run, (slot, where), (target.grid,))
