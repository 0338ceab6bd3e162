"""What flows through a model while it is recorded: which tensor holds which value, and who made it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from nashquant.op_kind import OpKind

from .graph import Node, Operand, Origin, Value

__all__ = ["Flow", "tensors_of"]


def tensors_of(tree: Any, position: str = "") -> Iterator[tuple[str, Tensor]]:
    """The float and complex tensors in an argument, with their positions."""
    if isinstance(tree, Tensor):
        if tree.is_floating_point() or tree.is_complex():
            yield position, tree
    elif isinstance(tree, (tuple, list)):
        for index, item in enumerate(tree):
            yield from tensors_of(item, f"{position}_{index}" if position else str(index))
    elif isinstance(tree, dict):
        for key, item in tree.items():
            yield from tensors_of(item, f"{position}_{key}" if position else str(key))
    elif hasattr(tree, "__dataclass_fields__"):
        yield from tensors_of(vars(tree), position)


class _Handles:
    """All handles on one memory, the oldest first, and the in-place calls that changed it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensors = [tensor]
        self.changes: list[tuple[int, Node]] = []  # with the number of handles there were

    def used(self, index: int, value: Value) -> Value:
        """What a handle holds now: the calls since it was made must write into its memory."""
        for older, node in self.changes:
            node.writes_back |= older > index
        return value


class Flow:
    """The values of a run, known by the tensors that hold them.

    Attributes:
        nodes: the calls that made them, in the order they ran; see `Recording`.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._inputs: dict[str, Value] = {}
        self._known: dict[Any, list[Node]] = {}  # by what does not change from run to run
        self._met: set[int] = set()  # ids of the known nodes that ran in this run
        self._values: dict[int, Value] = {}
        self._stale: dict[int, Callable[[], Value]] = {}  # tensors that were changed in place, and what they are now
        self._handles: dict[int, _Handles] = {}  # of tensors that were changed in place
        self._alive: list[Tensor] = []  # while a tensor lives, its id is its own

    def begin(self, inputs: Any) -> None:
        """A run begins. An input is the same value in each, and so is what is made of the same values alike."""
        self._met.clear()
        for at, tensor in tensors_of(inputs):
            value = self._describe(tensor, Origin.FLOAT)
            self._set(tensor, _merged(self._inputs.setdefault(at, value), value))

    def declare(self, tree: Any, origin: Origin) -> None:
        """Says where the tensors in `tree` come from."""
        for _, tensor in tensors_of(tree):
            self._set(tensor, self._describe(tensor, origin))

    def _describe(self, tensor: Tensor, origin: Origin, producer: Node | None = None) -> Value:
        with torch._C.DisableTorchFunction():
            finite = tensor.is_complex() or tensor.is_meta or bool(torch.isfinite(tensor).all())
            return Value(origin, tuple(tensor.shape), tensor.device, producer, finite=finite)

    def _set(self, tensor: Tensor, value: Value) -> None:
        self._alive.append(tensor)
        self._values[id(tensor)] = value
        self._stale.pop(id(tensor), None)

    def value(self, tensor: Tensor) -> Value:
        """What `tensor` holds; a tensor never seen before is a constant."""
        if id(tensor) in self._stale:
            return self._stale[id(tensor)]()
        if id(tensor) not in self._values:  # parameters, buffers, tensors kept in attributes
            self.declare(tensor, Origin.CONSTANT)
        return self._values[id(tensor)]

    def ran(self, node: Node, outputs: Any, origin: Origin | None = None) -> Node:
        """Takes note of a call that ran, and of where its outputs come from. Gives the node that stands for it: that of
        an earlier run, if it ran alike there."""
        if origin is None:
            # What only moves values, or keeps their grid, is what its data is; a shape taken from elsewhere is not.
            moves = node.kind in (OpKind.PASS, OpKind.RESAMPLE)
            sources = [node.data] if moves else [operand.value for operand in node.operands]
            origins = {value.origin for value in sources if value is not None}
            origin = next((o for o in (Origin.REGION, Origin.FLOAT) if o in origins), Origin.CONSTANT)
        results = list(tensors_of(outputs))
        in_region = origin is Origin.REGION or node.kind in (OpKind.QUANT, OpKind.DEQUANT, OpKind.EMBEDDING)
        keep = bool(results) and (in_region or (node.kind is OpKind.PASS and origin is Origin.CONSTANT))
        consumes = in_region and _has_tensor(outputs)  # a comparison, an argmax: it consumes all the same
        known = self._of_earlier_run(node) if keep or consumes else None
        if known is not None:
            node = known
        elif keep or consumes:
            for operand in node.operands:
                operand.value.consumers.append(node)
            if keep or node.entry is None:  # what gives only integers is reported too, if it is unknown
                self.nodes.append(node)
        for index, (_, tensor) in enumerate(results):
            value = self._describe(tensor, origin, node if keep else None)
            if index == len(node.outputs):
                node.outputs.append(value)
            self._set(tensor, _merged(node.outputs[index], value))
        return node

    def _of_earlier_run(self, node: Node) -> Node | None:
        """The same call on the same values in another run; else `node` is one to be known in later runs."""
        alike = self._known.setdefault((node.path, node.label, node.owner, node.site, node.place), [])
        known = next((each for each in alike if id(each) not in self._met and _same_operands(each, node)), None)
        if known is None:
            alike.append(node)
        self._met.add(id(known or node))
        return known

    def ran_in_place(self, node: Node, changed: Tensor) -> Tensor:
        """As `ran`, for a call that changed its first operand; gives another handle on the same memory.

        Who goes on with the handle, as after `x += y`, needs no copy back. Who goes on with an older one, does.
        """
        node = self.ran(node, changed)
        value = self._values[id(changed)]
        handles = self._handles.setdefault(id(changed), _Handles(changed))
        older = len(handles.tensors)
        handles.changes.append((older, node))
        base = changed._base
        if base is not None and all(base is not tensor for tensor in handles.tensors):  # a part of a tensor
            node.writes_back = True
            before = self._values.get(id(base))
            if before is not None:
                self._stale[id(base)] = lambda: self._partly_changed(base, before, value, node)
        handle = changed.view_as(changed)
        for index, tensor in enumerate(handles.tensors):
            self._stale[id(tensor)] = functools.partial(handles.used, index, value)
        handles.tensors.append(handle)
        self._set(handle, value)
        self._handles[id(handle)] = handles
        return handle

    def _partly_changed(self, base: Tensor, before: Value, part: Value, node: Node) -> Value:
        """A tensor after an in-place call on a view of it: on no grid that we know."""
        label = f"{node.label} on a view"
        operands = [Operand("0", before), Operand("1", part)]
        mixed = Node(None, node.owner or "", label, operands, owner=node.owner, place=node.place)
        self.ran(mixed, base, Origin.REGION)
        return self._values[id(base)]


def _merged(known: Value, seen: Value) -> Value:
    """A value that was seen in another run too."""
    known.finite &= seen.finite
    return known


def _same_operands(known: Node, node: Node) -> bool:
    """Whether two calls take the same values; outside the region, one is like another."""
    if [operand.position for operand in known.operands] != [operand.position for operand in node.operands]:
        return False
    for a, b in ((a.value, b.value) for a, b in zip(known.operands, node.operands, strict=True)):
        alike = a.origin is b.origin is not Origin.REGION and a.producer is None and b.producer is None
        if a is not b and not alike:
            return False
    return True


def _has_tensor(tree: Any) -> bool:
    if isinstance(tree, (tuple, list)):
        return any(map(_has_tensor, tree))
    return isinstance(tree, Tensor)
