"""Reading an ONNX file."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["read"]


def read(path: str | os.PathLike[str]) -> ir.Model:
    """The model in the ONNX file `path`. Initializers that older files list among the inputs too are no inputs.

    Raises:
        ImportError: onnx-ir is missing.
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        ValueError: it is no ONNX file.
    """
    if importlib.util.find_spec("onnx_ir") is None:
        raise ImportError("reading an ONNX file needs onnx-ir: pip install nashquant[export]")
    import onnx_ir as ir
    import onnx_ir.passes.common as passes

    if Path(path).is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder, not an ONNX file")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    try:
        model = ir.load(path)
    except Exception as error:
        raise ValueError(f"{str(path)!r} is not an ONNX file: {error}") from error
    if not model.opset_imports:
        raise ValueError(f"{str(path)!r} is not an ONNX file: it names no operator set")
    passes.RemoveInitializersFromInputsPass()(model)
    passes.LiftConstantsToInitializersPass()(model)
    return model
