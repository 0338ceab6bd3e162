"""What prepare leaves on disk for a person, and for another run."""

from __future__ import annotations

import pprint
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nashquant.op_kind import OpKind

from .fx_graph import graph_text
from .plan import Change, Plan
from .report import ModelCheckResult

__all__ = ["changelog_text", "dtypes_by_name", "write_dtypes", "write_report"]


def write_report(folder: Path, result: ModelCheckResult) -> None:
    """model_check_result.txt and fx_graph.txt."""
    result.save(folder / "model_check_result.txt")
    (folder / "fx_graph.txt").write_text(graph_text(result.graph), encoding="utf-8")


def write_dtypes(folder: Path, plan: Plan) -> None:
    """qconfig_changelogs.txt, and the dtypes of all ops as qconfig_dtypes.pt and, to be read, qconfig_dtypes.pt.py."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "qconfig_changelogs.txt").write_text(changelog_text(plan.changes), encoding="utf-8")
    dtypes = dtypes_by_name(plan)
    torch.save(dtypes, folder / "qconfig_dtypes.pt")
    source = f"# What each op takes and gives; ModuleNameTemplate takes it.\nqconfig_dtypes = {_pretty(dtypes)}\n"
    (folder / "qconfig_dtypes.pt.py").write_text(source, encoding="utf-8")


def changelog_text(changes: Sequence[Change]) -> str:
    """One line for each change, with its reason."""
    if not changes:
        return "prepare changed nothing of what was asked.\n"
    fallbacks = sum(change.fallback for change in changes)
    head = f"{len(changes)} change(s) by prepare, {fallbacks} of them fallbacks: the march has not what was asked."
    return "\n".join([head, *map(str, changes)]) + "\n"


def dtypes_by_name(plan: Plan) -> dict[str, dict[str, Any]]:
    """Op name -> {"input": [...], "weight": ..., "output": ...}, dtypes by name, so that any reader can load it.

    "torch.float32" stands for what is not quantized; parts that an op has not are left out.
    """
    table: dict[str, dict[str, Any]] = {}
    for op in plan.graph.ops:
        if not plan.is_quantized(op):
            continue
        qconfig = plan.qconfigs[op.name]
        parts = table[op.name] = {}
        if op.kind is not OpKind.QUANT:
            parts["input"] = [str(dtype) for dtype in plan.input_dtypes(op)]
        if op.kind is OpKind.GEMM:
            parts["weight"] = "torch.float32" if qconfig.weight is None else str(qconfig.weight.dtype)
        parts["output"] = str(plan.output_dtype(op))
    return table


def _pretty(dtypes: dict[str, dict[str, Any]]) -> str:
    return pprint.pformat(dtypes, width=110, sort_dicts=False)
