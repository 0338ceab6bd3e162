"""What the reference refuses, in the words of the kernels. Values are read only where that waits for nobody."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
ENDS = {torch.int8: (-128, 127), torch.int16: (-32768, 32767)}  # asked of torch.iinfo, most of the check
_INTEGERS = tuple(ENDS)
# Between these a number, rounded to f32, is finite and has a finite inverse: ties go to 2**-128, and to infinity.
_LEAST_SCALE, _GREATEST_SCALE = 2.0**-128 + 2.0**-150, 2.0**128 - 2.0**103


def per_tensor(x: Tensor, scale: float | Tensor, zero_point: int, qmin: int, qmax: int) -> Tensor:
    """The scale as a 0-d f32 tensor on `x`'s device."""
    _dtype(x)
    _range(qmin, qmax)
    _zero_point("zero_point", zero_point, qmin, qmax)
    if isinstance(scale, Tensor):
        if scale.numel() != 1:
            raise ValueError(f"scale has {scale.numel()} values, but per tensor there is one")
        if _readable(scale):
            _scale("scale", scale.item())
    else:
        _scale("scale", scale)
    return torch.as_tensor(scale, dtype=torch.float32, device=x.device).reshape(())


def per_channel(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int) -> None:
    """Lengths, dtypes and values."""
    _dtype(x)
    _range(qmin, qmax)
    _axis(x, axis)
    for name, values, dtype in (("scale", scale, torch.float32), ("zero_point", zero_point, torch.int32)):
        if values.dtype != dtype:
            raise TypeError(f"{name} has dtype {values.dtype}, but must be {dtype}")
        if values.numel() != x.shape[axis]:
            raise ValueError(f"{name} has {values.numel()} elements, but {x.shape[axis]} are needed")
    if _readable(scale):
        for i, value in enumerate(scale.tolist()):
            _scale(f"scale[{i}]", value)
    if _readable(zero_point):
        for i, value in enumerate(zero_point.tolist()):
            _zero_point(f"zero_point[{i}]", value, qmin, qmax)


def observed(x: Tensor, axis: int | None = None) -> None:
    """Something to look at, with such an axis."""
    _dtype(x)
    if axis is not None:
        _axis(x, axis)
    if x.numel() == 0 and (axis is None or x.shape[axis] > 0):
        raise ValueError("x has no elements, so no minimum, maximum or scale")


def search(qmin: int, qmax: int, stride: int) -> None:
    """A range, and candidates in it."""
    _range(qmin, qmax)
    if qmin < -(2**22) or qmax > 2**22:
        raise ValueError(
            f"qmin is {qmin} and qmax {qmax}, but both must lie between -2**22 and 2**22, where f32 counts exactly"
        )
    if stride < 1:
        raise ValueError(f"stride is {stride}, but must be at least 1")


def histogram(x: Tensor, axis: int, limit: Tensor, bins: int) -> None:
    """Something to count, in bins of a finite width."""
    _dtype(x)
    _axis(x, axis)
    if limit.dtype != torch.float64:
        raise TypeError(f"limit has dtype {limit.dtype}, but must be torch.float64")
    if limit.numel() != x.shape[axis]:
        raise ValueError(f"limit has {limit.numel()} elements, but {x.shape[axis]} are needed")
    if bins < 1:
        raise ValueError("bins must be at least 1")
    if _readable(limit):
        for i, value in enumerate(limit.tolist()):
            if not 0 <= value < math.inf:
                where = f"limit[{i}]" if limit.numel() > 1 else "limit"
                raise ValueError(f"{where} is {_spelled(value)}, but must be finite and not negative")


def percentile(x: Tensor, percentile: float) -> None:
    """Something to sort, and percent."""
    _dtype(x)
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile is {_spelled(percentile)}, but must be from 0 to 100")
    if x.numel() == 0:
        raise ValueError("x has no elements, so no minimum, maximum or scale")


def accumulator(acc: Tensor) -> None:
    """What an integer matrix product leaves."""
    if acc.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"acc has dtype {acc.dtype}, but must be torch.int32 or int64")


def terms(a: Tensor, b: Tensor) -> None:
    """Two tensors of integers that lie on each other."""
    if b.dtype != a.dtype:
        raise ValueError(f"b has dtype {b.dtype}, but a has {a.dtype}")
    if b.shape != a.shape:
        raise ValueError(f"b has shape {list(b.shape)}, but a has {list(a.shape)}")
    integers("a", a.dtype)


def factors(factor: float | Tensor, x: Tensor, axis: int | None) -> None:
    """One factor for all of `x`, or f64 `[C]` for its `axis`."""
    if not isinstance(factor, Tensor):
        return
    if factor.dtype != torch.float64:
        raise TypeError(f"factor has dtype {factor.dtype}, but must be torch.float64")
    if axis is None:
        raise ValueError(f"factor has shape {list(factor.shape)}, but for many factors axis must be given")
    _axis(x, axis, "acc")
    if factor.dim() != 1 or len(factor) != x.shape[axis]:
        raise ValueError(f"factor has shape {list(factor.shape)}, but acc has {x.shape[axis]} indices on axis {axis}")


