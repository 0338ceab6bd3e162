"""`nashquant export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nashquant import qdq, set_march
from nashquant.quantization import hbdk4

from .outputs import check_folders
from .source import prepared_model

__all__ = ["export"]


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="A function without arguments that gives (model, example_inputs): what prepare gave, calibrated or "
            "trained, in VALIDATION. As module:function, or path/to/script.py:function.",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; else <class of the model>.onnx.")] = None,
    march: Annotated[str | None, typer.Option(help="The chip, such as nash-m; else what the function sets.")] = None,
    name: Annotated[str, typer.Option(help="The name of the graph.")] = "forward",
    dynamic_batch: Annotated[bool, typer.Option("--dynamic-batch", help="Leave the first axis open.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Show how far ONNX Runtime is, layer by layer.")] = False,
    plain: Annotated[Path | None, typer.Option(help="Also write the float model without quantizers (.onnx).")] = None,
    encodings: Annotated[Path | None, typer.Option(help="Also write AIMET encodings (.json) for --plain.")] = None,
    quant_config: Annotated[Path | None, typer.Option(help="Also write dtypes per node (.json) for --plain.")] = None,
    integers: Annotated[Path | None, typer.Option(help="Also write integer weights (.safetensors, .pt).")] = None,
    picture: Annotated[Path | None, typer.Option(help="Also draw the graph (.svg, .png).")] = None,
) -> None:
    """Write a prepared model as a QDQ ONNX file, compared with the model in ONNX Runtime."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    check_folders(out, plain, encodings, quant_config, integers, picture)
    if picture is not None:
        qdq.check_picture(picture)
    if march is not None:
        set_march(march)
    model, inputs = prepared_model(source)
    exported = hbdk4.export(model, inputs, name, path=out, dynamic_batch=dynamic_batch)
    console.print(str(exported))
    if layers and exported.agreement is not None:
        console.print(str(exported.agreement))
    for path, save in (
        (plain, exported.save_plain),
        (encodings, exported.save_encodings),
        (quant_config, exported.save_quant_config),
        (integers, exported.save_integers),
        (picture, exported.draw),
    ):
        if path is not None:
            console.print(f"wrote {save(path)}")
