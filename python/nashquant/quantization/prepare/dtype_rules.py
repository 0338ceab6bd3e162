"""Holds what was asked against what the march can do, and against itself. Every change is written down."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from nashquant.dtype import DType, QuantDType
from nashquant.op_kind import OpKind
from nashquant.quantization.fake_quantize import FakeQuantizeSpec

from .graph import Graph, Node, Op
from .plan import Change, Plan

__all__ = ["apply_dtype_rules"]


def apply_dtype_rules(plan: Plan) -> None:
    """Makes a plan one that the march can run.

    First what feeds an op gets the dtype the op asks for, where nobody else reads it. Then, in the order the ops run,
    a dtype that the march lacks becomes the next narrower one it has.

    Raises:
        ValueError: the march can't do what was asked of a frozen part, or has nothing narrower. All such are listed.
    """
    readers = _readers(plan.graph)
    for op in plan.graph.ops:
        if plan.is_quantized(op):
            _keep_accumulator(plan, op)
            _give_what_readers_ask(plan, op, readers[op.name])
    impossible: list[str] = []
    for op in plan.graph.ops:
        if plan.is_quantized(op):
            impossible += _hold_parts(plan, op)
            impossible += _hold_output(plan, op)
            _note_requantized(plan, op)
            _cast_operands(plan, op)
    if impossible:
        raise ValueError("\n".join(impossible))


def _keep_accumulator(plan: Plan, op: Op) -> None:
    """A GEMM that only DeQuantStubs read needs no grid for its output."""
    output, request = plan.qconfigs[op.name].output, plan.requests[op.name]
    if output is None or not request.adjusts or "output" in request.frozen or "scale" in output.kwargs:
        return
    march = plan.graph.march.spec
    if op.kind in march.high_precision_kinds and plan.graph.feeds_only_dequant(op):
        plan.qconfigs[op.name] = plan.qconfigs[op.name].replace(output=None)
        why = f"only DeQuantStubs read it, so that the accumulator's precision ({march.accumulator}) can stay"
        plan.note(Change(op.name, "output", str(output.dtype), "torch.float32", why, fallback=False))


_Reader = tuple[Op, Node, int]  # an op, a node of it, and which of the node's operands


def _readers(graph: Graph) -> dict[str, list[_Reader]]:
    """Op name -> who reads its grid, moved or not."""
    readers: dict[str, list[_Reader]] = defaultdict(list)
    for node in graph.nodes:
        for index, operand in enumerate(node.operands):
            moved = node.kind in (OpKind.PASS, OpKind.RESAMPLE) and operand.value is node.data
            source = None if moved else graph.grid_of(operand.value)
            if source is not None and source is not graph.op_of(node):
                readers[source.name].append((graph.op_of(node), node, index))
    return readers


def _give_what_readers_ask(plan: Plan, op: Op, readers: Sequence[_Reader]) -> None:
    """Saves a requantization: the output becomes at once what all who read it want."""
    output = plan.qconfigs[op.name].output
    if output is None or "output" in plan.requests[op.name].frozen or "scale" in output.kwargs:
        return  # what has a threshold of its own keeps it
    asked = {_asked(plan, *reader) for reader in readers}
    spec = asked.pop() if len(asked) == 1 else None
    if spec is None or (spec.dtype == output.dtype and "scale" not in spec.kwargs):
        return
    keeps_observer = output.observer is not None and isinstance(spec.dtype, QuantDType) and "scale" not in spec.kwargs
    wanted = output.replace(dtype=spec.dtype) if keeps_observer else spec
    plan.qconfigs[op.name] = plan.qconfigs[op.name].replace(output=wanted)
    names = list(dict.fromkeys(repr(reader.name) for reader, *_ in readers))
    why = f"only {', '.join(names)} read{'s' * (len(names) == 1)} it, and ask{'s' * (len(names) == 1)} for this"
    plan.note(Change(op.name, "output", str(output.dtype), str(wanted.dtype), why, fallback=False))


def _asked(plan: Plan, reader: Op, node: Node, index: int) -> FakeQuantizeSpec | None:
    request = plan.requests.get(reader.name)
    return plan.asked_input(reader, node, node.operands[index]) if request is not None and request.adjusts else None


def _hold_parts(plan: Plan, op: Op) -> Iterator[str]:
    """Each quantizer's dtype against those the march has for that part of the op."""
    spec, rule = plan.graph.march.spec, plan.graph.march.spec.rule(op.kind)
    yield from _hold(plan, op, "output", spec.activations)
    yield from _hold(plan, op, "input", spec.activations)
    if op.kind is OpKind.GEMM:
        yield from _hold(plan, op, "weight", tuple(d for d in spec.weights if d in rule.weights))


