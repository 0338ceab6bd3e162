"""From the graph to a list of steps, once, before anything runs.

In words: walk the nodes in order. At a QuantizeLinear, the op before it is asked for its integer form, and lands there;
a pointwise function of one quantized value becomes a table. What neither is runs as float between dequantize and
quantize, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch
from torch import Tensor

from . import _pointwise, _quantizers
from ._constants import Constants
from ._exits import reader
from ._float_node import FloatNode, outer_values
from ._forms import Accumulator, Form, Grid, NotIntegerError, Plain, ScaleError, Target, Weight, grid_of
from ._step import Made, Place, Step
from .model import Point

if TYPE_CHECKING:
    from nashquant.arithmetic import Arithmetic

    from ._registry import Op

__all__ = ["Plan"]

_INTEGERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_SIZES = ("Shape", "Size")  # ops that ask for no numbers
_STORED = frozenset(ir.DataType[name] for name in ("INT4", "UINT4", "INT8", "UINT8", "INT16", "UINT16"))


class Plan:
    """What is known of each value so far, and the steps that make it.

    Attributes:
        graph: read once, never changed.
        arithmetic: how the chip rounds.
        opsets: versions of ONNX, by domain.
        steps: what runs, in order.
        points: where each quantizer of an activation leaves its integers.
        held: quantizers of constants.
        outputs: the slots of the graph's outputs.
    """

    def __init__(self, model: ir.Model, registry: Mapping[str, Op], arithmetic: Arithmetic) -> None:
        self.graph, self.arithmetic, self.opsets = model.graph, arithmetic, dict(model.opset_imports)
        self.steps: list[Step] = []
        self.points: list[Point] = []
        self._registry = registry
        self._constants = Constants(self.opsets)
        self._forms: dict[ir.Value, Form] = {}
        self._slots: dict[ir.Value, str] = {}
        self._plain: dict[tuple[ir.Value, bool], str] = {}
        self._made: set[str] = set()
        self._why: dict[ir.Node, str] = {}
        for value in self.graph.inputs:
            self.settle(value, Plain(), _name(value))
        self._from_quantized, self._to_quantizer = self._follow(), self._lead()
        self._waits = self._waiting()
        self.held = {
            node.metadata_props["nashquant.quantizer"]
            for node in self.graph
            if "nashquant.quantizer" in node.metadata_props and self.constant(node.inputs[0]) is not None
        }
        for node in self.graph:
            if node not in self._waits:
                self.compile(node)
        self.outputs = [self.plain(value, leaves=True) for value in self.graph.outputs]

    # What an op asks.

    def constant(self, value: ir.Value | None) -> Tensor | None:
        """Its values, if they are the same at every call."""
        return self._constants.get(value)

    def form(self, value: ir.Value | None) -> Form:
        """What is known of `value`; whatever makes it is planned first.

        Raises:
            NotIntegerError: there is no such operand.
        """
        if value is None:
            raise NotIntegerError("an operand is missing")
        if value not in self._forms:
            if self.constant(value) is not None:
                self._forms[value] = self._constants.weight(value) or Plain()
            else:
                node = value.producer()
                if node is None:
                    raise ValueError(f"the model is not valid ONNX: {value.name!r} is read, but nothing gives it")
                self.compile(node)
        return self._forms[value]

    def slot(self, value: ir.Value) -> str:
        """Where its tensor lies at run time: integers of its form, or a plain tensor."""
        self.form(value)
        return self._slots[value]

    def grid(self, value: ir.Value | None) -> tuple[str, Grid]:
        """The slot and the grid of a quantized activation, or of a constant with one scale.

        Raises:
            NotIntegerError: it is none.
        """
        form = self.form(value)
        assert value is not None
        if isinstance(form, Weight) and form.scale.dim() == 0 and form.integers.element_size() <= 2:
            ends = torch.iinfo(form.integers.dtype)
            grid = Grid(float(form.scale), 0, form.integers.dtype, ends.min, ends.max)
            return self.hold(_name(value), form.integers), grid
        if not isinstance(form, Grid):
            what = "an accumulator that no quantizer rounds" if isinstance(form, Accumulator) else "not quantized"
            raise NotIntegerError(f"its input {value.name!r} is {what}")
        return self._slots[value], form

    def stored(self, value: ir.Value | None, zero_point: ir.Value | None) -> tuple[str, Grid]:
        """Integers of the file, for an op that takes them as such, and their zero point.

        Raises:
            NotIntegerError: they are none, or have many zero points.
        """
        zero = self.constant(zero_point)
        if value is None or value.dtype is None or (zero_point is not None and (zero is None or zero.numel() != 1)):
            raise NotIntegerError("its integers have a zero point for each row, or a computed one")
        grid = grid_of(torch.tensor(1.0), zero, value.dtype)
        constant = self.constant(value)
        if constant is not None:
            return self.hold(_name(value), (constant.long() - grid.offset).to(grid.dtype)), grid
        form = self.form(value)
        if isinstance(form, Accumulator):
            raise NotIntegerError(f"its input {value.name!r} is an accumulator")
        return self._slots[value] if isinstance(form, Grid) else self.signed(value, grid), grid

    def signed(self, value: ir.Value, grid: Grid) -> str:
        """The slot of integers of the file as we keep them."""

        def run(q: Tensor) -> Tensor:
            return (q.to(torch.int32) - grid.offset).to(grid.dtype)

        made = Made(run, (self.plain(value),), (grid,))
        return self._emit(_name(value), "QuantizeLinear", Place.ENTRY, made, (f"{value.name} (signed)",))

    def plain(self, value: ir.Value | None, leaves: bool = False) -> str:
        """The slot of the tensor that the file means: floats of what is quantized, or integers as they are stored.

        Sums in high precision are exact, or have the chip's 32 bits where they leave it (`leaves`).

        Raises:
            NotIntegerError: there is no such operand.
        """
        if value is None:
            raise NotIntegerError("an operand is missing")
        if (value, leaves) not in self._plain:
            self._plain[value, leaves] = self._read_out(value, leaves)
        return self._plain[value, leaves]

    def stepped(self, value: ir.Value | None, scale: float) -> str:
        """The slot of a float tensor from outside in steps of `scale`, rounded half to even, within 32 bits."""
        assert value is not None
        constant, slot = self.constant(value), f"{value.name} in steps of {scale}"

        def run(x: Tensor) -> Tensor:
            return torch.round(x.double() / scale).nan_to_num(nan=-(2.0**31)).clamp(-(2**31), 2**31 - 1).to(torch.int32)

        if constant is not None:
            return self.hold(slot, run(constant))
        if slot not in self._made:
            made = Made(run, (self.plain(value),), (Plain(),))
            self._emit(_name(value), "QuantizeLinear", Place.ENTRY, made, (slot,))
        return slot

    def hold(self, name: str, tensor: Tensor) -> str:
        """A slot with a constant in it."""
        slot = f"{name} (constant)"
        if slot not in self._made:
            self._emit(name, "Constant", Place.SHAPE, Made(lambda: tensor, (), (Plain(),)), (slot,))
        return slot

    def op(self, node: ir.Node) -> Op | None:
        """The entry of the registry."""
        return self._registry.get(node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}")

    def moves(self, node: ir.Node) -> bool:
        """Whether `node` only moves values, or picks among them in their order."""
        op = self.op(node)
        return op is not None and op.place is Place.MOVE

    def is_inner(self, node: ir.Node) -> bool:
        """Whether all that reads `node` leads to quantizers, through ops that take it in."""
        return node in self._waits

    def is_known(self, value: ir.Value) -> bool:
        """Whether `value` was planned already."""
        return value in self._forms

    def is_outside(self, value: ir.Value | None) -> bool:
        """Whether no quantized activation has a part in `value`: it is constant, or made of inputs and shapes alone."""
        return value is not None and value not in self._from_quantized

    def is_quantized(self, value: ir.Value) -> bool:
        """Whether `value` is on a grid, or moved from one; plans nothing but moves."""
        node = value.producer()
        if value not in self._forms and node is not None and self.moves(node) and node.inputs[0] is not None:
            return self.is_quantized(node.inputs[0]) and isinstance(self.form(value), Grid)
        return isinstance(self._forms.get(value), Grid)

    def is_stored(self, value: ir.Value | None) -> bool:
        """Whether `value` holds quantized integers as the file stores them, which stand for no numbers yet."""
        integers = value is not None and value.dtype is not None and not value.dtype.is_floating_point()
        return integers and isinstance(self.form(value), Grid)

    # What a quantizer tells.

    def settle(self, value: ir.Value, form: Form, slot: str) -> None:
        """Says what `value` is, and where."""
        self._forms[value], self._slots[value] = form, slot

    @contextmanager
    def standing_for(self, value: ir.Value, form: Form, slot: str) -> Iterator[None]:
        """Settles `value` for a while: others may read it too, as it was."""
        before = self._forms.get(value), self._slots.get(value)
        self.settle(value, form, slot)
        try:
            yield
        finally:
            del self._forms[value], self._slots[value]
            if before[0] is not None:
                self._forms[value] = before[0]
            if before[1] is not None:
                self._slots[value] = before[1]

    def tried_in_vain(self, node: ir.Node, reason: str) -> None:
        """Remembers why `node` did not land on the quantizer behind it."""
        self._why.setdefault(node, reason)

    def emit_landing(
        self, quantize: ir.Node, nodes: Sequence[ir.Node], made: Made, target: Target, place: Place = Place.INTEGER
    ) -> str:
        """Adds the step of `nodes` that rounds for `quantize`; its slot."""
        op = "+".join(node.op_type for node in nodes)
        return self._emit(_layer(nodes[0]), op, place, made, (_name(quantize.outputs[0]),), target)

    # How a node becomes a step.

    def compile(self, node: ir.Node) -> None:
        """Plans `node`, unless that is done or it is constant."""
        outputs = [value for value in node.outputs if value.name]
        if all(value in self._forms or self.constant(value) is not None for value in outputs):
            return
        try:
            if node.op_type == "QuantizeLinear":
                self._quantize(node)
            elif node.op_type == "DequantizeLinear":
                self.settle(outputs[0], *_quantizers.dequantize(self, node))
            elif self._computes_on_stored(node):
                raise NotIntegerError("it computes on integers as they are stored")
            else:
                self._integer(node, outputs)
        except NotIntegerError as error:
            self._float(node, outputs, self._why.get(node, str(error)))
        except ScaleError as error:
            raise ValueError(f"{node.op_type} of {_layer(node)!r}: {error}") from error

    def _quantize(self, node: ir.Node) -> None:
        form, slot = _quantizers.quantize(self, node)
        self.settle(node.outputs[0], form, slot)
        quantizer, module = (node.metadata_props.get(f"nashquant.{key}") for key in ("quantizer", "module"))
        call = node.metadata_props.get("nashquant.call", "")
        if quantizer is None or module is not None:  # else the pair only says that a move stays on its grid
            layer = next((step.layer for step in reversed(self.steps) if slot in step.outputs), "")
            assert isinstance(form, Grid)
            self.points.append(Point(quantizer or node.name or _name(node.outputs[0]), slot, form, layer, call))

    def _computes_on_stored(self, node: ir.Node) -> bool:
        op = self.op(node)
        takes_them = op is not None and (op.stored or op.place is not Place.INTEGER)
        return not takes_them and any(map(self.is_stored, node.inputs))

    def _integer(self, node: ir.Node, outputs: Sequence[ir.Value]) -> None:
        op, place = self.op(node), Place.INTEGER
        try:
            if op is None:
                raise NotIntegerError(
                    "a pointwise function without a quantizer behind it, or of several values"
                    if _pointwise.knows(node)
                    else "it has no integer form"
                )
            made, place = op.make(self, node, None), op.place
        except NotIntegerError:
            inner = _pointwise.inner_table(self, node) if self.is_inner(node) else None
            if inner is None:
                raise
            made = inner
        self._emit(_layer(node), node.op_type, place, made, tuple(map(_name, outputs)))
        for value, form in zip(outputs, made.forms, strict=False):
            self.settle(value, form, _name(value))

    def _float(self, node: ir.Node, outputs: Sequence[ir.Value], reason: str) -> None:
        read = outer_values(node)
        constants = {value: c for value in read if (c := self.constant(value)) is not None}
        dynamic = [value for value in read if value not in constants]
        run, place = FloatNode(node, dynamic, constants, self.opsets), Place.FLOAT
        floats = any(v.dtype is not None and v.dtype.is_floating_point() for v in [*outputs, *dynamic])
        stored = any(v.dtype in _STORED and not self.is_outside(v) for v in dynamic)
        if not (floats or stored):
            place = Place.SHAPE
        elif self._from_quantized and all(map(self.is_outside, outputs)):
            place, reason = Place.FRONT, "it reads nothing quantized"
        elif self._from_quantized and self._to_quantizer.isdisjoint(outputs):
            place = Place.BEHIND
        read_out = tuple(self.plain(value, leaves=place is Place.BEHIND) for value in dynamic)
        made = Made(run, read_out, (Plain(),) * len(outputs))
        self._emit(_layer(node), node.op_type, place, made, tuple(map(_name, outputs)), None, reason)
        for value in outputs:
            self.settle(value, Plain(), _name(value))

    def _read_out(self, value: ir.Value, leaves: bool) -> str:
        constant = self.constant(value)
        if constant is not None:
            return self.hold(f"{value.name} as it is", constant)
        form = self.form(value)
        if isinstance(form, (Plain, Weight)):
            return self._slots[value]
        slot = f"{value.name} (read)"
        if isinstance(form, Accumulator):
            slot = f"{value.name} (in 32 bits)" if leaves else f"{value.name} (exact)"
        elif slot in self._made:
            return slot
        made = Made(reader(form, value.dtype, leaves), (self._slots[value],), (Plain(),))
        return self._emit(_name(value), "DequantizeLinear", Place.EXIT, made, (slot,))

    def _follow(self) -> set[ir.Value]:
        """All values that a quantized activation has a part in, other than by its shape."""
        found: set[ir.Value] = set()
        for node in self.graph:
            read = outer_values(node)
            begins = node.op_type in _INTEGERS and any(self.constant(value) is None for value in node.inputs[:2])
            if node.op_type not in _SIZES and (begins or not found.isdisjoint(read)):
                found.update(node.outputs)
        return found

    def _lead(self) -> set[ir.Value]:
        """All values that something quantized is made of."""
        found: set[ir.Value] = set()
        for node in reversed(list(self.graph)):
            if node.op_type in _INTEGERS or not found.isdisjoint(node.outputs):
                found.update(outer_values(node))
        return found

    def _waiting(self) -> set[ir.Node]:
        """Nodes that only quantizers need, at once or through pointwise functions, moves and the sums of a softmax.

        Their sizes may be asked for.
        """
        found: set[ir.Node] = set()
        for node in reversed(list(self.graph)):
            if node.op_type in ("QuantizeLinear", "DequantizeLinear") or any(v.is_graph_output() for v in node.outputs):
                continue
            readers = [use.node for value in node.outputs for use in value.uses() if use.node.op_type not in _SIZES]
            through = (r for r in readers if r.op_type != "QuantizeLinear")
            if readers and all(r in found and (self.moves(r) or _pointwise.goes_into(node, r)) for r in through):
                found.add(node)
        return found

    def _emit(
        self,
        layer: str,
        op: str,
        place: Place,
        made: Made,
        outputs: tuple[str, ...],
        target: Target | None = None,
        reason: str = "",
    ) -> str:
        self.steps.append(Step(layer, op, place, made.run, made.inputs, outputs, target, reason, made.accumulators))
        self._made.update(outputs)
        return outputs[0]


def _layer(node: ir.Node) -> str:
    quantizer = node.metadata_props.get("nashquant.quantizer", "").removesuffix(".activation_post_process")
    return quantizer or node.metadata_props.get("nashquant.module") or node.name or node.op_type


def _name(value: ir.Value) -> str:
    assert value.name
    return value.name
