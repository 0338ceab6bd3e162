"""What the inputs of a graph must be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["check"]

_DTYPES = {  # by the names of ONNX; others are not checked
    "FLOAT": torch.float32,
    "DOUBLE": torch.float64,
    "FLOAT16": torch.float16,
    "BOOL": torch.bool,
    **{name.upper(): getattr(torch, name) for name in ("uint8", "int8", "int16", "int32", "int64")},
}


def check(values: Iterable[ir.Value], inputs: Mapping[str, Tensor]) -> None:
    """Nothing, if each of `inputs` has the dtype, the rank and the fixed sizes of its value, and axes of a name agree.

    Raises:
        TypeError: another dtype; it is no tensor.
        ValueError: another shape.
    """
    sizes: dict[str, tuple[str, int]] = {}
    for value in values:
        name = str(value.name)
        _check(value, inputs[name])
        for axis, size in zip(value.shape or (), inputs[name].shape, strict=False):
            if isinstance(axis, int) or axis.value is None:
                continue
            other, before = sizes.setdefault(axis.value, (name, size))
            if size != before:
                raise ValueError(
                    f"inputs {other!r} and {name!r} have sizes {before} and {size} on the axis {axis.value!r}, "
                    "but the model takes one"
                )


def _check(value: ir.Value, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"input {value.name!r} is {type(x).__name__}, expected a torch.Tensor")
    expected = None if value.dtype is None else _DTYPES.get(value.dtype.name)
    if expected not in (None, x.dtype):
        raise TypeError(f"input {value.name!r} is {x.dtype}, but the model takes {expected}")
    if value.shape is None:
        return
    takes, has = list(value.shape), list(x.shape)
    wrong = [i for i, size in enumerate(takes) if i < len(has) and isinstance(size, int) and size != has[i]]
    if len(takes) == len(has) and not wrong:
        return
    where = f"it has {len(has)} axes, expected {len(takes)}"
    if len(takes) == len(has):
        where = ", ".join(f"axis {i} is {has[i]}, expected {takes[i]}" for i in wrong)
        where += "; export with dynamic_batch=True leaves the batch open" if wrong == [0] else ""
    sizes = ", ".join("?" if size is None or str(size) == "None" else str(size) for size in takes)
    raise ValueError(f"input {value.name!r} has shape {has}, but the model takes [{sizes}]: {where}")