def zero_point(name: str, value: int, dtype: torch.dtype) -> None:
    """One of the integers of `dtype`."""
    low, high = ENDS[dtype]
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, but must lie between {low} and {high}")


def packed(name: str, x: Tensor, dtype: torch.dtype, zero_point: int = 0) -> None:
    """Activations of the dtype that a weight was packed for; it has its own zero point."""
    if x.dtype != dtype:
        raise TypeError(f"{name} has dtype {x.dtype}, but the weight was packed for {dtype}")
    if zero_point != 0:
        raise ValueError(f"zero_point of the weight is {zero_point}, but a packed weight has its own: leave it out")


def bias(value: Tensor | None, n: int) -> None:
    """One for each of `n` outputs, in steps of the accumulator."""
    if value is None:
        return
    if value.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"bias has dtype {value.dtype}, but must be torch.int32 or int64")
    if value.shape != (n,):
        raise ValueError(f"bias has shape {list(value.shape)}, but must have [{n}]")


def bias_within_i64(value: Tensor) -> None:
    """None with which int64 might not hold the sums."""
    if not value.numel() or not _readable(value):
        return
    low, high = (int(end) for end in value.aminmax())
    furthest = low if -low >= high else high
    if abs(furthest) > 2**62:
        raise ValueError(f"a bias is {furthest}, but must lie between -2**62 and 2**62")


def broadcast(leading_a: torch.Size, leading_b: torch.Size) -> None:
    """Leading dimensions of two operands, each of one size or 1."""
    for size_a, size_b in zip(reversed(leading_a), reversed(leading_b), strict=False):
        if size_a != size_b and 1 not in (size_a, size_b):
            raise ValueError(
                f"a has leading dimensions {list(leading_a)}, which do not broadcast with {list(leading_b)} of b"
            )


def positive(name: str, value: float) -> None:
    """A scale."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}, but must be positive and finite")


def factor_per_output(factor: float | Tensor, n: int) -> None:
    """One factor, or f64 `[n]`."""
    if isinstance(factor, Tensor) and factor.dtype != torch.float64:
        raise TypeError(f"factor has dtype {factor.dtype}, but must be torch.float64")
    if isinstance(factor, Tensor) and factor.shape != (n,):
        raise ValueError(f"factor has shape {list(factor.shape)}, but must have [{n}]")


def factor(value: float) -> None:
    """A number that 31 bits and a shift can hold."""
    if not 0 <= value < 2**31 - 0.5:
        raise ValueError(f"a factor is {_spelled(value)}, but must be at least 0 and less than 2**31")


def numbers(bias: Tensor | None, factors: float | Tensor | None) -> None:
    """What a product can add, and multiply with."""
    if bias is not None:
        bias_within_i64(bias)
    many = factors.tolist() if isinstance(factors, Tensor) and _readable(factors) else []
    for value in many if factors is None or isinstance(factors, Tensor) else [factors]:
        factor(value)


def integers(name: str, dtype: torch.dtype) -> None:
    """A dtype of quantized tensors."""
    if dtype not in _INTEGERS:
        raise TypeError(f"{name} has dtype {dtype}, but must be torch.int8 or int16")


def _spelled(value: float) -> str:
    """As the kernels write a number."""
    return "NaN" if math.isnan(value) else str(float(value))


def _axis(x: Tensor, axis: int, name: str = "x") -> None:
    if not -x.dim() <= axis < x.dim():
        raise IndexError(f"axis is {axis}, but {name} has {x.dim()} dimensions")


def _dtype(x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"x is a {type(x).__name__}, but must be a torch.Tensor")
    if x.dtype not in _FLOATS:
        raise TypeError(f"x has dtype {x.dtype}, but must be torch.float32, float64, bfloat16 or float16")


def _within_i32(name: str, value: int) -> None:
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"{name} is {value}, but must lie between -2**31 and 2**31 - 1")


def _range(qmin: int, qmax: int) -> None:
    _within_i32("qmin", qmin)
    _within_i32("qmax", qmax)
    if qmin >= qmax:
        raise ValueError(f"qmin is {qmin} and qmax {qmax}, but qmin must be less")
    if qmax - qmin >= 2**22:
        raise ValueError(f"qmin {qmin} and qmax {qmax} span more than 2**22 steps, which f32 does not count exactly")


def _readable(values: Tensor) -> bool:
    """A compiler has no values yet, a transform hides them, and another device would have to be waited for."""
    return (
        not torch.compiler.is_compiling()
        and type(values) in (Tensor, torch.nn.Parameter)
        and values.is_cpu
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
    )


def _scale(name: str, scale: float) -> None:
    if not (_LEAST_SCALE < scale < _GREATEST_SCALE):
        raise ValueError(f"{name} is {scale}, but must be positive and finite, and so must 1 / scale")


def _zero_point(name: str, zero_point: int, qmin: int, qmax: int) -> None:
    _within_i32(name, zero_point)
    if not qmin <= zero_point <= qmax:
        raise ValueError(f"{name} is {zero_point}, but must lie between qmin {qmin} and qmax {qmax}")
