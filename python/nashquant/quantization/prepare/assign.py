"""Decides how each op is quantized: what the setters say, within what the march allows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nashquant.dtype import QuantDType
from nashquant.march import March
from nashquant.op_kind import OpKind
from nashquant.quantization.fake_quantize import FakeQuantizeSpec
from nashquant.quantization.observer import FixedScaleObserver, MinMaxObserver
from nashquant.quantization.qconfig import QConfig, activation_spec

from .fuse import fuse
from .graph import Graph, Node, Op, Origin, Value
from .recording import Recording
from .registry import Joins
from .setter import QconfigSetterBase

__all__ = ["Plan", "assign_qconfigs"]

DType = QuantDType | torch.dtype


@dataclass
class Plan:
    """How each op of a graph is quantized.

    Attributes:
        qconfigs: op name -> its QConfig; ops that stay float have none.
        messages: `(op name, what a person should check)`.
    """

    graph: Graph
    qconfigs: dict[str, QConfig] = field(default_factory=dict)
    messages: list[tuple[str, str]] = field(default_factory=list)

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
        dtypes = []
        for node, operand in op.operands(call or op.calls[0]):
            if is_activation(node, operand.position):
                spec = self.operand_spec(op, operand.value)
                dtypes.append(self.dtype(operand.value) if spec is None else spec.dtype)
        return dtypes

    def operand_spec(self, op: Op, value: Value) -> FakeQuantizeSpec | None:
        """The quantizer for an operand that arrives in float, or None.

        A constant is quantized like the op's output (or its first quantized operand); another float only where the
        QConfig says so.
        """
        qconfig = self.qconfigs.get(op.name)
        if qconfig is None or op.kind is OpKind.QUANT or isinstance(self.dtype(value), QuantDType):
            return None
        if qconfig.input is not None:
            return qconfig.input
        if value.origin is not Origin.CONSTANT or not value.finite:
            return None
        dtypes = [self.dtype(v) for node in op.chain for v in node.region_operands]
        dtype = next((d for d in dtypes if isinstance(d, QuantDType)), None)
        return None if dtype is None else activation_spec(MinMaxObserver, dtype)

    def is_quantized(self, op: Op) -> bool:
        """Whether the op gets quantizers: it lies in the region and has a qconfig."""
        return op.name in self.qconfigs


def is_activation(node: Node, position: str) -> bool:
    """Whether an operand of a call is an activation, not a weight, a gain or a mask."""
    if node.entry is None or node.entry.activations is None:
        return True
    first = position.partition("_")[0]
    return int(first) < node.entry.activations if first.isdigit() else first == "input"


def assign_qconfigs(
    recording: Recording,
    model: nn.Module,
    setters: Sequence[QconfigSetterBase],
    march: March,
    example: tuple[tuple[Any, ...], dict[str, Any]],
) -> Plan:
    """The plan for a recorded model.

    dtypes first, then fusion only where the march allows it: a GEMM with an int16 input can't take an addition into
    its accumulator, so the two stay two ops.

    Raises:
        ValueError: a setter names an unknown op, or asks by name for a dtype the march lacks.
    """
    apart: frozenset[str] = frozenset()
    while True:
        graph = fuse(recording, model, march, apart)
        plan = _assign(graph, model, setters, example)
        found = frozenset(op.first.path for op in graph.ops if _cannot_sum_in(plan, op))
        if not found:
            break
        apart |= found
    _refuse_missing_stubs(plan)
    for name in sorted(apart):
        plan.messages.append((name, f"not fused with its addition: {march.value} takes no qint16 input there"))
    return plan


def _refuse_missing_stubs(plan: Plan) -> None:
    """Raises ValueError where a quantized op takes an input of the model that went through no QuantStub."""
    missing = [
        f"operand {operand.position} of {op.name!r}" + (f" ({node.label} at {node.place})" if node.place else "")
        for op in plan.graph.ops
        if plan.is_quantized(op) and op.kind is not OpKind.QUANT
        for call in op.calls
        for node, operand in op.operands(call)
        if is_activation(node, operand.position) and operand.value.origin is Origin.FLOAT and operand.value.finite
        if plan.operand_spec(op, operand.value) is None
    ]
    if missing:
        raise ValueError(
            "a float tensor that went through no QuantStub enters a quantized op: "
            f"{'; '.join(dict.fromkeys(missing))}. Give it a QuantStub of its own"
        )


def _cannot_sum_in(plan: Plan, op: Op) -> bool:
    if len(op.chain) < 2 or not any(node.joins_as(Joins.SUM) for node in op.chain):
        return False
    dtypes = plan.input_dtypes(op)
    return any(isinstance(d, QuantDType) and d not in plan.graph.march.spec.sum_in for d in dtypes)


def _assign(
    graph: Graph,
    model: nn.Module,
    setters: Sequence[QconfigSetterBase],
    example: tuple[tuple[Any, ...], dict[str, Any]],
) -> Plan:
    plan = Plan(graph)
    answers = [(setter, _ask(setter, graph, model, example)) for setter in setters]
    embedded = {id(op) for op in _embeddings_in_region(graph)}
    for op in graph.ops:
        if not op.makes_grid or (op.kind is OpKind.EMBEDDING and id(op) not in embedded):
            continue
        own = _own_qconfig(op, model)
        offers: list[tuple[QconfigSetterBase | None, QConfig]] = [(None, own)] if own is not None else []
        offers += [(setter, answer[op.name]) for setter, answer in answers if op.name in answer]
        if not offers:
            continue
        setter, qconfig = offers[0]
        if op.kind is OpKind.GEMM and qconfig.weight is None:
            weight = next((offer.weight for _, offer in offers if offer.weight is not None), None)
            qconfig = qconfig.replace(weight=weight)
        plan.qconfigs[op.name] = _with_fixed_scale(op, qconfig, model)
        _check_march(plan, op, by_name=setter is None or setter.by_name)
    for op in graph.ops:
        plan.messages.extend((op.name, message) for message in _remarks(plan, op))
    return plan


def _ask(
    setter: QconfigSetterBase, graph: Graph, model: nn.Module, example: tuple[tuple[Any, ...], dict[str, Any]]
) -> dict[str, QConfig]:
    if type(setter).set_qconfig is QconfigSetterBase.set_qconfig:
        return setter.qconfigs(graph)
    canvas = copy.deepcopy(model)
    for op in graph.ops:
        if op.first.owner is not None and op.makes_grid:
            canvas.get_submodule(op.first.owner).add_module(op.first.path.rpartition(".")[2], nn.Identity())
    for module in canvas.modules():
        vars(module).pop("qconfig", None)
    setter.set_qconfig(canvas, *example)
    written = {path: vars(module).get("qconfig") for path, module in canvas.named_modules()}
    return {
        op.name: qconfig
        for op in graph.ops
        if op.makes_grid
        for qconfig in [next((written[n] for n in op.names if written.get(n) is not None), None)]
        if qconfig is not None
    }


def _embeddings_in_region(graph: Graph) -> list[Op]:
    """Embeddings whose vectors meet a quantized tensor without a QuantStub between: their tables go on the chip."""
    found = []
    for node in graph.nodes:
        if node.kind in (OpKind.PASS, OpKind.QUANT) or not node.region_operands:
            continue
        for operand in node.operands:
            op = graph.grid_of(operand.value)
            if op is not None and op.kind is OpKind.EMBEDDING:
                found.append(op)
    return found


def _own_qconfig(op: Op, model: nn.Module) -> QConfig | None:
    if op.kind is not OpKind.QUANT:
        return None
    qconfig = getattr(model.get_submodule(op.first.path), "qconfig", None)
    if qconfig is not None and not isinstance(qconfig, QConfig):
        kind = f"{type(qconfig).__module__}.{type(qconfig).__name__}"
        raise TypeError(f"the qconfig of {op.name!r} must be a nashquant QConfig, not a {kind}")
    return qconfig


def _with_fixed_scale(op: Op, qconfig: QConfig, model: nn.Module) -> QConfig:
    """A QuantStub's own scale; its dtype stays what the setters say."""
    scale = getattr(model.get_submodule(op.first.path), "scale", None) if op.kind is OpKind.QUANT else None
    if scale is None or qconfig.output is None:
        return qconfig
    return qconfig.replace(output=activation_spec(FixedScaleObserver, qconfig.output.dtype, scale=scale))


