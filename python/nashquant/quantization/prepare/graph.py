"""What was recorded: which op ran where, on what; and the same, with fused ops taken as one."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from nashquant.march import March
from nashquant.op_kind import OpKind

from .call_site import CallSite
from .registry import Joins, OpEntry

__all__ = ["Graph", "Node", "Op", "Operand", "Origin", "Value"]


class Origin(enum.Enum):
    """Where a tensor's values come from."""

    REGION = "quantized region"  # between QuantStub and DeQuantStub
    FLOAT = "float"  # the model's inputs, outside the stubs
    CONSTANT = "constant"  # parameters, buffers, tensors made in forward


@dataclass(eq=False)
class Value:
    """A float tensor that flowed through the model. `finite`: without NaN or infinity on the example inputs."""

    origin: Origin
    shape: tuple[int, ...]
    device: torch.device
    producer: Node | None = None
    consumers: list[Node] = field(default_factory=list)
    finite: bool = True


@dataclass(eq=False)
class Operand:
    """A tensor among a call's arguments. `position`: "1", "0_2" (in a list), "other" (by keyword)."""

    position: str
    value: Value


@dataclass(eq=False)
class Node:
    """One call of a module or function.

    Attributes:
        path: module that holds (or will hold) the quantizers, e.g. "layer1.0.conv1", "_generated_add_0".
        label: name of the function or class, as the user knows it.
        owner: path of the module whose forward made a functional call; None for a module call.
        site: where a functional call stands in its owner's forward; None for a module call.
        writes_back: whether an in-place call must also change its first operand.
        place: file and line, for messages.
        keywords: what a functional call was given by keyword, tensors left out.
    """

    entry: OpEntry | None
    path: str
    label: str
    operands: list[Operand]
    outputs: list[Value] = field(default_factory=list)
    owner: str | None = None
    site: CallSite | None = None
    writes_back: bool = False
    place: str = ""
    keywords: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> OpKind | None:
        """The op's kind in the registry; None where it has no entry."""
        return None if self.entry is None else self.entry.kind

    def joins_as(self, part: Joins) -> bool:
        """Whether the op can be this part of a fused op."""
        return self.entry is not None and part in self.entry.joins

    @property
    def data(self) -> Value | None:
        """The operand whose values a moving or resampling op moves: the first."""
        return next((o.value for o in self.operands if o.position in ("0", "input")), None)

    @property
    def region_operands(self) -> list[Value]:
        """The operands that come from the quantized region."""
        return [operand.value for operand in self.operands if operand.value.origin is Origin.REGION]


@dataclass(eq=False)
class Op:
    """One op on the chip: a node, a fused chain of nodes, or a module called several times.

    Attributes:
        chain: nodes in order, e.g. conv, bn, add, relu. The last that still computes gives the name.
        calls: the nodes that are calls of this op; more than one for a shared module.
        keeps_norm: whether its BatchNorm trains on beside the weight (QATMode.WithBN).
    """

    chain: list[Node]
    calls: list[Node]
    keeps_norm: bool = False

    @property
    def name(self) -> str:
        """The path of the last node, a BatchNorm aside: the name is the same whether that is folded or kept."""
        return next(node.path for node in reversed(self.chain) if not self._is_inner_norm(node))

    @property
    def last(self) -> Node:
        """The last node that still computes: it holds the output's quantizer."""
        return next(node for node in reversed(self.chain) if not self.folds(node))

    def folds(self, node: Node) -> bool:
        """Whether `node` is a BatchNorm folded into this op's weight."""
        return self._is_inner_norm(node) and not self.keeps_norm

    def _is_inner_norm(self, node: Node) -> bool:
        return node is not self.chain[0] and node.joins_as(Joins.NORM)

    @property
    def names(self) -> list[str]:
        """All paths this op answers to, its own name first."""
        return [self.name, *(node.path for node in self.chain if node.path != self.name)]

    @property
    def first(self) -> Node:
        """The node that gives the op its kind."""
        return self.chain[0]

    @property
    def kind(self) -> OpKind | None:
        """The op's kind in the registry; None where it has no entry."""
        return self.first.kind

    @property
    def type_name(self) -> str:
        """The class name a report shows: Conv2d, ConvAddReLU2d, LinearReLU, FloatFunctional, ..."""
        suffix = "".join(
            "BN" if self.keeps_norm and self._is_inner_norm(node) else node.entry.suffix
            for node in self.chain[1:]
            if node.entry is not None
        )
        name = self.first.label
        if self.first.site is not None:
            name = "FloatFunctional" if self.kind is not OpKind.GEMM else _module_name(self.first)
        if suffix and name[-1] == "d":
            return name[:-2] + suffix + name[-2:]
        return name + suffix

    @property
    def spoken(self) -> str:
        """What a message calls it: `type_name`, with the function in place of FloatFunctional."""
        function = self.first.label if self.first.site is not None else self.first.place
        return self.type_name.replace("FloatFunctional", function)

    @property
    def makes_grid(self) -> bool:
        """Whether the op has an output quantizer of its own."""
        return self.first.entry is not None and self.first.entry.makes_grid

    @property
    def outputs(self) -> list[Value]:
        """What the op gives, over all its calls."""
        if len(self.chain) > 1:
            return self.chain[-1].outputs
        return [value for node in self.calls for value in node.outputs]

    def operands(self, call: Node | None = None) -> list[tuple[Node, Operand]]:
        """The operands that come from outside the op, with their nodes, of one call or of all."""
        nodes = self.chain if len(self.chain) > 1 else [call] if call is not None else self.calls
        inner = {id(value) for node in self.chain[:-1] for value in node.outputs}
        return [(node, operand) for node in nodes for operand in node.operands if id(operand.value) not in inner]


