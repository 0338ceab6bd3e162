"""Out of the integers: what a value means, for who reads it as the file has it."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import torch
from torch import Tensor

from ._forms import Accumulator, Grid, Root

__all__ = ["reader"]

_STORED = {"INT8": torch.int8, "UINT8": torch.uint8, "INT16": torch.int16}
_FLOATS = {"DOUBLE": torch.float64, "FLOAT16": torch.float16, "BFLOAT16": torch.bfloat16}


def reader(
    form: Grid | Accumulator | Root, dtype: ir.DataType | None, leaves: bool = False
) -> Callable[[Tensor], Tensor]:
    """What turns integers of `form` into the floats they stand for, or into the integers of the file if `dtype` is one.

    An accumulator is `acc · scale`, in f64, then f32; one that `leaves` the chip is clamped to 32 bits first.
    """
    if dtype is not None and not dtype.is_floating_point():
        stored = _STORED.get(dtype.name, torch.int32)
        offset = form.offset if isinstance(form, Grid) else 0
        return lambda q: (_clamped(q) + offset).to(stored)
    floats = torch.float32 if dtype is None else _FLOATS.get(dtype.name, torch.float32)
    if isinstance(form, Root):
        return lambda root: root.to(floats)
    if isinstance(form, Accumulator):
        accumulator = form
        limited = _clamped if leaves and not form.inner else torch.Tensor.long
        return lambda acc: (limited(acc).double() * accumulator.along(acc)).to(floats)
    zero_point, scale = form.zero_point, torch.tensor(form.scale, dtype=torch.float32)
    return lambda q: ((q.to(torch.int32) - zero_point).float() * scale).to(floats)


def _clamped(acc: Tensor) -> Tensor:
    return acc.clamp(-(2**31), 2**31 - 1) if acc.dtype == torch.int64 else acc.to(torch.int32)