def _check_march(plan: Plan, op: Op, by_name: bool) -> None:
    """Holds an op's dtypes against what the march allows."""
    march, qconfig = plan.graph.march, plan.qconfigs[op.name]
    assert op.kind is not None
    rule = march.spec.rule(op.kind)
    for part, allowed in {
        "output": march.spec.activations,
        "weight": tuple(d for d in march.spec.weights if d in rule.weights),
        "input": march.spec.activations,
    }.items():
        spec = getattr(qconfig, part)
        if spec is None or (part == "weight" and op.kind is not OpKind.GEMM) or spec.dtype in allowed:
            continue
        raise ValueError(
            f"{march.value} has no {spec.dtype} {part} for {op.type_name}, it has "
            f"{', '.join(map(str, allowed))} (for {op.name!r})"
        )
    dtypes = [dtype for dtype in plan.input_dtypes(op) if isinstance(dtype, QuantDType)]
    if not dtypes or qconfig.output is None or op.kind is OpKind.QUANT:
        return
    narrowest = min(dtypes, key=lambda dtype: dtype.bits)
    possible = rule.outputs[narrowest]
    if qconfig.output.dtype in possible:
        return
    what = f"{march.value} computes {op.type_name} from {narrowest} to {', '.join(map(str, possible))} only"
    if by_name:
        raise ValueError(f"{what}, but {qconfig.output.dtype} was asked (for {op.name!r})")
    plan.messages.append((op.name, f"{what}: {qconfig.output.dtype} became {possible[-1]}"))
    plan.qconfigs[op.name] = qconfig.replace(output=qconfig.output.replace(dtype=possible[-1]))


