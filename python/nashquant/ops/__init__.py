"""The differentiable functions that quantizers and observers are made of.

Eager CPU tensors go to the Rust kernels; other devices, `torch.compile` and functorch to the torch reference;
`torch.export` sees one operator for each call.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from . import _autograd, _check, _library, _rust, _torch  # noqa: F401  (_library registers the operators)
from ._autograd import straight_through
from ._clamp import RELU, RELU6, Clamp
from ._conv import Conv, conv, conv_requantize
from ._conv_transpose import ConvTranspose, conv_transpose, conv_transpose_requantize
from ._fixed_point import shifted
from ._integer import add_saturating, lookup, lookup_table, mul_saturating, requantize, sub_saturating
from ._learnable import fake_quantize_learnable_per_channel, fake_quantize_learnable_per_tensor
from ._linear import Linear
from ._matmul import matmul, matmul_requantize
from ._packed_weight import PackedWeight
from ._rust import cpu_capability
from ._rust import takes as runs_in_rust

__all__ = [
    "RELU",
    "RELU6",
    "Clamp",
    "Conv",
    "ConvTranspose",
    "Linear",
    "PackedWeight",
    "add_saturating",
    "conv",
    "conv_requantize",
    "conv_transpose",
    "conv_transpose_requantize",
    "cpu_capability",
    "fake_quantize_learnable_per_channel",
    "fake_quantize_learnable_per_tensor",
    "fake_quantize_observed_as_torch_per_tensor",
    "fake_quantize_observed_per_channel",
    "fake_quantize_observed_per_tensor",
    "fake_quantize_per_channel",
    "fake_quantize_per_tensor",
    "histogram_per_channel",
    "histogram_per_tensor",
    "lookup",
    "lookup_table",
    "matmul",
    "matmul_requantize",
    "min_max_per_channel",
    "min_max_per_tensor",
    "mse_search_per_channel",
    "mse_search_per_tensor",
    "mul_saturating",
    "percentile_per_tensor",
    "requantize",
    "runs_in_rust",
    "shifted",
    "sub_saturating",
]


def fake_quantize_per_tensor(
    x: Tensor, scale: float | Tensor, zero_point: int, qmin: int, qmax: int, *, clamp: Clamp | None = None
) -> Tensor:
    """`x` rounded to the grid `qmin ... qmax` in steps of `scale`, with a straight-through gradient.

    `y = (clamp(round(x * (1 / scale)) + zero_point, qmin, qmax) - zero_point) * scale`, ties to even. NaN goes to
    `qmin`'s value. The gradient passes where nothing was clamped, and is 0 elsewhere.

    >>> fake_quantize_per_tensor(torch.tensor([0.5, 1.5, -2.5, 100.0]), 1.0, 0, -8, 7)
    tensor([ 0.,  2., -2.,  7.])

    Args:
        x: any shape and strides; f32, f64, bf16 or f16. The result has the same.
        scale: one positive number, used in f32.
        zero_point: the integer that means 0.
        qmin: least integer.
        qmax: greatest integer; less than 2**22 above `qmin`.
        clamp: `RELU` or `RELU6`, to apply it to `x` first, in the same pass.

    Raises:
        ValueError: `scale` or `1 / scale` is not positive and finite, or the integers make no range.
        TypeError: `x` is not of a float dtype named above.
    """
    if not is_dynamo_compiling():
        rounded = _rust.fake_quantize_per_tensor(x, scale, zero_point, qmin, qmax, clamp and clamp.bounds)
        if rounded is not None:
            return rounded[0] if rounded[1] is None else straight_through(x, rounded)
    if clamp is not None:
        x = clamp.function(x)
    if torch.compiler.is_exporting():
        return torch.ops.nashquant.fake_quantize_per_tensor(x, scale, zero_point, qmin, qmax)  # type: ignore[no-any-return]
    scale = _check.per_tensor(x, scale, zero_point, qmin, qmax)
    return _autograd.ReferencePerTensor.apply(x, scale, zero_point, qmin, qmax)[0]  # type: ignore[no-untyped-call,no-any-return]


def fake_quantize_per_channel(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int) -> Tensor:
    """As `fake_quantize_per_tensor`, with its own `scale` and `zero_point` for each index of `axis`.

    >>> x = torch.tensor([[0.3, 0.3], [0.3, 99.0]])
    >>> fake_quantize_per_channel(x, torch.tensor([0.25, 0.5]), torch.zeros(2, dtype=torch.int32), 0, -8, 7)
    tensor([[0.2500, 0.2500],
            [0.5000, 3.5000]])

    Args:
        x: any shape and strides, with `C` indices on `axis`; f32, f64, bf16 or f16. The result has the same.
        scale: `[C]`, f32, positive.
        zero_point: `[C]`, int32.
        axis: may be negative.
        qmin: least integer.
        qmax: greatest integer; less than 2**22 above `qmin`.

    Raises:
        ValueError: a scale or its inverse is not positive and finite, or lengths differ; names the channel.
        TypeError: a dtype is not as above.
        IndexError: `x` has no such axis.
    """
    if not is_dynamo_compiling():
        rounded = _rust.fake_quantize_per_channel(x, scale, zero_point, axis, qmin, qmax)
        if rounded is not None:
            return rounded[0] if rounded[1] is None else straight_through(x, rounded)
    if torch.compiler.is_exporting():
        return torch.ops.nashquant.fake_quantize_per_channel(x, scale, zero_point, axis, qmin, qmax)  # type: ignore[no-any-return]
    _check.per_channel(x, scale, zero_point, axis, qmin, qmax)
    return _autograd.ReferencePerChannel.apply(x, scale, zero_point, axis, qmin, qmax)[0]  # type: ignore[no-untyped-call,no-any-return]


def fake_quantize_observed_per_tensor(
    x: Tensor,
    min_val: Tensor,
    max_val: Tensor,
    scale: Tensor,
    averaging_constant: float,
    qmin: int,
    qmax: int,
    *,
    clamp: Clamp | None = None,
) -> Tensor | None:
    """Moves a range towards that of `x`, and fake-quantizes `x` on the symmetric grid that covers it: one call for
    what takes a quantizer in training a dozen.

    In f32 and in place: `min_val += averaging_constant * (min(x) - min_val)`, `max_val` likewise (the first time,
    while `min_val > max_val`, and with 1 they become those of `x`), then
    `scale = max(max(|min_val|, |max_val|) / ((qmax - qmin) / 2), 2**-23)`, then `fake_quantize_per_tensor`. With a
    `clamp` (`RELU` or `RELU6`), `x` is what it makes of `x`.

    >>> low, high, scale = torch.tensor(torch.inf), torch.tensor(-torch.inf), torch.ones(1)
    >>> fake_quantize_observed_per_tensor(torch.tensor([0.6, -7.5]), low, high, scale, 0.01, -8, 7)
    tensor([ 1., -8.])
    >>> low, high, scale
    (tensor(-7.5000), tensor(0.6000), tensor([1.]))

    Returns:
        None, and nothing was changed, if it takes several steps: `x` or a buffer is not on the CPU, is being compiled,
        exported or transformed, or `x` is empty or has NaN or infinite values.

    Raises:
        ValueError: a buffer has not one element, or the integers make no range.
        TypeError: `x` is not f32, f64, bf16 or f16; or a buffer not f32.
    """
    if not is_dynamo_compiling():
        rounded = _rust.fake_quantize_observed_per_tensor(
            x, min_val, max_val, scale, averaging_constant, qmin, qmax, clamp and clamp.bounds
        )
        if rounded is not None:
            return rounded[0] if rounded[1] is None else straight_through(x, rounded)
    return None


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
    *,
    middle: int = 0,
    least_scale: float = 2**-23,
) -> Tensor | None:
    """As `fake_quantize_observed_per_tensor`, by one of torch's rules for the range, the scale and the zero point.

    `affine`, `symmetric` (around the integer `middle`): those of torch.ao's moving average and qparams. `fused affine`,
    `fused symmetric`: those of `torch.fused_moving_avg_obs_fake_quant`. Bit for bit.

    >>> low, high = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    >>> scale, zero_point = torch.ones(1), torch.zeros(1, dtype=torch.int32)
    >>> x = torch.tensor([-1.0, 0.6, 2.0])
    >>> fake_quantize_observed_as_torch_per_tensor(x, low, high, scale, zero_point, 0.01, 0, 3, "affine")
    tensor([-1.,  1.,  2.])
    >>> scale, zero_point
    (tensor([1.]), tensor([1], dtype=torch.int32))

    Returns:
        None, and nothing was changed, where `fake_quantize_observed_per_tensor` gives None, and where the rule gives no
        usual grid: a range that overflows, one bit of `fused symmetric`, a scale below what torch's fused operator cuts
        off, or integers beyond 2**22, to which it adds the zero point in f32.

    Raises:
        ValueError, TypeError: as `fake_quantize_observed_per_tensor`; `zero_point` is not int32; `rule` is another.
    """
    if not is_dynamo_compiling():
        rounded = _rust.fake_quantize_observed_as_torch_per_tensor(
            x, min_val, max_val, scale, zero_point, averaging_constant, qmin, qmax, rule, middle, least_scale
        )
        if rounded is not None:
            return rounded[0] if rounded[1] is None else straight_through(x, rounded)
    return None


def fake_quantize_observed_per_channel(
    x: Tensor,
    min_val: Tensor,
    max_val: Tensor,
    scale: Tensor,
    axis: int,
    averaging_constant: float,
    qmin: int,
    qmax: int,
) -> Tensor | None:
    """As `fake_quantize_observed_per_tensor`, with a range and a scale for each index of `axis`.

    The ranges start together: while `min_val > max_val` anywhere, all become those of `x`.

    >>> low, high, scale = torch.full((2,), torch.inf), torch.full((2,), -torch.inf), torch.ones(2)
    >>> x = torch.tensor([[0.6, -7.5], [30.0, 2.5]])
    >>> fake_quantize_observed_per_channel(x, low, high, scale, 0, 0.01, -8, 7)
    tensor([[ 1., -8.],
            [28.,  4.]])
    >>> scale
    tensor([1., 4.])

    Returns:
        None, and nothing was changed, where `fake_quantize_observed_per_tensor` gives None.

    Raises:
        ValueError: a buffer has another length than `axis`, or the integers make no range.
        TypeError: `x` is not f32, f64, bf16 or f16; or a buffer not f32.
        IndexError: `x` has no such axis.
    """
    if not is_dynamo_compiling():
        rounded = _rust.fake_quantize_observed_per_channel(
            x, min_val, max_val, scale, axis, averaging_constant, qmin, qmax
        )
        if rounded is not None:
            return rounded[0] if rounded[1] is None else straight_through(x, rounded)
    return None


def min_max_per_tensor(x: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of `x`: two f32 tensors, 0-d; NaN in both if `x` has a NaN. Never -0.0.

    Raises:
        ValueError: `x` has no elements.
        TypeError: `x` is not f32, f64, bf16 or f16.
    """
    if _rust.takes(x):
        return _rust.min_max_per_tensor(x)
    return _torch.min_max_per_tensor(x.detach())


