"""Outputs in high precision: what a step of their sums is."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor

from ._moves import MOVES

_AXES = {"Conv": 1, "ConvTranspose": 1, "Gemm": -1, "MatMul": -1}
_FROM_OUTPUT = (*MOVES, "Cast", "Identity")


@dataclass(frozen=True, eq=False)
class Product:
    """A conv, matrix product or linear whose sums leave the model in high precision, moved at most.

    Attributes:
        layer: its module.
        output: the index of the output.
        scale: of a step of its sums, `scale_x · scale_w`: f64, in a shape that meets the output. Where they were moved
            since, the finest step of all channels.
    """

    layer: str
    output: int
    scale: Tensor


def product_of(value: ir.Value, index: int) -> Product | None:
    """The product whose sums the output `value` holds; None if it holds something else."""
    node, moved = value.producer(), False
    while node is not None and node.op_type in _FROM_OUTPUT:
        node, moved = None if node.inputs[0] is None else node.inputs[0].producer(), True
    axis = None if node is None else _AXES.get(node.op_type)
    if node is None or axis is None or value.shape is None:
        return None
    scales = [_scale(operand) for operand in node.inputs[:2]]
    if scales[0] is None or scales[1] is None:
        return None
    scale, rank = scales[0] * scales[1], len(value.shape)
    if scale.numel() == 1:
        scale = scale.reshape(())
    elif moved:
        scale = scale.min()
    else:
        scale = scale.reshape([-1 if i == axis % rank else 1 for i in range(rank)])
    return Product(node.metadata_props.get("nashquant.module") or node.name or node.op_type, index, scale)


def _scale(value: ir.Value | None) -> Tensor | None:
    """What a DequantizeLinear multiplied with to give `value`, moved at most since; f64."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in MOVES:
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[1] is None:
        return None
    stored = node.inputs[1].const_value
    return None if stored is None else torch.from_numpy(stored.numpy()).double().reshape(-1)