def _remarks(plan: Plan, op: Op) -> list[str]:
    """What a person should look at, in the words of the vendor's check."""
    qconfig = plan.qconfigs.get(op.name)
    if qconfig is None:
        return []
    remarks = []
    output = qconfig.output
    if output is not None and output.observer is FixedScaleObserver:
        what = "Fixed input scale" if op.kind is OpKind.QUANT else "Fixed scale"
        remarks.append(f"{what} {output.kwargs['scale']}")
    inputs = plan.input_dtypes(op)
    if op.kind not in (OpKind.QUANT, OpKind.DEQUANT):
        if any(dtype is torch.float32 for dtype in inputs):
            remarks.append(f"input dtype {show_dtypes(inputs)}: a float tensor enters a quantized op")
        elif (
            output is not None
            and op.kind not in (OpKind.GEMM, OpKind.MATMUL, OpKind.LUT)
            and any(d != output.dtype for d in inputs)
        ):
            remarks.append(f"input dtype {show_dtypes(inputs)} is not same with out dtype {output.dtype}")
    if op.kind is OpKind.GEMM and qconfig.weight is None:
        remarks.append("no weight qconfig: the weight stays float, which the chip can't compute")
    elif op.kind is OpKind.GEMM and qconfig.weight is not None and qconfig.weight.dtype.bits > 8:
        remarks.append(f"{qconfig.weight.dtype} weight!!!")
    return remarks


def show_dtypes(dtypes: Sequence[DType]) -> str:
    """`['qint8', torch.float32]`."""
    return str([str(dtype) if isinstance(dtype, QuantDType) else dtype for dtype in dtypes])
