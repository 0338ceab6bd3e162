"""`nashquant inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from nashquant import nash, qdq

from .outputs import check_folders

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["inspect"]


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL.ONNX", help="A QDQ ONNX file, ours or another's.")],
    scales: Annotated[bool, typer.Option("--scales", help="List every quantizer with its dtype and scale.")] = False,
    integer: Annotated[bool, typer.Option("--integer", help="Show each step of the integer model.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Also draw the graph (.svg, .png).")] = None,
) -> None:
    """Show what a QDQ ONNX file consists of: operators, dtypes, scales, what stays in floating point."""
    check_folders(picture)
    if picture is not None:
        qdq.check_picture(picture)
    console = Console(highlight=False, markup=False)
    read = qdq.read(model)
    found = qdq.summary(read)
    opset = read.opset_imports.get("")
    console.print(f"{model.name}: {len(read.graph)} nodes, opset {opset}, {_made_by(read)}")
    for side, values in (("takes", read.graph.inputs), ("gives", read.graph.outputs)):
        console.print(f"{side} {', '.join(map(_shown, values))}")
    console.print(_ops(found))
    console.print(_dtypes(found) if found.grids else "no quantizers: this is a model in floating point")
    if scales:
        console.print(_scales(found))
    console.print(f"{found.coverage:.1%} of the operators compute between grids or give high precision")
    if found.floating:
        console.print(f"in floating point: {', '.join(found.floating)}")
    report = nash.convert(model).report
    console.print(f"the integer model: {report.summary}")
    if integer:
        console.print(str(report), soft_wrap=True)
    if picture is not None:
        console.print(f"wrote {qdq.draw(read, picture)}")


def _shown(value: ir.Value) -> str:
    shape = ", ".join(map(str, value.shape)) if value.shape is not None else "?"
    return f"{value.name}: {value.dtype.name.lower() if value.dtype else '?'}[{shape}]"


def _made_by(model: ir.Model) -> str:
    maker = f"{model.producer_name or 'unknown'} {model.producer_version or ''}"
    march = model.metadata_props.get("nashquant.march")
    return f"made by {maker.strip()}" + (f" for {march}" if march else "")


def _ops(found: qdq.Summary) -> Table:
    table = Table("operator", title="Operators", title_justify="left")
    for head in ("quantized", "high precision", "float"):
        table.add_column(head, justify="right")
    table.add_column("reads")
    for row in found.ops:
        counts = (row.quantized, row.high_precision, row.floating)
        reads = ", ".join(f"{dtype} ({count})" for dtype, count in row.dtypes.items())
        table.add_row(row.op_type, *(str(count) if count else "" for count in counts), reads)
    return table


def _dtypes(found: qdq.Summary) -> Table:
    table = Table("dtype", title="Quantizers", title_justify="left")
    table.add_column("activations", justify="right")
    table.add_column("weights", justify="right")
    table.add_column("smallest scale", justify="right")
    table.add_column("largest scale", justify="right")
    for dtype in sorted({grid.dtype for grid in found.grids}):
        those = [grid for grid in found.grids if grid.dtype == dtype]
        weights = sum(grid.weight for grid in those)
        smallest, largest = min(grid.scale.min() for grid in those), max(grid.scale.max() for grid in those)
        table.add_row(dtype, str(len(those) - weights), str(weights), f"{smallest:.4g}", f"{largest:.4g}")
    return table


def _scales(found: qdq.Summary) -> Table:
    table = Table("quantizer", "of", "dtype", "scale", title="Scales", title_justify="left")
    for grid in found.grids:
        dtype, _, scale = str(grid).partition(" · ")
        table.add_row(grid.name, "weight" if grid.weight else "activation", dtype, scale)
    return table