class Graph:
    """The recorded nodes in the order they ran, grouped into ops, for one march.

    Attributes:
        warnings: what setters found worth telling the user.
    """

    def __init__(self, nodes: list[Node], ops: list[Op], march: March) -> None:
        self.nodes = nodes
        self.ops = ops
        self.march = march
        self.warnings: list[str] = []
        self._op_of = {id(node): op for op in ops for node in (*op.chain, *op.calls)}

    def op_of(self, node: Node) -> Op:
        """The op a node belongs to."""
        return self._op_of[id(node)]

    def names(self) -> dict[str, str]:
        """Each name an op with a grid answers to -> the op's own name. Its own name comes before a member's."""
        members = {name: op.name for op in self.ops if op.makes_grid for name in op.names}
        return members | {op.name: op.name for op in self.ops if op.makes_grid}

    def grid_of(self, value: Value) -> Op | None:
        """The op whose output quantizer `value` lies on; None for constants and unknown ops."""
        node = value.producer
        while node is not None and node.kind in (OpKind.PASS, OpKind.RESAMPLE):
            node = None if node.data is None else node.data.producer
        if node is None:
            return None
        op = self.op_of(node)
        return op if op.makes_grid else None

    def feeds_only_dequant(self, op: Op) -> bool:
        """Whether every consumer of the op's output is a DeQuantStub, directly."""
        consumers = [node for value in op.outputs for node in value.consumers]
        return bool(consumers) and all(node.kind is OpKind.DEQUANT for node in consumers)

    def low_precision_outputs(self, high_precision: Collection[str]) -> list[str]:
        """Names of the ops behind a DeQuantStub that are not in `high_precision`."""
        ends = [value for node in self.nodes if node.kind is OpKind.DEQUANT for value in node.region_operands]
        behind = (self.grid_of(value) for value in ends)
        return list(dict.fromkeys(op.name for op in behind if op is not None and op.name not in high_precision))

    def sampling_grids(self) -> list[Value]:
        """The tensors that tell a grid_sample where to look."""
        return [
            operand.value
            for node in self.nodes
            if node.entry is not None
            for operand in node.operands
            if operand.position in node.entry.coordinates
        ]

    def back_from(self, value: Value) -> Iterator[Op]:
        """The ops behind `value`, up to and including the first GEMM-like op or QuantStub on each way."""
        todo, seen = [value], set()
        while todo:
            node = todo.pop().producer
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            op = self.op_of(node)
            if op.makes_grid:
                yield op
            if op.kind not in (OpKind.GEMM, OpKind.MATMUL, OpKind.QUANT):
                todo.extend(operand.value for _, operand in op.operands())


def _module_name(node: Node) -> str:
    assert node.entry is not None
    return node.entry.modules[0].__name__
