"""`nashquant run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from nashquant import nash, qdq

from .inputs import inputs_of
from .outputs import check_folders

__all__ = ["run"]


def run(
    model: Annotated[Path, typer.Argument(metavar="MODEL.ONNX", help="A QDQ ONNX file, ours or another's.")],
    given: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="[NAME=]X.NPY", help="An input; once for each. Else random ones."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the outputs here, as .npz.")] = None,
    optimized: Annotated[bool, typer.Option("--optimized", help="With ONNX Runtime's optimizations on.")] = False,
    integer: Annotated[
        bool, typer.Option("--integer", help="As the chip would: in integers; --out is of these.")
    ] = False,
    march: Annotated[str | None, typer.Option(help="The chip for --integer; else what the file says.")] = None,
) -> None:
    """Run a QDQ ONNX file in ONNX Runtime, node by node, or in integers beside it, and show its outputs."""
    from nashquant.quantization.hbdk4 import run_file

    console = Console(highlight=False, markup=False)
    if out is not None and out.suffix != ".npz":
        raise ValueError(f"--out is a .npz file, not {out.name!r}")
    check_folders(out)
    graph = qdq.read(model).graph
    inputs, random = inputs_of(graph, given or [])
    converted = nash.convert(model, march) if integer else None
    if random:
        console.print(f"random inputs (normal, seed 0): {', '.join(random)}")
    if nans := {name: n for name, x in inputs.items() if x.is_floating_point() and (n := int(x.isnan().sum()))}:
        console.print(f"NaN, for which there is no integer: {', '.join(f'{name} {n}' for name, n in nans.items())}")
    outputs = {name: y.numpy() for name, y in run_file(model, inputs, optimized=optimized).items()}
    console.print(_table("ONNX Runtime", outputs))
    if converted is not None:
        outputs, apart = _in_integers(converted, inputs, outputs)
        console.print(_table("integer model", outputs, apart))
    if out is not None:
        np.savez(out, **outputs)  # type: ignore[arg-type]  # its stub takes any name for `allow_pickle`
        console.print(f"wrote {out}")


def _in_integers(
    converted: nash.IntegerModel, inputs: dict[str, Tensor], floats: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The outputs of the integer model, and how far each is from that of ONNX Runtime."""
    Console(highlight=False, markup=False, soft_wrap=True).print(str(converted))
    for row in converted.report.floats:
        Console(highlight=False, markup=False, soft_wrap=True).print(f"as float: {row.layer}: {row.reason}")
    outputs = {name: y.numpy() for name, y in converted.by_name(inputs).items()}
    apart = [
        f"{np.abs(y.astype(np.float64) - floats[name]).max():.6g}" if y.size else "" for name, y in outputs.items()
    ]
    return outputs, apart


def _table(title: str, outputs: dict[str, np.ndarray], apart: list[str] | None = None) -> Table:
    table = Table("output", "dtype", "shape", title=title, title_justify="left")
    for head in ("least", "mean", "greatest", *(["largest difference"] if apart else [])):
        table.add_column(head, justify="right")
    for i, (name, y) in enumerate(outputs.items()):
        numbers = [f"{value:.6g}" for value in (y.min(), y.mean(), y.max())] if y.size else [""] * 3
        table.add_row(name, str(y.dtype), str(list(y.shape)), *numbers, *([apart[i]] if apart else []))
    return table