def min_max_per_channel(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """As `min_max_per_tensor`, for each index of `axis`: two f32 tensors `[C]`.

    Raises:
        ValueError: a channel has no elements.
        TypeError: `x` is not f32, f64, bf16 or f16.
        IndexError: `x` has no such axis.
    """
    kernel = _rust.min_max_per_channel if _rust.takes(x) else _torch.min_max_per_channel
    return kernel(x.detach(), axis)


def mse_search_per_tensor(x: Tensor, qmin: int, qmax: int, stride: int = 1) -> Tensor:
    """The threshold that quantizes `x` with the least squared error: f32, 0-d.

    Candidates are `max_abs * i / 100` for i = 1, 1 + stride, ... and 100; the scale of a threshold is
    `threshold / ((qmax - qmin) / 2)`, at least 2**-23; on a tie the larger wins. Errors are f32 for each element,
    their sum f64. If `max_abs * 100` is not finite, the answer is `max_abs`.

    Raises:
        ValueError: `x` has no elements, `stride` is less than 1, or the integers make no range.
        TypeError: `x` is not f32, f64, bf16 or f16.
    """
    kernel = _rust.mse_search_per_tensor if _rust.takes(x) else _torch.mse_search_per_tensor
    return kernel(x.detach(), qmin, qmax, stride)


def mse_search_per_channel(x: Tensor, axis: int, qmin: int, qmax: int, stride: int = 1) -> Tensor:
    """As `mse_search_per_tensor`, for each index of `axis`: f32 `[C]`.

    Raises:
        ValueError: a channel has no elements, `stride` is less than 1, or the integers make no range.
        TypeError: `x` is not f32, f64, bf16 or f16.
        IndexError: `x` has no such axis.
    """
    kernel = _rust.mse_search_per_channel if _rust.takes(x) else _torch.mse_search_per_channel
    return kernel(x.detach(), axis, qmin, qmax, stride)


def histogram_per_tensor(x: Tensor, limit: float, bins: int) -> Tensor:
    """How many magnitudes lie in each of `bins` equal bins over `0 ... limit`: int64 `[bins]`.

    The bin of `x` is `min(trunc(|x| * (bins / limit)), bins - 1)`, of `x` in f32 and computed in f64: what lies beyond
    is counted in the last. If `limit` is 0, all finite values are in the first. NaN is not counted.

    >>> histogram_per_tensor(torch.tensor([0.0, -1.5, 1.0, 9.0]), 4.0, 4)
    tensor([1, 2, 0, 1])

    Raises:
        ValueError: `limit` is negative, NaN or infinite, or `bins` is less than 1.
        TypeError: `x` is not f32, f64, bf16 or f16.
    """
    kernel = _rust.histogram_per_tensor if _rust.takes(x) else _torch.histogram_per_tensor
    return kernel(x.detach(), limit, bins)


def histogram_per_channel(x: Tensor, axis: int, limit: Tensor, bins: int) -> Tensor:
    """As `histogram_per_tensor`, for each index of `axis` and with its own `limit`, f64 `[C]`: int64 `[C, bins]`.

    Raises:
        ValueError: a limit is negative, NaN or infinite, their number differs, or `bins` is less than 1.
        TypeError: `x` is not f32, f64, bf16 or f16, or `limit` not f64.
        IndexError: `x` has no such axis.
    """
    kernel = _rust.histogram_per_channel if _rust.takes(x) else _torch.histogram_per_channel
    return kernel(x.detach(), axis, limit, bins)


def percentile_per_tensor(x: Tensor, percentile: float) -> Tensor:
    """The magnitude that `percentile` percent of all do not pass, exactly: f32, 0-d; NaN if `x` has a NaN.

    The `ceil(percentile / 100 * n)`th of the magnitudes, rounded to f32, in ascending order; at least the first.

    >>> percentile_per_tensor(torch.tensor([3.0, -4.0, 1.0, -2.0]), 75)
    tensor(3.)

    Raises:
        ValueError: `x` has no elements, or `percentile` is not from 0 to 100.
        TypeError: `x` is not f32, f64, bf16 or f16.
    """
    kernel = _rust.percentile_per_tensor if _rust.takes(x) else _torch.percentile_per_tensor
    return kernel(x.detach(), percentile)
