"""How each op of a graph will be quantized, and what was changed on the way from what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from nashquant.dtype import DType, QuantDType
from nashquant.op_kind import OpKind
from nashquant.quantization.fake_quantize import FakeQuantizeSpec
from nashquant.quantization.observer import FixedScaleObserver, MinMaxObserver
from nashquant.quantization.qconfig import QConfig, activation_spec

from .graph import Graph, Node, Op, Operand, Origin, Value
from .setter import Request

__all__ = ["Change", "Plan", "is_activation", "show_dtypes"]


@dataclass(frozen=True)
class Change:
    """One thing that came out otherwise than it was asked.

    Attributes:
        name: the op's.
        part: "output", "weight", "input 1", "fusion".
        asked, given: a dtype's name; for a fusion "fused" and "apart".
        reason: why, in words.
        fallback: whether the user gets less than was asked; `prepare(..., strict=True)` refuses these.
    """

    name: str
    part: str
    asked: str
    given: str
    reason: str
    fallback: bool

    def __str__(self) -> str:
        kind = "fallback" if self.fallback else "adjusted"
        return f"{self.name}: {self.part} {self.asked} -> {self.given} ({kind}): {self.reason}"


@dataclass
class Plan:
    """How each op of a graph is quantized.

    Attributes:
        qconfigs: op name -> its QConfig; ops that stay float have none.
        requests: op name -> what was asked for it.
        messages: `(op name, what a person should check)`.
        changes: what came out otherwise than it was asked.
        in_powers: the parts whose scales are held to powers of two.
    """

    graph: Graph
    qconfigs: dict[str, QConfig] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    messages: list[tuple[str, str]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    in_powers: frozenset[str] = frozenset()

    def note(self, change: Change) -> None:
        """Writes a change down; once, where a module is called several times."""
        if change not in self.changes:
            self.changes.append(change)

    def is_quantized(self, op: Op) -> bool:
        """Whether the op gets quantizers: it lies in the region and has a qconfig."""
        return op.name in self.qconfigs

    def output_dtype(self, op: Op) -> DType:
        """What the op gives."""
        qconfig = self.qconfigs.get(op.name)
        return torch.float32 if qconfig is None or qconfig.output is None else qconfig.output.dtype

    def dtype(self, value: Value) -> DType:
        """What a tensor is when it arrives at its consumer."""
        op = self.graph.grid_of(value)
        return torch.float32 if op is None or not self.is_quantized(op) else self.output_dtype(op)

    def input_dtypes(self, op: Op, call: Node | None = None) -> list[DType]:
        """What the op's tensors come as, after quantizers at its own door; weights of a functional op not counted."""
        dtypes: list[DType] = []
        for node, operand in op.operands(call or op.calls[0]):
            if is_activation(node, operand.position):
                spec = self.door(op, node, operand)
                dtypes.append(self.dtype(operand.value) if spec is None else spec.dtype)
        return dtypes

    def asked_input(self, op: Op, node: Node, operand: Operand) -> FakeQuantizeSpec | None:
        """What was asked of an operand of the op's first node; None: nothing."""
        request = self.requests.get(op.name)
        if request is None or not (node is op.first or (len(op.chain) == 1 and node in op.calls)):
            return None
        activations = (each for each in node.operands if is_activation(node, each.position))
        asked = zip(request.inputs, activations, strict=False)
        return next((spec for spec, each in asked if each is operand), None)

    def door(self, op: Op, node: Node, operand: Operand) -> FakeQuantizeSpec | None:
        """The quantizer for an operand at the op's own door, or None.

        One that comes quantized keeps its grid, unless another dtype was asked of it. A constant is quantized like
        the op's first quantized operand; another float only where the QConfig says so.
        """
        value, qconfig = operand.value, self.qconfigs.get(op.name)
        if qconfig is None or op.kind is OpKind.QUANT:
            return None
        arriving, asked = self.dtype(value), self.asked_input(op, node, operand)
        if isinstance(arriving, QuantDType):
            source = self.graph.grid_of(value)
            same = source is not None and self.qconfigs[source.name].output == asked
            fits = asked is None or same or (asked.dtype == arriving and asked.observer is not FixedScaleObserver)
            return None if fits else asked
        if arriving is torch.float16 and (asked or qconfig.input) is not None:
            door = asked or qconfig.input
            return None if door is None or door.dtype is arriving else door
        if qconfig.input is not None:
            return qconfig.input
        if not value.finite or value.origin is Origin.FLOAT:
            return None
        if asked is not None or value.origin is not Origin.CONSTANT:
            return asked
        dtypes = [self.dtype(v) for node in op.chain for v in node.region_operands]
        dtype = next((d for d in dtypes if isinstance(d, QuantDType)), None)
        return None if dtype is None else self.rounded("input", activation_spec(MinMaxObserver, dtype), op.name)

    def rounded(self, part: str, spec: FakeQuantizeSpec | None, name: str) -> FakeQuantizeSpec | None:
        """`spec`, with a scale that is a power of two where `part` shall have such. A fixed scale is as it was given.

        Raises:
            ValueError: the quantizer can't do that.
        """
        if part not in self.in_powers or spec is None or spec.observer in (None, FixedScaleObserver):
            return spec
        try:
            return spec.replace(pow_quantization=True)
        except ValueError as error:
            raise ValueError(f"the consistency level asks for powers of two: {error} (for {name!r})") from error


def is_activation(node: Node, position: str) -> bool:
    """Whether an operand of a call is an activation, not a weight, a gain or a mask."""
    if node.entry is None or node.entry.activations is None:
        return True
    first = position.partition("_")[0]
    return int(first) < node.entry.activations if first.isdigit() else first == "input"


def show_dtypes(dtypes: Sequence[DType]) -> str:
    """`['qint8', torch.float32]`."""
    return str([str(dtype) if isinstance(dtype, QuantDType) else dtype for dtype in dtypes])
