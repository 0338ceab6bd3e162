"""Tensors of ONNX as tensors of torch, and back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

__all__ = ["attribute", "to_numpy", "to_torch"]

_WIDER = {
    "uint16": np.int32,
    "uint32": np.int64,
    "int4": np.int8,
    "uint4": np.uint8,
    "bfloat16": np.float32,
    **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), np.float32),
}


def to_torch(array: np.ndarray | np.generic) -> Tensor:
    """The same values; of types torch can't compute with, in the next wider one."""
    array = np.asarray(array)
    wider = _WIDER.get(array.dtype.name)
    return torch.from_numpy(np.array(array if wider is None else array.astype(wider), order="C"))


def to_numpy(x: Tensor, dtype: ir.DataType | None) -> np.ndarray:
    """The same values, as the graph's `dtype` where one is known."""
    array = x.detach().cpu().numpy()
    return array if dtype is None or dtype.numpy() == array.dtype else array.astype(dtype.numpy())


def attribute(node: ir.Node, name: str, default: object = None) -> object:
    """The value of an attribute, or `default`."""
    found = node.attributes.get(name)
    return default if found is None or found.value is None else found.value
