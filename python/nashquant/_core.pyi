"""The Rust kernels. They take torch tensors on the CPU, dense in any order of axes, and write into tensors given; but
fake quantization makes its own, and takes tensors with gaps.

Everything here raises, before anything is written: TypeError for what is no tensor or has another dtype than f32,
f64, bf16 or f16 (or than is said below); ValueError for a tensor on another device, without memory, not dense, of
another shape or memory order than its partner, or overlapping what is written; ValueError for a scale or `1 / scale`
that is not positive and finite, and for integers that make no range.

The GIL is released meanwhile, except by elementwise kernels and `min_max_*` on less than 256 KiB. Results do not depend
on the number of threads or the instruction set.

The instruction set is the widest of the CPU. The environment variable NASHQUANT_CPU_CAPABILITY, read once at import,
asks for another: baseline, sse42, avx2, avx512, avx512_vnni or amx (on ARM neon or neon_dotprod). ImportError if this
CPU does not have it, or the system does not let us use it.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

from torch import Tensor

__all__ = [
    "Backward",
    "Landing",
    "Linear",
    "Mask",
    "Weight",
    "add_saturating",
    "conv",
    "cpu_capability",
    "fake_quantize_backward",
    "fake_quantize_backward_in_place",
    "fake_quantize_learnable_backward",
    "fake_quantize_observed_as_torch_per_tensor",
    "fake_quantize_observed_per_channel",
    "fake_quantize_observed_per_tensor",
    "fake_quantize_per_channel",
    "fake_quantize_per_tensor",
    "histogram_per_channel",
    "histogram_per_tensor",
    "is_dense",
    "lookup",
    "matmul",
    "min_max_per_channel",
    "min_max_per_tensor",
    "mse_search_per_channel",
    "mse_search_per_tensor",
    "mul_saturating",
    "percentile_per_tensor",
    "requantize",
    "takes",
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
        """An eighth of the number of elements, rounded up to 64."""
    def all_inside(self) -> bool:
        """Was nothing clamped at all?"""
    def fits(self, x: Tensor) -> bool:
        """Has `x` the mask's shape and memory order?"""
    def unpack(self, y: Tensor) -> None:
        """Writes the bits to the bool tensor `y`, of the mask's shape and memory order."""

@final
class Backward:
    """What autograd's engine calls with a gradient: calls `function(grad_y, mask, alone)`.

    `alone`: in Python, nothing but the tuple of this call's arguments refers to `grad_y`.
    """

    def __new__(cls, function: Callable[[Tensor, Mask, bool], Any], mask: Mask) -> Backward: ...
    def __call__(self, grad_y: Tensor, /) -> Any: ...

def cpu_capability() -> str:
    """The instruction set that the kernels run with."""

def is_dense(x: Tensor) -> bool:
    """Do the elements of `x` fill their memory without gap or overlap, in whatever order of axes?"""

def takes(x: Tensor) -> bool:
    """Is `x` memory that a kernel can read now: a plain tensor on the CPU, and nobody is tracing or transforming?"""

def fake_quantize_per_tensor(
    x: Tensor,
    scale: float | Tensor,
    zero_point: int,
    qmin: int,
    qmax: int,
    bounds: tuple[float, float] | None = None,
) -> tuple[Tensor, Mask | None] | None:
    """Fake-quantized `x`, a new tensor; `x` clamped to `bounds` first, if there are any. And what was inside the grid,
    if `x` requires a gradient and gradients are enabled.

    `x` may have gaps: it is copied then. None if `takes` says no.
    """

def fake_quantize_per_channel(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int
) -> tuple[Tensor, Mask | None] | None:
    """As `fake_quantize_per_tensor`; `scale` `[C]` f32 and `zero_point` `[C]` int32 belong to `axis`.

    Raises IndexError if `x` has no such axis.
    """

