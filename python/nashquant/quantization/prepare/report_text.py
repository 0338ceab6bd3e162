"""The report as plain text: a summary, then the sections of the vendor's model_check_result.txt in its order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from nashquant.dtype import DType, QuantDType, qint4, qint8, qint16

from .plan import show_dtypes

if TYPE_CHECKING:
    from .report import ModelCheckResult, WeightRow

__all__ = ["short", "shortened", "text", "title"]

_LAYER_HEADERS = ["Module Name", "Module Type", "Input dtype", "out dtype", "ch_axis", "observer"]
_WEIGHT_HEADERS = ["Module Name", "Module Type", "weight dtype", "ch_axis", "observer"]


def text(result: ModelCheckResult) -> str:
    """The whole file."""
    return "\n\n".join(_sections(result)) + "\n"


def title(result: ModelCheckResult) -> str:
    """Which model, for which chip."""
    norms = "kept and trained" if result.qat_mode == "with_bn" else "folded"
    return f"{result.model} for {result.march}, batch norms {norms}"


def shortened(names: Sequence[str], width: int = 88) -> str:
    """As many names as fit, and how many more there are."""
    shown: list[str] = []
    for name in names:
        if shown and len(", ".join([*shown, name])) > width:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(name)
    return ", ".join(shown)


def _sections(result: ModelCheckResult) -> Iterable[str]:
    lines = [f"  {what:<15}{len(names):>5}  {shortened(names)}".rstrip() for what, names in result.summary().items()]
    yield "\n".join([title(result), *lines])
    if result.fusable:
        yield f"Fusable modules are listed below:\n{_table(['name', 'type'], result.fusable)}"
    else:
        yield "All fusable modules are fused in model!"
    if result.called_times:
        yield f"Each module called times:\n{_table(['name', 'called times'], result.called_times)}"
    else:
        yield "All modules in the model run exactly once."
    yield f"input dtype statistics:\n{_statistics_table(result.input_statistics())}"
    yield f"output dtype statistics:\n{_statistics_table(result.output_statistics())}"
    yield "Each layer out qconfig:\n" + _table(_LAYER_HEADERS, _layer_cells(result))
    yield "Weight qconfig:\n" + _table(_WEIGHT_HEADERS, _weight_cells(result))
    if result.messages:
        headers = ["Module Name", "Module Type", "Msg"]
        yield f"Please check if these OPs qconfigs are expected..\n{_table(headers, result.messages)}"
    if result.changes:
        yield "Changed by prepare, see qconfig_changelogs.txt:\n" + "\n".join(map(str, result.changes))
    if result.float_ops:
        table = _table(["name", "called times"], result.float_ops)
        yield f"These ops are not known and stay in floating point:\n{table}"
    mixed = [line for row in result.weights for line in _mixed(result, row)]
    if mixed:
        yield "Mixed precision (input*weight):\n" + "\n".join(mixed)


def _layer_cells(result: ModelCheckResult) -> list[tuple[str, ...]]:
    return [
        (
            row.name,
            row.module_type,
            show_dtypes(row.input_dtypes),
            show_dtypes([row.output_dtype]),
            "qconfig = None" if row.observer is None else str(row.ch_axis),
            row.observer or "",
        )
        for row in result.layers
    ]


def _weight_cells(result: ModelCheckResult) -> list[tuple[str, ...]]:
    return [
        (
            row.name,
            row.module_type,
            str(row.dtype),
            "qconfig = None" if row.observer is None else str(row.ch_axis),
            row.observer or "",
        )
        for row in result.weights
    ]


def _mixed(result: ModelCheckResult, weight: WeightRow) -> Iterable[str]:
    for row in result.layers:
        if row.name == weight.name and row.input_dtypes and row.input_dtypes[0] != weight.dtype:
            yield f"{row.name:<16}{short(row.input_dtypes[0])}*{short(weight.dtype)}"


def _statistics_table(statistics: dict[str, Counter[DType]]) -> str:
    known: list[DType] = [torch.float32, qint8, qint16]
    known += [dtype for dtype in (qint4, torch.float16) if any(counts[dtype] for counts in statistics.values())]
    rows = [(name, *(counts[dtype] for dtype in known)) for name, counts in statistics.items()]
    total = ("total", *(sum(counts[dtype] for counts in statistics.values()) for dtype in known))
    return _table(["module type", *map(str, known)], [*rows, total])


def _table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    from tabulate import tabulate

    return tabulate([list(map(str, row)) for row in rows], headers, tablefmt="psql", disable_numparse=True)


def short(dtype: DType) -> str:
    """ "int8", "float32"."""
    return f"int{dtype.bits}" if isinstance(dtype, QuantDType) else str(dtype).removeprefix("torch.")
