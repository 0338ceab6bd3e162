"""What a person checks after prepare: which op got which dtype, and what did not go as one might think."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nashquant.dtype import DType, QuantDType
from nashquant.op_kind import OpKind
from nashquant.qat_mode import QATMode
from nashquant.quantization.fake_quantize import FakeQuantize, FakeQuantizeSpec
from nashquant.quantization.observer import accepted_arguments

from . import report_text
from .fuse import fusable_but_shared
from .fx_graph import GraphRow, graph_rows
from .graph import Node, Op
from .plan import Change, Plan
from .registry import module_entry

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["LayerRow", "ModelCheckResult", "WeightRow", "check_result"]


@dataclass(frozen=True)
class LayerRow:
    """One call of one op: what goes in, what comes out.

    Attributes:
        name: as in the table: "conv1", "dequant(1)" for a second call, "add2[add]" for a FloatFunctional.
        module_type: "Conv2d", "ConvAddReLU2d", ...
        observer: "MSEObserver(averaging_constant=0.01)"; None where nothing is quantized.
        precision: in which it computes: "int8", "int16", "float16", "high precision" (a GEMM's accumulator), "float",
            "unsupported" (float, since nashquant does not know it); "" for a DeQuantStub, which computes nothing.
    """

    name: str
    module_type: str
    input_dtypes: tuple[DType, ...]
    output_dtype: DType
    ch_axis: int | None
    observer: str | None
    precision: str


@dataclass(frozen=True)
class WeightRow:
    """The weight of one op."""

    name: str
    module_type: str
    dtype: DType
    ch_axis: int | None
    observer: str | None


@dataclass(frozen=True)
class ModelCheckResult:
    """What `prepare` decided. `str()` gives the text of model_check_result.txt, `show()` prints it in colours.

    Attributes:
        model: the class of the model.
        march: "nash-m", ...
        qat_mode: "fuse_bn" or "with_bn".
        fusable: `(name, type)` of modules that could have been fused but run more than once.
        called_times: `(name, times)` of modules that did not run exactly once.
        layers: the ops in the order they ran.
        weights: the ops that have a weight.
        messages: `(name, type, message)`: what to look at.
        float_ops: `(name, times)` of ops between the stubs that nashquant does not know; they stay float.
        changes: what came out otherwise than the setters asked.
        graph: every call between the stubs, with what it reads and the line that makes it.
    """

    model: str
    march: str
    qat_mode: str
    fusable: tuple[tuple[str, str], ...]
    called_times: tuple[tuple[str, int], ...]
    layers: tuple[LayerRow, ...]
    weights: tuple[WeightRow, ...]
    messages: tuple[tuple[str, str, str], ...]
    float_ops: tuple[tuple[str, int], ...]
    changes: tuple[Change, ...]
    graph: tuple[GraphRow, ...]

    def summary(self) -> dict[str, tuple[str, ...]]:
        """What one wants to know in ten seconds -> the names it holds for."""
        by_precision: dict[str, list[str]] = {"int8": [], "int16": [], "high precision": [], "float": []}
        for row in self.layers:
            if row.precision not in ("", "unsupported"):
                by_precision.setdefault(row.precision, []).append(row.name)
        apart = [change.name for change in self.changes if change.part == "addition"]
        return {
            **{precision: tuple(names) for precision, names in by_precision.items()},
            "unsupported": tuple(name for name, _ in self.float_ops),
            "fell back": tuple(dict.fromkeys(change.name for change in self.changes if change.fallback)),
            "unfused": tuple(dict.fromkeys([*(name for name, _ in self.fusable), *apart])),
            "shared": tuple(name for name, times in self.called_times if times > 1),
            "uncalled": tuple(name for name, times in self.called_times if times == 0),
        }

    def input_statistics(self) -> dict[str, Counter[DType]]:
        """Module type -> how many calls take which dtype; a call whose operands agree counts once."""
        return _statistics((row.module_type, tuple(dict.fromkeys(row.input_dtypes))) for row in self.layers)

    def output_statistics(self) -> dict[str, Counter[DType]]:
        """Module type -> how many calls give which dtype."""
        return _statistics((row.module_type, (row.output_dtype,)) for row in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """All of it as dicts, lists, strings and numbers, with dtypes by name: ready for JSON.

        The keys are the attributes above, and "summary".
        """
        return {"summary": _plain(self.summary()), **_plain(self)}

    def __str__(self) -> str:
        return report_text.text(self)

    def __rich__(self) -> Group:
        from .report_rich import tables  # rich is an extra

        return tables(self)

    def show(self) -> None:
        """Prints coloured tables on a terminal where rich is installed, the plain text elsewhere."""
        try:
            import rich
        except ImportError:
            print(self)
        else:
            rich.print(self) if sys.stdout.isatty() else print(self)

    def save(self, path: str | Path) -> None:
        """Writes the text to a file; makes its folder where missing."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(str(self), encoding="utf-8")


def check_result(model: nn.Module, plan: Plan, calls: Counter[str], mode: QATMode) -> ModelCheckResult:
    """The report of a plan for the float `model`, whose modules ran as often as `calls` says."""
    graph = plan.graph
    layers, weights = [], []
    seen: Counter[str] = Counter()
    for op, call in _calls(plan):
        known = call.entry is not None
        path = op.name if known else _unknown_name(call)
        name = f"{path}({seen[path]})" if seen[path] else path
        seen[path] += 1
        if call.label == "FloatFunctional":
            name += f"[{call.place}]"
        qconfig = plan.qconfigs.get(op.name) if known else None
        output = None if qconfig is None else qconfig.output
        layers.append(
            LayerRow(
                name,
                op.type_name,
                tuple(plan.input_dtypes(op, call)),
                plan.output_dtype(op),
                None if output is None else output.kwargs.get("ch_axis", -1),
                None if output is None else _observer(output),
                _precision(plan, op),
            )
        )
        if op.kind is OpKind.GEMM and seen[op.name] == 1 and qconfig is not None:
            weight = qconfig.weight
            assert op.first.entry is not None
            weights.append(
                WeightRow(
                    op.name,
                    op.type_name,
                    torch.float32 if weight is None else weight.dtype,
                    None if weight is None else op.first.entry.weight_axis,
                    None if weight is None else _observer(weight),
                )
            )
    types = {op.name: op.type_name for op in graph.ops} | {op.first.path: op.type_name for op in graph.ops}
    unknown = Counter(_unknown_name(node) for node in graph.nodes if node.entry is None)
    return ModelCheckResult(
        model=type(model).__name__,
        march=graph.march.value,
        qat_mode=mode.value,
        fusable=tuple(fusable_but_shared(graph.nodes, graph)),
        called_times=tuple(_called_times(model, calls)),
        layers=tuple(layers),
        weights=tuple(weights),
        messages=tuple((name, types.get(name, ""), message) for name, message in plan.messages),
        float_ops=tuple(unknown.items()),
        changes=tuple(plan.changes),
        graph=tuple(graph_rows(plan)),
    )


def _unknown_name(call: Node) -> str:
    """`decoder[i0]`: a call without a module of its own, by its owner's path and its function."""
    return f"{call.path}[{call.label}]"


def _precision(plan: Plan, op: Op) -> str:
    dtype = plan.output_dtype(op)
    if op.kind is None:
        return "unsupported"
    if op.kind is OpKind.DEQUANT:
        return ""
    if isinstance(dtype, QuantDType):
        return f"int{dtype.bits}"
    if dtype is torch.float16:
        return "float16"
    in_accumulator = plan.is_quantized(op) and op.kind in plan.graph.march.spec.high_precision_kinds
    return "high precision" if in_accumulator else "float"


def _calls(plan: Plan) -> Iterable[tuple[Op, Node]]:
    """The ops that a table lists, once for each call, in the order they ran."""
    for node in plan.graph.nodes:
        op = plan.graph.op_of(node)
        if node.entry is None:
            yield op, node
            continue
        if node.kind is OpKind.DEQUANT and not node.region_operands:
            continue
        listed = op.makes_grid or node.kind is OpKind.DEQUANT
        if (
            listed
            and (len(op.chain) == 1 or node is op.chain[-1])
            and (op.kind is not OpKind.EMBEDDING or plan.is_quantized(op))
        ):
            yield op, node


def _called_times(model: nn.Module, calls: Counter[str]) -> Iterable[tuple[str, int]]:
    for path, module in model.named_modules():
        entry = module_entry(module)
        if entry is not None and entry.kind is not OpKind.PASS and calls[path] != 1:
            yield path, calls[path]


def _statistics(rows: Iterable[tuple[str, Sequence[DType]]]) -> dict[str, Counter[DType]]:
    table: dict[str, Counter[DType]] = {}
    for module_type, dtypes in rows:
        table.setdefault(module_type, Counter()).update(dtypes)
    return table


def _observer(spec: FakeQuantizeSpec) -> str:
    if spec.observer is None:
        return spec.fake_quantize.__name__
    known = accepted_arguments(spec.observer)
    shown = {
        name: f"{name}={value}"
        for name, value in {"averaging_constant": 0.01, **spec.kwargs}.items()
        if name not in ("dtype", "qscheme", "ch_axis") and not (name == "averaging_constant" and "scale" in spec.kwargs)
    }
    observer = f"{spec.observer.__name__}({', '.join(text for name, text in shown.items() if name in known)})"
    if spec.fake_quantize is FakeQuantize:
        return observer
    rest = [text for name, text in shown.items() if name not in known]
    return f"{spec.fake_quantize.__name__}({', '.join([observer, *rest])})"


def _plain(value: Any) -> Any:
    if isinstance(value, (QuantDType, torch.dtype)):
        return str(value)
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