def fake_quantize_observed_per_tensor(
    x: Tensor,
    min_val: Tensor,
    max_val: Tensor,
    scale: Tensor,
    averaging_constant: float,
    qmin: int,
    qmax: int,
    bounds: tuple[float, float] | None = None,
) -> tuple[Tensor, Mask | None] | None:
    """Moves the range `min_val ... max_val` towards that of `x`, writes its `scale`, and gives what
    `fake_quantize_per_tensor` gives on that grid. All three are f32 with one element.

    None, too, and nothing is written, if `x` is empty or has NaN or infinite values, or if a kernel can't write to a
    buffer: it is not plain, on another device, or the negative of its memory.
    """

def fake_quantize_observed_as_torch_per_tensor(
    x: Tensor,
    min_val: Tensor,
    max_val: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    averaging_constant: float,
    qmin: int,
    qmax: int,
    rule: str,
    middle: int,
    least_scale: float,
) -> tuple[Tensor, Mask | None] | None:
    """As `fake_quantize_observed_per_tensor`, by torch's rule `affine`, `symmetric` (around `middle`), `fused affine`
    or `fused symmetric`; also writes the zero point, int32. None, too, where the rule gives no usual grid.
    """

def fake_quantize_observed_per_channel(
    x: Tensor,
    min_val: Tensor,
    max_val: Tensor,
    scale: Tensor,
    axis: int,
    averaging_constant: float,
    qmin: int,
    qmax: int,
) -> tuple[Tensor, Mask | None] | None:
    """As `fake_quantize_observed_per_tensor`, with a range for each index of `axis`; all three buffers are `[C]`, f32.

    Raises IndexError if `x` has no such axis.
    """

def fake_quantize_backward(grad_y: Tensor, mask: Mask, grad_x: Tensor) -> None:
    """Writes `grad_y * inside` to `grad_x`; both in the mask's shape and memory order."""

def fake_quantize_backward_in_place(grad: Tensor, mask: Mask) -> None:
    """Multiplies `grad`, in the mask's shape and memory order, by `inside`; 16 that are all inside are not touched."""

def fake_quantize_learnable_backward(
    grad_y: Tensor,
    x: Tensor,
    grad_x: Tensor,
    grad_scale: Tensor,
    grad_zero_point: Tensor,
    *,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None,
    qmin: int,
    qmax: int,
    grad_factor: float,
) -> None:
    """Writes the gradients of `x`, and of `scale` and `zero_point` times `grad_factor`: `[C]` f32, or one if `axis` is
    None. `zero_point` is int32. `grad_y` and `grad_x` are in the memory order of `x`.
    """

def min_max_per_tensor(x: Tensor, low: Tensor, high: Tensor) -> None:
    """Writes the least and the greatest value to `low` and `high`, one f32 each; NaN to both if `x` has a NaN.

    Raises ValueError if `x` is empty.
    """

def min_max_per_channel(x: Tensor, low: Tensor, high: Tensor, *, axis: int) -> None:
    """Writes the least and the greatest value at each index of `axis` to `low` and `high`, `[C]` f32.

    Raises ValueError if a channel is empty, IndexError if `x` has no such axis.
    """

def histogram_per_tensor(x: Tensor, counts: Tensor, *, limit: float) -> None:
    """Writes how many magnitudes lie in equal bins over `0 ... limit` to `counts`, `[bins]` int64.

    Raises ValueError if `limit` is negative, NaN or infinite, or there are no bins.
    """

def histogram_per_channel(x: Tensor, limit: Tensor, counts: Tensor, *, axis: int, bins: int) -> None:
    """As `histogram_per_tensor`, with its own limit for each index of `axis`; `limit` `[C]` f64, `counts` `[C, bins]`.

    Raises also IndexError if `x` has no such axis.
    """

def percentile_per_tensor(x: Tensor, *, percentile: float) -> float:
    """The magnitude that `percentile` percent of all do not pass. Raises ValueError if `x` is empty."""

def mse_search_per_tensor(x: Tensor, *, qmin: int, qmax: int, stride: int) -> float:
    """The threshold with the least squared error. Raises ValueError if `x` is empty."""

