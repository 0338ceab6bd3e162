"""From a graph in memory to a file that is whole, checked and in its place, or to no file at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir

# Protocol buffers end at 2 GiB; a model near it keeps its weights in a file beside it, `<name>.data`.
LARGEST_IN_ONE_FILE = 2**31 - 2**24


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A file to write in a folder of its own beside `path`; moved to `path` if all went well, else gone."""
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        file = folder / path.name
        yield file
        # The data first: who finds the model finds its weights.
        for written in (_data(file), file):
            if written.exists():
                os.replace(written, path.parent / written.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write(model: ir.Model, file: Path) -> None:
    """Writes `model` to `file`; its weights beside it where they are too many for one file."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if size > LARGEST_IN_ONE_FILE:
        ir.save(model, file, external_data=_data(file).name)
    else:
        ir.save(model, file)


def check(file: Path) -> None:
    """Nothing, if ONNX's own checker, with shape inference, has nothing against `file`."""
    onnx.checker.check_model(str(file), full_check=True)


def _data(file: Path) -> Path:
    return file.with_name(f"{file.name}.data")
