"""What a person checks after prepare: which op got which dtype. As an object, and as the text of the vendor's file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nashquant.dtype import QuantDType, qint4, qint8, qint16
from nashquant.op_kind import OpKind

from .assign import DType, Plan, show_dtypes
from .fuse import fusable_but_shared
from .graph import Node, Op
from .registry import module_entry

__all__ = ["LayerRow", "ModelCheckResult", "WeightRow", "check_result"]


@dataclass(frozen=True)
class LayerRow:
    """One call of one op: what goes in, what comes out.

    Attributes:
        name: as in the table: "conv1", "dequant(1)" for a second call, "add2[add]" for a FloatFunctional.
        module_type: "Conv2d", "ConvAddReLU2d", ...
        observer: "MSEObserver(averaging_constant=0.01)"; None where nothing is quantized.
    """

    name: str
    module_type: str
    input_dtypes: tuple[DType, ...]
    output_dtype: DType
    ch_axis: int | None
    observer: str | None


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
    """What `prepare` decided. `str()` gives the text of model_check_result.txt.

    Attributes:
        fusable: `(name, type)` of modules that could have been fused but run more than once.
        called_times: `(name, times)` of modules that did not run exactly once.
        layers: the ops in the order they ran.
        weights: the ops that have a weight.
        messages: `(name, type, message)`: what to look at.
        float_ops: `(name, times)` of ops between the stubs that nashquant does not know; they stay float.
    """

    fusable: tuple[tuple[str, str], ...]
    called_times: tuple[tuple[str, int], ...]
    layers: tuple[LayerRow, ...]
    weights: tuple[WeightRow, ...]
    messages: tuple[tuple[str, str, str], ...]
    float_ops: tuple[tuple[str, int], ...]

    def input_statistics(self) -> dict[str, Counter[DType]]:
        """Module type -> how many calls take which dtype; a call whose operands agree counts once."""
        return _statistics((row.module_type, tuple(dict.fromkeys(row.input_dtypes))) for row in self.layers)

    def output_statistics(self) -> dict[str, Counter[DType]]:
        """Module type -> how many calls give which dtype."""
        return _statistics((row.module_type, (row.output_dtype,)) for row in self.layers)

    def __str__(self) -> str:
        return "\n\n".join(self._sections()) + "\n"

    def save(self, path: str | Path) -> None:
        """Writes the text to a file; makes its folder where missing."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(str(self), encoding="utf-8")

    def _sections(self) -> Iterable[str]:
        if self.fusable:
            yield f"Fusable modules are listed below:\n{_table(['name', 'type'], self.fusable)}"
        else:
            yield "All fusable modules are fused in model!"
        if self.called_times:
            yield f"Each module called times:\n{_table(['name', 'called times'], self.called_times)}"
        else:
            yield "All modules in the model run exactly once."
        yield f"input dtype statistics:\n{_statistics_table(self.input_statistics())}"
        yield f"output dtype statistics:\n{_statistics_table(self.output_statistics())}"
        headers = ["Module Name", "Module Type", "Input dtype", "out dtype", "ch_axis", "observer"]
        yield "Each layer out qconfig:\n" + _table(
            headers,
            [
                (
                    row.name,
                    row.module_type,
                    show_dtypes(row.input_dtypes),
                    show_dtypes([row.output_dtype]),
                    "qconfig = None" if row.observer is None else row.ch_axis,
                    row.observer or "",
                )
                for row in self.layers
            ],
        )
        headers = ["Module Name", "Module Type", "weight dtype", "ch_axis", "observer"]
        yield "Weight qconfig:\n" + _table(
            headers,
            [
                (
                    row.name,
                    row.module_type,
                    row.dtype,
                    "qconfig = None" if row.observer is None else row.ch_axis,
                    row.observer or "",
                )
                for row in self.weights
            ],
        )
        if self.messages:
            headers = ["Module Name", "Module Type", "Msg"]
            yield f"Please check if these OPs qconfigs are expected..\n{_table(headers, self.messages)}"
        if self.float_ops:
            yield (
                "These ops are not known and stay in floating point:\n"
                + _table(["name", "called times"], self.float_ops)
            )
        mixed = [line for row in self.weights for line in self._mixed(row)]
        if mixed:
            yield "Mixed precision (input*weight):\n" + "\n".join(mixed)

    def _mixed(self, weight: WeightRow) -> Iterable[str]:
        for row in self.layers:
            if row.name == weight.name and row.input_dtypes and row.input_dtypes[0] != weight.dtype:
                yield f"{row.name:<16}{_short(row.input_dtypes[0])}*{_short(weight.dtype)}"


def check_result(model: nn.Module, plan: Plan, calls: Counter[str]) -> ModelCheckResult:
    """The report of a plan for the float `model`, whose modules ran as often as `calls` says."""
    graph = plan.graph
    layers, weights = [], []
    seen: Counter[str] = Counter()
    for op, call in _calls(plan):
        name = f"{op.name}({seen[op.name]})" if seen[op.name] else op.name
        seen[op.name] += 1
        if call.label == "FloatFunctional":
            name += f"[{call.place}]"
        qconfig = plan.qconfigs.get(op.name)
        output = None if qconfig is None else qconfig.output
        layers.append(
            LayerRow(
                name,
                op.type_name,
                tuple(plan.input_dtypes(op, call)),
                plan.output_dtype(op),
                None if output is None else output.kwargs.get("ch_axis", -1),
                None if output is None else _observer(output),
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
    unknown = Counter(f"{node.path}[{node.label}]".removeprefix(".") for node in graph.nodes if node.entry is None)
    return ModelCheckResult(
        fusable=tuple(fusable_but_shared(graph.nodes, graph)),
        called_times=tuple(_called_times(model, calls)),
        layers=tuple(layers),
        weights=tuple(weights),
        messages=tuple((name, types.get(name, ""), message) for name, message in plan.messages),
        float_ops=tuple(unknown.items()),
    )


def _calls(plan: Plan) -> Iterable[tuple[Op, Node]]:
    """The ops that a table lists, once for each call, in the order they ran."""
    for node in plan.graph.nodes:
        if node.entry is None:
            continue
        op = plan.graph.op_of(node)
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


def _statistics_table(statistics: dict[str, Counter[DType]]) -> str:
    known: list[DType] = [torch.float32, qint8, qint16]
    known += [dtype for dtype in (qint4,) if any(counts[dtype] for counts in statistics.values())]
    rows = [(name, *(counts[dtype] for dtype in known)) for name, counts in statistics.items()]
    total = ("total", *(sum(counts[dtype] for counts in statistics.values()) for dtype in known))
    return _table(["module type", *map(str, known)], [*rows, total])


def _table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    from tabulate import tabulate

    return tabulate([list(map(str, row)) for row in rows], headers, tablefmt="psql", disable_numparse=True)


def _observer(spec: Any) -> str:
    shown = ", ".join(
        f"{name}={value}"
        for name, value in {"averaging_constant": 0.01, **spec.kwargs}.items()
        if name not in ("dtype", "qscheme", "ch_axis") and not (name == "averaging_constant" and "scale" in spec.kwargs)
    )
    return f"{spec.observer.__name__}({shown})"


def _short(dtype: DType) -> str:
    return f"int{dtype.bits}" if isinstance(dtype, QuantDType) else str(dtype).removeprefix("torch.")
