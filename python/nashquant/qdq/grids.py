"""The grids of a QDQ model: each DequantizeLinear, what it reads and which integers that holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Grid", "grids"]


@dataclass(frozen=True, eq=False)
class Grid:
    """What a DequantizeLinear gives: integers times a scale.

    Attributes:
        name: the quantizer's; in files that don't say, that of what is quantized.
        dequantize: the node.
        quantize: the QuantizeLinear in front of it; None for a weight, and for integers that come from elsewhere.
        dtype: "int8", "uint8", "int16", ...
        scale: f32, 0-d or one for each channel.
        zero_point: int64, shaped as the scale.
        axis: the channels' axis; None per tensor.
    """

    name: str
    dequantize: ir.Node
    quantize: ir.Node | None
    dtype: str
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int | None

    @property
    def weight(self) -> bool:
        """Whether its integers are stored in the file."""
        stored = self.dequantize.inputs[0]
        return stored is not None and stored.const_value is not None

    @property
    def bias(self) -> bool:
        """Whether it is that of a bias: no chip's grid, it lies on the accumulator."""
        return self.dtype == "int32" and self.weight

    def same_as(self, other: Grid) -> bool:
        """Whether both hold the same integers and mean the same by them."""
        return (
            (self.dtype, self.axis) == (other.dtype, other.axis)
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def along(self, values: np.ndarray, dims: int) -> np.ndarray:
        """`values`, one for each channel, shaped to meet an array of `dims` dimensions."""
        if self.axis is None:
            return values
        shape = [1] * dims
        shape[self.axis] = -1
        return values.reshape(shape)

    def __str__(self) -> str:
        if self.scale.ndim == 0:
            return f"{self.dtype} · {float(self.scale):.4g}"
        return f"{self.dtype} · {self.scale.min():.3g}…{self.scale.max():.3g} on axis {self.axis}"


def grids(graph: ir.Graph) -> list[Grid]:
    """All grids of `graph` whose scale is stored in it, in the order of their nodes.

    Raises:
        ValueError: scales for blocks, which no other part of nashquant knows.
    """
    return [grid for node in graph if node.op_type == "DequantizeLinear" and (grid := _grid(node)) is not None]


def _grid(node: ir.Node) -> Grid | None:
    integers, scale, *more = node.inputs
    if integers is None or scale is None or scale.const_value is None:
        return None
    if "block_size" in node.attributes and node.attributes["block_size"].as_int():
        raise ValueError(f"{node.name!r} has a scale for each block, not for the tensor or a channel")
    scales = np.squeeze(scale.const_value.numpy().astype(np.float32)) if scale.const_value.size == 1 else None
    values = scale.const_value.numpy().astype(np.float32) if scales is None else scales
    stored = more[0].const_value if more and more[0] is not None else None
    zero_point = np.zeros_like(values, np.int64) if stored is None else stored.numpy().astype(np.int64)
    quantize = integers.producer()
    dtype = integers.dtype if integers.dtype is not None else stored.dtype if stored is not None else None
    if dtype is None:
        return None
    return Grid(
        name=node.metadata_props.get("nashquant.quantizer") or _name(integers, quantize),
        dequantize=node,
        quantize=quantize if quantize is not None and quantize.op_type == "QuantizeLinear" else None,
        dtype=dtype.name.lower(),
        scale=values,
        zero_point=zero_point.reshape(values.shape),
        axis=_axis(node, integers) if values.ndim else None,
    )


def _axis(node: ir.Node, integers: ir.Value) -> int:
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    return axis % len(integers.shape) if axis < 0 and integers.shape is not None else axis


def _name(integers: ir.Value, quantize: ir.Node | None) -> str:
    quantized = quantize.inputs[0] if quantize is not None and quantize.op_type == "QuantizeLinear" else integers
    return (quantized.name if quantized is not None else None) or "?"
