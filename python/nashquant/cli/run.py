"""`nashquant run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from nashquant import qdq

from .inputs import inputs_of

__all__ = ["run"]


def run(
    model: Annotated[Path, typer.Argument(metavar="MODEL.ONNX", help="A QDQ ONNX file, ours or another's.")],
    given: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="[NAME=]X.NPY", help="An input; once for each. Else random ones."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the outputs here, as .npz.")] = None,
    optimized: Annotated[bool, typer.Option("--optimized", help="With ONNX Runtime's optimizations on.")] = False,
) -> None:
    """Run a QDQ ONNX file in ONNX Runtime, node by node, and show its outputs."""
    from nashquant.quantization.hbdk4 import run_file

    console = Console(highlight=False)
    if out is not None and out.suffix != ".npz":
        raise ValueError(f"--out is a .npz file, not {out.name!r}")
    graph = qdq.read(model).graph
    inputs, random = inputs_of(graph, given or [])
    if random:
        console.print(f"random inputs (normal, seed 0): {', '.join(random)}", markup=False)
    outputs = {name: y.numpy() for name, y in run_file(model, inputs, optimized=optimized).items()}
    console.print(_table(outputs))
    if out is not None:
        np.savez(out, **outputs)  # type: ignore[arg-type]  # its stub takes any name for `allow_pickle`
        console.print(f"wrote {out}", markup=False)


def _table(outputs: dict[str, np.ndarray]) -> Table:
    table = Table("output", "dtype", "shape")
    for head in ("least", "mean", "greatest"):
        table.add_column(head, justify="right")
    for name, y in outputs.items():
        numbers = [f"{value:.6g}" for value in (y.min(), y.mean(), y.max())] if y.size else [""] * 3
        table.add_row(name, str(y.dtype), str(list(y.shape)), *numbers)
    return table
