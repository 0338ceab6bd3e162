"""The report for a terminal, in colours. Needs rich: `pip install nashquant[report]`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nashquant.dtype import DType

from .report_text import short, shortened, title

if TYPE_CHECKING:
    from .report import ModelCheckResult

__all__ = ["tables"]

_STYLES = {
    "int4": "magenta",
    "int8": "green",
    "int16": "cyan",
    "high precision": "blue",
    "float": "yellow",
    "unsupported": "bold red",
    "fell back": "bold red",
    "unfused": "yellow",
    "shared": "yellow",
    "uncalled": "yellow",
}


def tables(result: ModelCheckResult) -> Group:
    """A row for each op in the colour of its precision, what to look at, and the summary: last, where one looks."""
    parts: list[RenderableType] = [_ops(result)]
    if result.messages:
        parts += _list("To look at", ((f"{name}: {message}", "") for name, _, message in result.messages))
    if result.changes:
        parts += _list(
            "Changed by prepare", ((str(change), "bold red" if change.fallback else "") for change in result.changes)
        )
    return Group(*parts, Text(""), _summary(result))


def _summary(result: ModelCheckResult) -> Table:
    table = Table(title=title(result), title_justify="left", box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for what, names in result.summary().items():
        style = _STYLES.get(what, "") if names else "dim"
        table.add_row(Text(what, style), Text(str(len(names)), style), Text(shortened(names)))
    return table


def _ops(result: ModelCheckResult) -> Table:
    table = Table(header_style="bold", box=None, padding=(0, 1))
    for header in ("op", "type", "input", "weight", "output", "scale from"):
        table.add_column(header, overflow="fold")
    weights = {row.name: row.dtype for row in result.weights}
    for row in result.layers:
        observer = (row.observer or "").partition("(")[0].removesuffix("Observer")
        cells = [row.name, row.module_type, _dtypes(row.input_dtypes), _dtypes([weights.get(row.name)])]
        style = _STYLES.get(row.precision, "dim")
        table.add_row(*map(Text, [*cells, row.precision or _dtypes([row.output_dtype]), observer]), style=style)
    return table


def _dtypes(dtypes: Iterable[DType | None]) -> str:
    return ", ".join(short(dtype).replace("float32", "float") for dtype in dtypes if dtype is not None)


def _list(head: str, lines: Iterable[tuple[str, str]]) -> list[RenderableType]:
    return [Text(f"\n{head}", "bold"), *(Text(f"  {line}", style) for line, style in lines)]
