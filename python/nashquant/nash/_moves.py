"""What moves integers or picks among them: they stay what they are, on the grid they are on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._arguments import arguments, axes_of
from ._forms import Accumulator, Form, Grid, NotIntegerError, Root, Target, Weight
from ._step import Made
from ._to_torch import attribute
from ._windows import Windows, integers

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["MOVES", "move"]

Moved = Tensor | tuple[Tensor, ...]


def move(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """The op `node` on integers; the form of its input is the form of its outputs."""
    x = node.inputs[0]
    form = plan.form(x)
    assert x is not None
    if isinstance(form, Weight):
        slot, form = plan.grid(x)
    elif isinstance(form, Grid) or _keeps(node, form):
        slot = plan.slot(x)
    else:
        per_channel = isinstance(form, Accumulator)
        raise NotIntegerError(
            f"its input {x.name!r} is "
            + ("an accumulator with a scale for each channel" if per_channel else "not quantized")
        )
    if len([v for v in node.outputs if v.name]) > 1 and node.op_type not in ("Split",):
        raise NotIntegerError("it has more than one output")
    if isinstance(form, Root) and node.op_type != "Expand":
        form = Root()  # it may lie in other rows than those it was taken of
    slots, complete = arguments(plan, node)
    function = MOVES[node.op_type](plan, node)

    def run(x: Tensor, *given: Tensor) -> Moved:
        return function(x, *complete(*given))

    return Made(run, (slot, *slots), (form,) * len(node.outputs))


def _keeps(node: ir.Node, form: Form) -> bool:
    """Whether what `node` gives is of the form of what it takes."""
    if not isinstance(form, Accumulator):
        return isinstance(form, Root) and node.op_type != "MaxPool"
    if form.scale.dim() == 0:
        return True
    shape = node.outputs[0].shape
    last = shape[-1] if shape is not None and len(shape) else None
    return form.axis == -1 and node.op_type == "Reshape" and last == form.scale.shape[0]


def _reshape(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    keep_zeros = bool(attribute(node, "allowzero", 0))

    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes = [int(size) for size in shape]
        if not keep_zeros:
            sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
        return x.reshape(sizes)

    return run


def _flatten(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    axis = int(str(attribute(node, "axis", 1)))

    def run(x: Tensor) -> Tensor:
        at = axis + x.dim() if axis < 0 else axis
        rows = 1
        for size in x.shape[:at]:
            rows *= size
        return x.reshape(rows, -1) if x.numel() else x.reshape(rows, 0)

    return run


def _squeeze(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    axes = axes_of(plan, node)

    def run(x: Tensor, *_: Tensor | None) -> Tensor:
        return x.squeeze() if axes is None else x.squeeze(axes)

    return run


def _unsqueeze(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    axes = axes_of(plan, node) or ()

    def run(x: Tensor, *_: Tensor | None) -> Tensor:
        rank = x.dim() + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return run


def _transpose(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    order = integers(node, "perm", ())
    return lambda x: x.permute(order or tuple(reversed(range(x.dim()))))


def _slice(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    def run(x: Tensor, *operands: Tensor | None) -> Tensor:
        starts, ends, axes, steps = _slice_operands(node, operands, x.dim())
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            index = range(x.shape[axis])[slice(start, end if step > 0 or end >= -x.shape[axis] else None, step)]
            if step == 1:
                x = x.narrow(axis, index.start if len(index) else 0, len(index))
            else:
                x = x.index_select(axis, torch.tensor(list(index), dtype=torch.int64))
        return x

    return run


def _slice_operands(node: ir.Node, operands: Any, rank: int) -> tuple[list[int], list[int], list[int], list[int]]:
    if not operands:  # before opset 10
        found = [list(integers(node, name, ())) for name in ("starts", "ends", "axes")]
    else:
        found = [[] if each is None else [int(i) for i in each] for each in operands]
    starts, ends, axes, steps = (*found, [], [])[:4]
    axes = axes or list(range(len(starts)))
    return starts, ends, [axis % rank for axis in axes], steps or [1] * len(starts)


def _split(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    axis, parts = int(str(attribute(node, "axis", 0))), len(node.outputs)
    stated = list(integers(node, "split", ()))

    def run(x: Tensor, sizes: Tensor | None = None) -> Moved:
        lengths = stated if sizes is None else [int(size) for size in sizes]
        if not lengths:
            each = -(-x.shape[axis] // parts)
            lengths = [each] * (parts - 1) + [x.shape[axis] - each * (parts - 1)]
        return torch.split(x, lengths, axis)

    return run


def _gather(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    axis = int(str(attribute(node, "axis", 0)))

    def run(x: Tensor, index: Tensor) -> Tensor:
        at = axis % x.dim()
        index = torch.where(index < 0, index + x.shape[at], index).long()
        shape = (*x.shape[:at], *index.shape, *x.shape[at + 1 :])
        return x.index_select(at, index.reshape(-1)).reshape(shape)

    return run


def _gather_elements(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    axis = int(str(attribute(node, "axis", 0)))
    return lambda x, index: x.gather(axis, torch.where(index < 0, index + x.shape[axis], index).long())


def _gather_nd(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    if attribute(node, "batch_dims", 0):
        raise NotIntegerError("it gathers in batches")
    return lambda x, index: x[tuple(index.long().unbind(-1))]


def _expand(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    def run(x: Tensor, shape: Tensor) -> Tensor:
        return x.expand(torch.broadcast_shapes(x.shape, [int(n) for n in shape]))  # type: ignore[no-untyped-call]

    return run


def _triangle(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    form, upper = plan.form(node.inputs[0]), attribute(node, "upper", 1)
    zero = form.zero_point if isinstance(form, Grid) else 0

    def run(x: Tensor, diagonal: Tensor | None = None) -> Tensor:
        kept = torch.ones(x.shape[-2:], dtype=torch.bool)
        k = 0 if diagonal is None else int(diagonal)
        return torch.where(kept.triu(k) if upper else kept.tril(k), x, zero)

    return run


def _depth_to_space(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    block, columns_first = int(str(attribute(node, "blocksize"))), str(attribute(node, "mode", "DCR")) == "CRD"

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if columns_first:
            return F.pixel_shuffle(x, block)
        x = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(n, c // block**2, h * block, w * block)

    return run


def _space_to_depth(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    block = int(str(attribute(node, "blocksize")))

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(n, c * block**2, h // block, w // block)

    return run


def _max_pool(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    windows = Windows.of(node, integers(node, "kernel_shape", ()))
    n, ceil = len(windows.kernel), bool(attribute(node, "ceil_mode", 0))

    def run(x: Tensor) -> Tensor:
        room = windows.with_room(x.shape[-n:], ceil)
        edges = [edge for pair in reversed(room.padding) for edge in pair]
        if any(edges):
            x = F.pad(x, edges, value=torch.iinfo(x.dtype).min)
        for axis, kernel, stride, dilation in zip(range(-n, 0), room.kernel, room.stride, room.dilation, strict=True):
            x = _largest(x, axis, kernel, stride, dilation)
        return x

    return run


def _largest(x: Tensor, axis: int, kernel: int, stride: int, dilation: int) -> Tensor:
    """The largest of each window along `axis`.

    Not torch's max_pool2d: channels last, it takes no int8 of more than 127 pixels, and no int16 of more than 32767.
    """
    last = x.shape[axis] - dilation * (kernel - 1) - 1
    everything: list[Any] = [slice(None)] * x.dim()
    y: Tensor | None = None
    for first in range(0, dilation * kernel, dilation):
        everything[axis] = slice(first, first + last + 1, stride)
        shifted = x[tuple(everything)]
        y = shifted if y is None else torch.maximum(y, shifted)
    assert y is not None
    return y


def _extreme(plan: Plan, node: ir.Node) -> Callable[..., Moved]:
    everywhere, keep = node.op_type == "GlobalMaxPool", bool(attribute(node, "keepdims", 1))
    axes = None if everywhere else axes_of(plan, node)
    pick = torch.amin if node.op_type == "ReduceMin" else torch.amax

    def run(x: Tensor, *_: Tensor | None) -> Tensor:
        over = tuple(range(2, x.dim())) if everywhere else tuple(range(x.dim())) if axes is None else axes
        return pick(x, over, keepdim=keep) if over else x

    return run


MOVES: dict[str, Callable[[Plan, ir.Node], Callable[..., Moved]]] = {
    "Identity": lambda plan, node: lambda x: x,
    "Dropout": lambda plan, node: lambda x, *_: x,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Expand": _expand,
    "Tile": lambda plan, node: lambda x, repeats: x.repeat([int(n) for n in repeats]),
    "Trilu": _triangle,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "MaxPool": _max_pool,
    "GlobalMaxPool": _extreme,
    "ReduceMax": _extreme,
    "ReduceMin": _extreme,
}
