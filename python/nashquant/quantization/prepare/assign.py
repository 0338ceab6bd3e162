"""Asks the setters how each op is quantized."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from nashquant.dtype import QuantDType, qint16
from nashquant.march import March
from nashquant.op_kind import OpKind
from nashquant.qat_mode import ConsistencyStrategy, QATMode
from nashquant.quantization.observer import FixedScaleObserver
from nashquant.quantization.qconfig import QConfig, activation_spec

from .accumulator import overflow
from .dtype_rules import apply_dtype_rules
from .fuse import fuse
from .graph import Graph, Op, Origin
from .plan import Change, Plan, is_activation, show_dtypes
from .recording import Recording
from .registry import Joins
from .setter import PARTS, QconfigSetterBase, Request

__all__ = ["assign_qconfigs"]

_CHANGE_DTYPE = (OpKind.GEMM, OpKind.MATMUL, OpKind.LUT)


def assign_qconfigs(
    recording: Recording,
    model: nn.Module,
    setters: Sequence[QconfigSetterBase],
    march: March,
    example: tuple[tuple[Any, ...], dict[str, Any]],
    mode: QATMode = QATMode.FuseBN,
) -> Plan:
    """The plan for a recorded model.

    dtypes first, then fusion only where the march allows it: a GEMM with an int16 input can't take an addition into
    its accumulator, so the two stay two ops.

    Raises:
        ValueError: a setter names an unknown op, or asks by name for a dtype the march lacks, or would not be heard.
    """
    apart: frozenset[str] = frozenset()
    while True:
        graph = fuse(recording, model, march, apart, mode)
        plan = _assign(graph, model, setters, example)
        found = frozenset(op.first.path for op in graph.ops if _cannot_sum_in(plan, op))
        if not found:
            break
        apart |= found
    _refuse_missing_stubs(plan)
    for name in sorted(apart):
        why = f"{march.value} takes no qint16 input there"
        plan.messages.append((name, f"not fused with its addition: {why}"))
        plan.note(Change(name, "addition", "fused", "apart", why, fallback=False))
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
        if plan.door(op, node, operand) is None
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
    plan = Plan(graph, in_powers=_in_powers(graph.march))
    answers = [_ask(setter, graph, model, example) for setter in setters]
    _refuse_unheard(graph, setters, answers)
    embedded = {id(op) for op in _embeddings_in_region(graph)}
    unasked = []
    for op in graph.ops:
        if not op.makes_grid or (op.kind is OpKind.EMBEDDING and id(op) not in embedded):
            continue
        own = _own_qconfig(op, model)
        offers = [Request(own, frozen=PARTS)] if own is not None else []
        offers += [answer[op.name] for answer in answers if op.name in answer]
        if not offers:
            unasked.append(op.name)
            continue
        request = offers[0]
        if op.kind is OpKind.GEMM and request.qconfig.weight is None:
            weight = next((offer.qconfig.weight for offer in offers if offer.qconfig.weight is not None), None)
            request = replace(request, qconfig=request.qconfig.replace(weight=weight))
        parts = {part: plan.rounded(part, getattr(request.qconfig, part), op.name) for part in PARTS}
        inputs = tuple(plan.rounded("input", spec, op.name) for spec in request.inputs)
        request = replace(request, qconfig=request.qconfig.replace(**parts), inputs=inputs)
        plan.requests[op.name], plan.qconfigs[op.name] = request, request.qconfig
    if unasked:
        names = ", ".join(unasked[:8]) + (", ..." if len(unasked) > 8 else "")
        graph.warnings.append(
            f"no setter speaks for {len(unasked)} op(s), which stay in floating point: {names}. One for all goes "
            "behind those that name ops: (ModuleNameQconfigSetter(...), default_qat_qconfig_setter)"
        )
    apply_dtype_rules(plan)
    for op in graph.ops:
        if plan.is_quantized(op):
            plan.qconfigs[op.name] = _with_fixed_scale(op, plan.qconfigs[op.name], model)
            plan.messages.extend((op.name, message) for message in _remarks(plan, op, model))
    return plan


def _in_powers(march: March) -> frozenset[str]:
    """The parts whose scales the consistency level wants to be powers of two."""
    level = ConsistencyStrategy.level
    if level and march not in (March.NASH_E, March.NASH_M):
        raise ValueError(f"the consistency level is {level}, but {march.value} has none: it is for nash-e and nash-m")
    return (frozenset(), frozenset({"input", "output"}), PARTS)[level]


def _refuse_unheard(graph: Graph, setters: Sequence[QconfigSetterBase], answers: Sequence[dict[str, Request]]) -> None:
    """Raises ValueError where ops are named behind a setter that speaks for all: the names would never be heard."""
    grids = [op for op in graph.ops if op.makes_grid]
    for number, (setter, answer) in enumerate(zip(setters, answers, strict=True)):
        named = [type(each).__name__ for each in setters[number + 1 :] if each.by_name]
        if not named or setter.by_name or not all(op.name in answer for op in grids):
            continue
        if all(answer[op.name].qconfig.weight is not None for op in grids if op.kind is OpKind.GEMM):
            raise ValueError(
                f"of the setters in qconfig_setter the first that speaks for an op wins, and number {number + 1} of "
                f"{len(setters)} ({type(setter).__name__}) speaks for all ops: {', '.join(named)} behind it would "
                "never be heard. Put the base setter last. (Only in a QconfigSetter the later templates override)"
            )


def _ask(
    setter: QconfigSetterBase, graph: Graph, model: nn.Module, example: tuple[tuple[Any, ...], dict[str, Any]]
) -> dict[str, Request]:
    if type(setter).set_qconfig is QconfigSetterBase.set_qconfig:
        return setter.requests(graph)
    canvas = copy.deepcopy(model)
    for op in graph.ops:
        if op.first.owner is not None and op.makes_grid:
            canvas.get_submodule(op.first.owner).add_module(op.first.path.rpartition(".")[2], nn.Identity())
    for module in canvas.modules():
        vars(module).pop("qconfig", None)
    setter.set_qconfig(canvas, *example)
    written = {path: vars(module).get("qconfig") for path, module in canvas.named_modules()}
    frozen = PARTS if setter.by_name else frozenset()
    return {
        op.name: Request(qconfig, frozen=frozen)
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
    if not isinstance(qconfig.output.dtype, QuantDType):
        raise ValueError(f"QuantStub(scale={scale}) has a grid, but {qconfig.output.dtype} was asked (for {op.name!r})")
    return qconfig.replace(output=activation_spec(FixedScaleObserver, qconfig.output.dtype, scale=scale))


def _remarks(plan: Plan, op: Op, model: nn.Module) -> list[str]:
    """What a person should look at, in the words of the vendor's check."""
    qconfig = plan.qconfigs[op.name]
    remarks = []
    output = qconfig.output
    if output is not None and output.observer is FixedScaleObserver:
        what = "Fixed input scale" if op.kind is OpKind.QUANT else "Fixed scale"
        remarks.append(f"{what} {output.kwargs['scale']}")
    inputs = plan.input_dtypes(op)
    if op.kind not in (OpKind.QUANT, OpKind.DEQUANT):
        integer = op.kind in (OpKind.GEMM, OpKind.MATMUL) or (output is not None and output.dtype is not torch.float16)
        floats = {torch.float32, torch.float16} if integer else {torch.float32}
        if any(dtype in floats for dtype in inputs):
            remarks.append(f"input dtype {show_dtypes(inputs)}: a float tensor enters a quantized op")
        elif output is not None and op.kind not in _CHANGE_DTYPE and any(dtype != output.dtype for dtype in inputs):
            remarks.append(f"input dtype {show_dtypes(inputs)} is not same with out dtype {output.dtype}")
    if output is None and op.kind not in plan.graph.march.spec.high_precision_kinds:
        remarks.append("float output: of the ops on the chip only a conv, linear or matmul can give one")
    if op.kind is OpKind.GEMM and qconfig.weight is None:
        remarks.append("no weight qconfig: the weight stays float, which the chip can't compute")
    elif op.kind is OpKind.GEMM and qconfig.weight is not None and qconfig.weight.dtype is qint16:
        remarks.append("qint16 weight!!!")
    if (sums := overflow(plan, op, model)) is not None:
        remarks.append(sums)
    if len(op.calls) > 1 and op.first.owner is None and op.kind not in (OpKind.GEMM, OpKind.EMBEDDING):
        remarks.append(
            f"its {len(op.calls)} calls share one scale: where their ranges differ, give each a module of its own, or "
            "call a function (torch.relu)"
        )
    return remarks
