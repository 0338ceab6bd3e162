"""The Rust kernels. They take torch tensors on the CPU, dense in any order of axes, and write into tensors given.

Everything here raises, before anything is written: TypeError for what is no tensor or has another dtype than f32,
f64, bf16 or f16; ValueError for a tensor on another device, without memory, not dense, of another shape or memory
order than its partner, or overlapping what is written; ValueError for a scale or `1 / scale` that is not positive
and finite, and for integers that make no range.

The GIL is released meanwhile. Results do not depend on the number of threads or the instruction set.
"""

from typing import final

from torch import Tensor

__all__ = [
    "Mask",
    "fake_quantize_backward",
    "fake_quantize_per_channel",
    "fake_quantize_per_channel_with_mask",
    "fake_quantize_per_tensor",
    "fake_quantize_per_tensor_with_mask",
    "is_dense",
    "min_max_per_channel",
    "min_max_per_tensor",
    "mse_search_per_channel",
    "mse_search_per_tensor",
]

@final
class Mask:
    """Which elements were inside the grid before clamping: one bit each, in the memory order of `x`."""

    @property
    def shape(self) -> list[int]:
        """The shape of `x`."""
    @property
    def strides(self) -> list[int]:
        """The strides of `x`."""
    @property
    def nbytes(self) -> int:
        """An eighth of the number of elements, rounded up."""
    def fits(self, x: Tensor) -> bool:
        """Has `x` the mask's shape and memory order?"""
    def unpack(self, y: Tensor) -> None:
        """Writes the bits to the bool tensor `y`, of the mask's shape and memory order."""

def is_dense(x: Tensor) -> bool:
    """Do the elements of `x` fill their memory without gap or overlap, in whatever order of axes?"""

def fake_quantize_per_tensor(x: Tensor, y: Tensor, *, scale: float, zero_point: int, qmin: int, qmax: int) -> None:
    """Writes fake-quantized `x` to `y`."""

def fake_quantize_per_tensor_with_mask(
    x: Tensor, y: Tensor, *, scale: float, zero_point: int, qmin: int, qmax: int
) -> Mask:
    """Writes fake-quantized `x` to `y`; gives what was inside the grid."""

def fake_quantize_per_channel(
    x: Tensor, y: Tensor, *, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int
) -> None:
    """Writes fake-quantized `x` to `y`; `scale` `[C]` f32 and `zero_point` `[C]` int32 belong to `axis`.

    Raises IndexError if `x` has no such axis.
    """

def fake_quantize_per_channel_with_mask(
    x: Tensor, y: Tensor, *, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int
) -> Mask:
    """As `fake_quantize_per_channel`; gives what was inside the grid."""

def fake_quantize_backward(grad_y: Tensor, mask: Mask, grad_x: Tensor) -> None:
    """Writes `grad_y * inside` to `grad_x`; both in the mask's shape and memory order."""

def min_max_per_tensor(x: Tensor) -> tuple[float, float]:
    """The least and the greatest value, in f32; NaN in both if `x` has a NaN. Raises ValueError if `x` is empty."""

def min_max_per_channel(x: Tensor, low: Tensor, high: Tensor, *, axis: int) -> None:
    """Writes the least and the greatest value at each index of `axis` to `low` and `high`, `[C]` f32.

    Raises ValueError if a channel is empty, IndexError if `x` has no such axis.
    """

def mse_search_per_tensor(x: Tensor, *, qmin: int, qmax: int, stride: int) -> float:
    """The threshold with the least squared error. Raises ValueError if `x` is empty."""

def mse_search_per_channel(x: Tensor, threshold: Tensor, *, axis: int, qmin: int, qmax: int, stride: int) -> None:
    """Writes the best threshold of each index of `axis` to `threshold`, `[C]` f32.

    Raises ValueError if a channel is empty, IndexError if `x` has no such axis.
    """
