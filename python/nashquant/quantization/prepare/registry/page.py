"""docs/operators.md: the op registry and the rules of the marches, as a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nashquant.march import March
from nashquant.op_kind import OpKind

from .entry import OpEntry
from .lookup import ENTRIES
from .missing import MISSING

__all__ = ["page"]

_HEAD = """\
# Operators

What `prepare` knows between QuantStub and DeQuantStub. This page is made from the op registry
(`python -m nashquant.quantization.prepare.registry > docs/operators.md`), and a test holds the two together.

An op is known by its torch function in every spelling (function, method, in place, operator), by its module, or by
both. A subclass of a module is your code: its forward is entered, and the calls in it are seen one by one.
"""

_EXPORT = {
    OpKind.QUANT: "QuantizeLinear, DequantizeLinear",
    OpKind.DEQUANT: "nothing",
    OpKind.GEMM: "DequantizeLinear of the integer weight, the operator, then the output's pair",
    OpKind.EMBEDDING: "DequantizeLinear of the integer table, Gather",
    OpKind.RESAMPLE: "the operator, then the pair of its input's grid",
    OpKind.PASS: "the operator; behind the common moves, the pair of its input's grid",
    OpKind.COMPARE: "the operator",
    OpKind.CONSTANT: "a constant",
    OpKind.SPELLED: "its parts",
}
_PAIR = "the operator, then the output's pair"

_OPERATORS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "matmul": "@",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "and": "&",
    "or": "|",
    "xor": "^",
    "invert": "~",
    "neg": "-x",
    "abs": "abs(x)",
    "getitem": "x[i]",
}


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join(_sections())


def _sections() -> Iterator[str]:
    yield _HEAD
    yield "## What each march allows\n"
    yield _table(
        ("march", "activations", "weights", "high precision output", "input of a conv fused with add"), _marches()
    )
    yield "## Kinds of op\n"
    yield "An export writes QuantizeLinear and DequantizeLinear, here called a pair, for each quantizer.\n"
    yield _table(("kind", "what the chip does", "input → output", "export"), _kinds())
    for kind in OpKind:
        yield f"## {kind.value}\n"
        yield kind.meaning + "\n"
        yield _table(("op", "functions", "modules", "remarks"), (_row(e) for e in ENTRIES if e.kind is kind))
    yield "## Not known\n"
    yield (
        "Whatever is not on this page stays in floating point. `prepare` says so in a warning with file and line\n"
        "(`nashquant does not know 1 op(s) between QuantStub and DeQuantStub; they stay in floating point: ...`),\n"
        "and in model_check_result.txt. Some that people ask for:\n"
    )
    yield _table(("call", "instead"), ((f"`{name}`", hint) for name, hint in MISSING.items()))


def _marches() -> Iterator[tuple[str, ...]]:
    for march in March:
        spec = march.spec
        yield (march.value, _listed(spec.activations), _listed(spec.weights), spec.accumulator, _listed(spec.sum_in))


def _kinds() -> Iterator[tuple[str, ...]]:
    for kind in OpKind:
        yield (kind.value, kind.meaning, _dtypes(kind), _EXPORT.get(kind, _PAIR))


def _dtypes(kind: OpKind) -> str:
    """What the output may be for each input, for all marches that agree."""
    if kind is OpKind.QUANT:
        return "float → int8, int16"
    if kind is OpKind.DEQUANT:
        return "any → float"
    if not kind.makes_grid:
        return {OpKind.COMPARE: "any → bool or integer", OpKind.SPELLED: "see its parts"}.get(kind, "as its input")
    marches: dict[str, list[str]] = {}
    for march in March:
        outputs = march.spec.rule(kind).outputs
        rule = "; ".join(f"{_listed([given])} → {_listed(possible)}" for given, possible in outputs.items())
        marches.setdefault(rule, []).append(march.value)
    if len(marches) == 1:
        return next(iter(marches))
    return "; ".join(f"{', '.join(names)}: {rule}" for rule, names in marches.items())


def _row(entry: OpEntry) -> tuple[str, ...]:
    remarks = [part.value for part in entry.joins]
    if entry.norm is not None:
        remarks.append(f"{entry.norm.__name__} folds into its weight")
    if entry.with_tensor is not None:
        remarks.append(f"between two tensors it is {entry.with_tensor}")
    if entry.coordinates:
        remarks.append(f"its {entry.coordinates[-1]} is int16 by default")
    if entry.note:
        remarks.append(entry.note)
    if entry.no_onnx:
        remarks.append(f"can't be exported: {entry.no_onnx}")
    modules = ", ".join(f"`{cls.__name__}`" for cls in entry.modules)
    return (entry.name, ", ".join(f"`{word}`" for word in _functions(entry)), modules, "; ".join(remarks))


def _functions(entry: OpEntry) -> Iterator[str]:
    """How the op is written: the first home of each name, its methods, its operator."""
    for name in (entry.name, *entry.aliases):
        homes = {"torch": torch, "F": F, "torch.linalg": torch.linalg, "torch.special": torch.special}
        yield from [f"{prefix}.{name}" for prefix, home in homes.items() if callable(getattr(home, name, None))][:1]
        if hasattr(Tensor, name):
            yield f".{name}"
        if hasattr(Tensor, f"{name}_"):
            yield f".{name}_"
        if name in _OPERATORS and hasattr(Tensor, f"__{name}__"):
            yield _OPERATORS[name].replace("|", "\\|")


def _listed(dtypes: Iterable[Any]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.").removeprefix("q") for dtype in dtypes)


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