def mse_search_per_channel(x: Tensor, threshold: Tensor, *, axis: int, qmin: int, qmax: int, stride: int) -> None:
    """Writes the best threshold of each index of `axis` to `threshold`, `[C]` f32.

    Raises ValueError if a channel is empty, IndexError if `x` has no such axis.
    """

@final
class Landing:
    """Where a product with a factor lands: integers from `qmin` to `qmax`, of which `zero_point` means 0; rounded
    "half_even", "half_up", "half_away", "floor" or "tflite", with 31 or 15 bits of multiplier.
    """

    def __new__(cls, zero_point: int, qmin: int, qmax: int, rounding: str, multiplier_bits: int) -> Landing: ...

@final
class Weight:
    """A weight, packed once for the instruction set that the kernels run with."""

    def __new__(cls, weight: Tensor, *, groups: int, wide: bool, depthwise: bool) -> Weight:
        """From `[N, K]`, int8 or int16, for activations of 16 bits if `wide`, else of 8. K runs over `[*kernel,
        channels of a group]`. If `depthwise`, over the kernel, and N are the channels.

        Raises ValueError if `groups` does not divide N.
        """

@final
class Linear:
    """A product or convolution with a weight, ready to be called: `(x - zero_point) @ weight.T + bias`."""

    def __new__(
        cls,
        weight: Weight,
        *,
        zero_point: int,
        bias: Tensor | None,
        factor: Tensor | None,
        landing: Landing | None,
    ) -> Linear:
        """To int32 or int64; or with `factor` and `landing` requantized, to int8 or int16. `bias` is `[N]`, int32 or
        int64, `factor` f64: one, or `[N]`. Both contiguous, and copied.

        Raises ValueError unless `zero_point` is an integer of the activations, `bias` has N elements between -2**62 and
        2**62, and `0 <= factor < 2**31`; or if there is a factor without a landing.
        """

def matmul(a: Tensor, linear: Linear, y: Tensor) -> None:
    """Writes the product to `y`, `[M, N]`. `a` is `[M, K]`, int8 or int16 as the weight was packed for. Contiguous.

    Raises ValueError unless the weight proves that int32 suffices, if `y` is that; or if there are neither N factors
    nor one.
    """

def conv(
    x: Tensor,
    linear: Linear,
    y: Tensor,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    before: Sequence[int],
    dilation: Sequence[int],
) -> None:
    """As `matmul`, the convolution of `x`, `[batch, depth, height, width, channels]`, to `y`, likewise with the number
    of windows and outputs. All others have three numbers; `before` is how far the first window begins before `x`, or
    behind its begin, if it is less than 0.
    """

def requantize(acc: Tensor, y: Tensor, factor: Tensor, *, axis: int | None, landing: Landing) -> None:
    """Writes `acc * factor`, rounded, to `y`; `acc` is int32 or int64, `y` int8 or int16, `factor` f64: one, or one
    for each index of `axis`.

    Raises ValueError unless `0 <= factor < 2**31`, IndexError if `acc` has no such axis.
    """

def add_saturating(
    a: Tensor, b: Tensor, y: Tensor, *, factor_a: float, factor_b: float, subtract: bool, rounding: str
) -> None:
    """Writes `a * factor_a + b * factor_b` (minus, if `subtract`), rounded and saturated, to `y`; `a` and `b` are both
    int8 or both int16, `y` is either.

    Raises ValueError unless both factors are at least 0 and less than 2**31.
    """

def mul_saturating(a: Tensor, b: Tensor, y: Tensor, *, factor: float, rounding: str, multiplier_bits: int) -> None:
    """Writes `a * b * factor`, rounded and saturated, to `y`; `a` and `b` are both int8 or both int16, `y` is either.

    Raises ValueError unless `0 <= factor < 2**31`.
    """

def lookup(x: Tensor, table: Tensor, y: Tensor) -> None:
    """Writes `table[x - least integer]` to `y`; `x` is int8 or int16, and `table` has 256 or 65,536 entries, of the
    dtype of `y`: int8 or int16.
    """