def _hold(plan: Plan, op: Op, part: str, allowed: Sequence[DType]) -> Iterator[str]:
    quantizer: FakeQuantizeSpec | None = getattr(plan.qconfigs[op.name], part)
    if quantizer is None or quantizer.dtype in allowed:
        return
    what = (
        f"{plan.graph.march.value} has no {quantizer.dtype} {part} for {op.spoken}, it has "
        f"{', '.join(map(str, allowed))}"
    )
    asked = quantizer.dtype
    integers = [dtype for dtype in allowed if isinstance(dtype, QuantDType)]
    narrower = [dtype for dtype in integers if isinstance(asked, QuantDType) and dtype.bits < asked.bits]
    if not narrower or part in plan.requests[op.name].frozen:
        yield f"{what} (for {op.name!r})"
    else:
        _fall_back(plan, op, part, max(narrower, key=lambda dtype: dtype.bits), what)


def _hold_output(plan: Plan, op: Op) -> Iterator[str]:
    """The output's dtype against what the chip computes from these inputs."""
    march, output = plan.graph.march, plan.qconfigs[op.name].output
    dtypes = [dtype for dtype in plan.input_dtypes(op) if isinstance(dtype, QuantDType)]
    if not dtypes or output is None or op.kind is OpKind.QUANT or not isinstance(output.dtype, QuantDType):
        return
    narrowest = min(dtypes, key=lambda dtype: dtype.bits)
    possible = march.spec.rule(op.kind).outputs.get(narrowest, ())
    if output.dtype in possible or not possible:
        return
    what = f"{march.value} computes {op.spoken} from {narrowest} to {', '.join(map(str, possible))} only"
    if "output" in plan.requests[op.name].frozen:
        yield f"{what}, but {output.dtype} was asked (for {op.name!r})"
    _fall_back(plan, op, "output", possible[-1], what)  # for an error too: what reads it may be impossible then


def _fall_back(plan: Plan, op: Op, part: str, dtype: QuantDType, why: str) -> None:
    qconfig, asked = plan.qconfigs[op.name], getattr(plan.requests[op.name].qconfig, part)
    quantizer: FakeQuantizeSpec = getattr(qconfig, part)
    if asked is not None and asked.dtype == dtype:  # it was adjusted for its readers: they requantize instead
        plan.qconfigs[op.name] = qconfig.replace(**{part: asked})
        plan.changes = [change for change in plan.changes if (change.name, change.part) != (op.name, part)]
        return
    given = quantizer.replace(dtype=dtype)
    scale = quantizer.kwargs.get("scale")
    if isinstance(scale, float) and isinstance(quantizer.dtype, QuantDType):  # a threshold: the range stays
        given = given.replace(scale=scale * quantizer.dtype.qmin / dtype.qmin)
    plan.qconfigs[op.name] = qconfig.replace(**{part: given})
    plan.note(Change(op.name, part, str(quantizer.dtype), str(dtype), why, fallback=True))
    plan.messages.append((op.name, f"{why}: {quantizer.dtype} became {dtype}"))


def _note_requantized(plan: Plan, op: Op) -> None:
    """Operands that change their grid at the op's own door."""
    for call in op.calls:
        for index, operand in enumerate(call.operands):
            arriving, source = plan.dtype(operand.value), plan.graph.grid_of(operand.value)
            door = plan.door(op, call, operand)
            if door is None or source is None or not isinstance(arriving, QuantDType):
                continue
            why = f"asked for this op; {source.name!r} gives {arriving}, and an op between requantizes"
            plan.note(Change(op.name, f"input {index}", str(arriving), str(door.dtype), why, fallback=False))


def _cast_operands(plan: Plan, op: Op) -> None:
    """Operands of an addition come in one dtype. The cast keeps the scale, so it changes no number."""
    march, entry = plan.graph.march, op.first.entry
    if len(op.chain) > 1 or entry is None or entry.name not in march.spec.equal_operands:
        return  # inside a fused op the accumulator takes either
    for call in op.calls:
        dtypes = plan.input_dtypes(op, call)
        widest = max((d for d in dtypes if isinstance(d, QuantDType)), key=lambda d: d.bits, default=None)
        for index, dtype in enumerate(dtypes):
            if isinstance(dtype, QuantDType) and dtype != widest:
                why = f"{march.value} takes operands of one dtype here; the scale stays, and with it every number"
                plan.note(Change(op.name, f"input {index}", str(dtype), str(widest), why, fallback=False))
