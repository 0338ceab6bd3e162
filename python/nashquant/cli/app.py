"""The commands, and how a mistake of the user is told."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer
from rich.console import Console

from nashquant import __version__

from .export import export
from .inspect import inspect
from .run import run

__all__ = ["app"]

P = ParamSpec("P")
MISTAKES = (ValueError, TypeError, RuntimeError, OSError, ImportError)  # those that nashquant raises say what to do

app = typer.Typer(
    help="Quantized models for the NASH BPU as ONNX files: write them, run them, look into them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _told(command: Callable[P, None]) -> Callable[P, None]:
    """`command`, whose mistakes end in one message and status 1, without a traceback."""

    @wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except MISTAKES as mistake:
            Console(stderr=True, highlight=False).print("[bold red]error:[/] ", end="")
            Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(str(mistake))
            raise typer.Exit(1) from mistake

    return told


for command in (export, run, inspect):
    app.command()(_told(command))


@app.callback(invoke_without_command=True)
def about(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    """What stands in front of the commands."""
    if version:
        typer.echo(f"nashquant {__version__}")
        raise typer.Exit
