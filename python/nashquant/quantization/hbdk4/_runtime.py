"""ONNX Runtime on the CPU, as it computes our files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ._place import require


def run(
    model: bytes | Path,
    names: Sequence[str] | None,
    inputs: Mapping[str, Tensor],
    *,
    folder: Path,
    optimized: bool = False,
) -> dict[str, Tensor]:
    """What ONNX Runtime computes for the outputs called `names` (None: all), node by node or `optimized`.

    Optimized with int8 left as int8: by default, ONNX Runtime makes uint8 of it on x86, and its kernels for uint8 times
    int8 saturate on CPUs without VNNI.

    Args:
        model: a file, or what would be in one.
        folder: where weights are that are kept in a file of their own.

    Raises:
        FileNotFoundError: the file is no longer there.
    """
    if isinstance(model, Path) and not model.exists():
        raise FileNotFoundError(f"there is no file {str(model)!r}")
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    if isinstance(model, bytes):
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    options.intra_op_num_threads = torch.get_num_threads()
    content = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in inputs.items()}
    names = [value.name for value in session.get_outputs()] if names is None else list(names)
    found = session.run(names, arrays)
    return {name: torch.from_numpy(array.copy()) for name, array in zip(names, found, strict=True)}


def run_file(
    path: str | os.PathLike[str], inputs: Mapping[str, Tensor], *, optimized: bool = False
) -> dict[str, Tensor]:
    """What ONNX Runtime computes for all outputs of the file `path`, by name.

    Raises:
        ImportError: onnxruntime is missing.
        RuntimeError: ONNX Runtime can't load or run it.
    """
    require("onnxruntime")
    file = Path(path)
    try:
        return run(file, None, inputs, folder=file.parent, optimized=optimized)
    except Exception as error:
        raise RuntimeError(f"ONNX Runtime does not run {str(file)!r}: {error}") from error
