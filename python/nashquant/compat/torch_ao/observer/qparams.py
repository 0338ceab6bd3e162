"""The grid: which integers there are, and which scale and zero point cover an observed range."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from nashquant.compat.torch_ao.parity import is_exact

__all__ = ["check_range", "choose_qparams", "choose_range", "is_per_channel", "is_per_tensor", "is_symmetric"]

_SIGNED_8 = (torch.qint8, torch.int8)
_UNSIGNED_8 = (torch.quint8, torch.uint8)
_SIGNED_32 = (torch.qint32, torch.int32)


def is_per_tensor(qscheme: torch.qscheme) -> bool:
    """One scale for all."""
    return qscheme in (torch.per_tensor_affine, torch.per_tensor_symmetric)


def is_per_channel(qscheme: torch.qscheme) -> bool:
    """A scale for each channel."""
    return qscheme in (
        torch.per_channel_affine,
        torch.per_channel_symmetric,
        torch.per_channel_affine_float_qparams,
    )


def is_symmetric(qscheme: torch.qscheme) -> bool:
    """A range with 0 in its middle."""
    return qscheme in (torch.per_tensor_symmetric, torch.per_channel_symmetric)


def check_range(quant_min: int, quant_max: int) -> None:
    """Raises AssertionError unless 0 is in the range and the range is one."""
    if not quant_min <= 0 <= quant_max:
        raise AssertionError("Used-specified quantization range must include 0.")
    if quant_min >= quant_max:
        raise AssertionError("qmin must be strictly less than qmax for user-specified quantization range.")


def choose_range(
    quant_min: int | None, quant_max: int | None, dtype: torch.dtype, reduce_range: bool
) -> tuple[int, int]:
    """The least and the greatest integer: those given, if both are; else those of `dtype`.

    With `reduce_range` a bit less: half of those given; 0 ... 127 or -64 ... 63 for 8 bits.

    Raises:
        AssertionError: those given do not include 0, or are more than `dtype` has.
    """
    if quant_min is not None and quant_max is not None:
        check_range(quant_min, quant_max)
        _check_length(quant_max - quant_min + 1, dtype)
        return (quant_min // 2, quant_max // 2) if reduce_range else (quant_min, quant_max)
    if dtype in _SIGNED_8:
        return (-64, 63) if reduce_range else (-128, 127)
    if dtype in _UNSIGNED_8:
        return (0, 127) if reduce_range else (0, 255)
    if dtype in _SIGNED_32:
        return -(2**31), 2**31 - 1
    if dtype == torch.uint16:
        return 0, 2**16 - 1
    if dtype == torch.int16:
        return -(2**15), 2**15 - 1
    return 0, 15


def _check_length(length: int, dtype: torch.dtype) -> None:
    most = 256 if dtype in _SIGNED_8 else 2**32 if dtype in _SIGNED_32 else length
    if not 0 < length <= most:
        raise AssertionError(f"quantization range should be positive and not exceed the maximum bit range (={most}).")


def choose_qparams(
    min_val: Tensor,
    max_val: Tensor,
    *,
    quant_min: int,
    quant_max: int,
    dtype: torch.dtype,
    qscheme: torch.qscheme,
    eps: Tensor,
    middle: int,
) -> tuple[Tensor, Tensor]:
    """Scale and zero point of a range that includes 0 in any case; `[1]` each, or `[C]` per channel.

    - symmetric: `max(-min, max) / ((quant_max - quant_min) / 2)`, zero point 0, or `middle` if unsigned;
    - affine: `(max - min) / (quant_max - quant_min)`, `quant_min - round(min / scale)`, clamped;
    - affine with float zero points: the range as it is, `-min / scale`, and scale 1 for an empty range.

    Scales are at least `eps`. A channel of zeros gets scale 1; in torch.ao it gets `eps`, in steps of which a bias
    overflows.

    Warns:
        UserWarning: nothing was observed; scale 1 and zero point 0 then.

    Raises:
        AssertionError: `min_val` is greater than `max_val`.
    """
    compiling = torch.compiler.is_compiling()
    plain = not compiling and _have_two_ends(min_val, max_val)
    if not plain and not compiling and not _is_observed(min_val, max_val):
        device = min_val.device.type
        return torch.tensor([1.0], device=device), torch.tensor([0], device=device)
    low, high = min_val.clamp(max=0), max_val.clamp(min=0)
    if is_symmetric(qscheme):
        scale = torch.maximum(torch.maximum(-low, high) / (float(quant_max - quant_min) / 2), eps)
        zero_point = torch.full_like(scale, middle, dtype=torch.int64)
    elif qscheme == torch.per_channel_affine_float_qparams:
        scale = (max_val - min_val) / float(quant_max - quant_min)
        scale = torch.where(scale > eps, scale, torch.ones_like(scale))
        return scale, -1 * min_val / scale
    else:
        scale = torch.maximum((high - low) / float(quant_max - quant_min), eps)
        zero_point = (quant_min - torch.round(low / scale).to(torch.int)).clamp(quant_min, quant_max)
    scale, zero_point = scale.reshape(min_val.shape or (1,)), zero_point.reshape(min_val.shape or (1,))
    if plain:
        return scale, zero_point
    return _mended(min_val, max_val, scale, zero_point, per_channel=is_per_channel(qscheme))


def _have_two_ends(min_val: Tensor, max_val: Tensor) -> bool:
    """The usual case: everything was observed, and had more than one value."""
    if min_val.dim() == 0:
        return bool(min_val.item() < max_val.item())
    return min_val.shape == max_val.shape and min_val.numel() > 0 and (max_val - min_val).min().item() > 0


def _mended(
    min_val: Tensor, max_val: Tensor, scale: Tensor, zero_point: Tensor, *, per_channel: bool
) -> tuple[Tensor, Tensor]:
    """Scale 1 for channels of zeros and for those not seen yet, which also have zero point 0."""
    if per_channel and not is_exact():
        unseen = min_val > max_val
        empty = ((min_val == 0) & (max_val == 0)) | unseen
        return torch.where(empty, 1.0, scale), torch.where(unseen, 0, zero_point)
    if torch.compiler.is_compiling():
        unseen = (min_val > max_val).reshape(scale.shape)
        return torch.where(unseen, 1.0, scale), torch.where(unseen, 0, zero_point)
    return scale, zero_point


def _is_observed(min_val: Tensor, max_val: Tensor) -> bool:
    if min_val.dim() == 0 and max_val.dim() == 0 and min_val.numel() == max_val.numel() == 1:
        low, high = min_val.item(), max_val.item()
        seen, wrong = (low, high) != (torch.inf, -torch.inf), low > high
    else:
        seen = min_val.numel() > 0 and max_val.numel() > 0
        swapped = min_val > max_val
        if not is_exact():  # a channel without a finite value so far
            swapped &= ~((min_val == torch.inf) & (max_val == -torch.inf))
        wrong = seen and bool(swapped.any())
    if not seen:
        message = "must run observer before calling calculate_qparams. Returning default values."
        warnings.warn(message, stacklevel=4)
    elif wrong:
        raise AssertionError(f"min {min_val} should be less than max {max_val}")
    return seen
