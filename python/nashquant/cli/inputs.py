"""The inputs of a model from `.npy` files, or random ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["inputs_of"]


def inputs_of(graph: ir.Graph, given: Sequence[str]) -> tuple[dict[str, Tensor], list[str]]:
    """A tensor for each input of `graph`, and the names of those that were made up.

    Args:
        given: `x.npy`, in the order of the inputs, or `name=x.npy`; also an `.npz` of one array. If empty, all are
            random: normal numbers where floats are taken, else zeros; an axis that may change has one element.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        ValueError: a file holds no array; a name, dtype or shape does not fit; inputs are missing.
    """
    wanted = {value.name or "": value for value in graph.inputs}
    if not given:
        generator = torch.Generator().manual_seed(0)
        return {name: _random(value, generator) for name, value in wanted.items()}, list(wanted)
    found: dict[str, Tensor] = {}
    for text in given:
        name, equals, file = text.rpartition("=")
        if not equals:
            name = next((each for each in wanted if each not in found), "")
        if name not in wanted or name in found:
            raise ValueError(f"{text!r} is for no input that is left; the model takes {', '.join(wanted)}")
        found[name] = _checked(name, _array(Path(file)), wanted[name])
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(f"--input is missing for {', '.join(missing)}")
    return found, []


def _array(file: Path) -> np.ndarray:
    if file.is_dir():
        raise IsADirectoryError(f"{str(file)!r} is a folder, not a .npy file")
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {str(file)!r}")
    try:
        with file.open("rb") as content:
            loaded = np.load(content, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            held = loaded.files
            if len(held) == 1:
                return np.asarray(loaded[held[0]])
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{str(file)!r} is not a .npy file: {error}") from error
    raise ValueError(f"{str(file)!r} holds {len(held)} arrays ({', '.join(held) or 'none'}); give each as a .npy file")


def _checked(name: str, array: np.ndarray, value: ir.Value) -> Tensor:
    dtype = value.dtype.numpy() if value.dtype is not None else array.dtype
    if array.dtype == np.float64 and dtype == np.float32:
        array = array.astype(np.float32)
    shape = list(value.shape) if value.shape is not None else list(array.shape)
    fits = len(shape) == array.ndim and all(
        not isinstance(axis, int) or axis == size for axis, size in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        axes = ", ".join(map(str, shape))
        raise ValueError(f"input {name!r} is {array.dtype}{list(array.shape)}, but the model takes {dtype}[{axes}]")
    return torch.from_numpy(array)


def _random(value: ir.Value, generator: torch.Generator) -> Tensor:
    shape = [axis if isinstance(axis, int) else 1 for axis in value.shape or ()]
    dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
    if np.issubdtype(dtype, np.floating):
        return torch.from_numpy(torch.randn(shape, generator=generator).numpy().astype(dtype))
    return torch.from_numpy(np.zeros(shape, dtype))
