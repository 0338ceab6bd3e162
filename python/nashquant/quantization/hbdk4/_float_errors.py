"""What floats make of an op at most, one rule for each: a call and what it gives in f64 -> a bound of the error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ._near import Call, Near, error_of, is_near, size, size_of, value_of

_FUNCTION = 8  # of u, for a function that a library computes: exp, tanh, erf, ...
_UNKNOWN = 16  # of u and of the largest value, for an op without a rule here

MOVES = {
    *("_unsafe_view", "cat", "column_stack", "dstack", "hstack", "vstack", "index_copy", "index_put", "scatter"),
    *("clone", "constant_pad_nd", "contiguous", "copy", "embedding", "flip", "gather"),
    *("index", "index_select", "lift_fresh_copy", "max_pool1d", "max_pool2d", "max_pool3d", "pad", "pixel_shuffle"),
    *("pixel_unshuffle", "repeat", "reshape", "roll", "select_scatter", "slice_scatter", "stack", "tril", "triu"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    *("amax", "max", "relu", "relu6", "reflection_pad1d", "reflection_pad2d", "replication_pad2d"),
}
_ARITHMETIC = {"add", "sub", "rsub", "mul", "div", "neg", "sqrt", "reciprocal", "square", "where", "masked_fill"}


def unknown(y: Tensor, u: float) -> Tensor:
    """What an op is held to that no rule is for."""
    return torch.full_like(y, _UNKNOWN * u * float(size(y).max()) if y.numel() else 0.0)


def pointwise(call: Call, y: Tensor) -> Tensor:
    """|∂y/∂x| times the error of each x, and what is rounded at the end: three times with a number beside it."""
    arithmetic = call.name in _ARITHMETIC
    inputs: list[tuple[Tensor, Tensor]] = []

    def leaf(x: Any) -> Any:
        if not isinstance(x, Near):
            return x
        inputs.append((x.value.expand(y.shape).detach().clone().requires_grad_(), x.error))
        return inputs[-1][0]

    with torch.enable_grad():
        again = call(leaf)
        slopes = torch.autograd.grad(again.sum(), [x for x, _ in inputs], allow_unused=True)
    largest = size(y)
    if not arithmetic:  # x · Φ(x), and others where a sum of terms as large as x ends near 0
        largest = sum((size(x.detach()) for x, _ in inputs), largest)
    carried = [slope.abs() * error for slope, (_, error) in zip(slopes, inputs, strict=True) if slope is not None]
    return sum(carried, largest * ((3 if arithmetic else _FUNCTION) * call.u))


def _steady(call: Call, y: Tensor) -> Tensor:
    """Clips: an end can't move the error beyond what came in. Their derivative says 0 where a value is just outside."""
    errors = [x.error.expand(y.shape) for x in call.args if isinstance(x, Near)]
    return torch.stack(errors).amax(0) + size(y) * call.u


def _least(call: Call, y: Any) -> Any:
    return pytree.tree_map(lambda e: e.abs(), call(lambda x: -error_of(x) if is_near(x) else x))


def _cast(call: Call, y: Tensor) -> Tensor:
    error: Tensor = call(error_of) + size(y) * call.u
    return error


def _product(call: Call, y: Tensor, first: int = 0, bias: int = 2) -> Tensor:
    """Of `first` and the argument behind it: γₙ · Σ|a · b|, and each one's error times the other."""
    x, w = call.args[first : first + 2]
    transposed = "transpose" in call.name or (call.name == "convolution" and call.args[6])
    if "conv" not in call.name:
        depth = x.value.shape[-1]
    else:
        depth = x.value.shape[1] * prod(w.value.shape[2:]) if transposed else w.value[0].numel()

    def on(x: Tensor, w: Tensor, b: Callable[[Near], Tensor] | None) -> Tensor:
        args = list(call.args)
        args[first : first + 2] = x, w
        if len(args) > bias and isinstance(args[bias], Near):
            args[bias] = torch.zeros_like(args[bias].value) if b is None else b(args[bias])
        given: Tensor = call(value_of, tuple(args))
        return given

    size_x, size_w = size(x.value), size(w.value)
    error = on(size_x, size_w, lambda b: b.value.abs()) * call.gamma(depth + 1)
    if x.error.count_nonzero():
        error = error + on(x.error, size_w + w.error, None)
    if w.error.count_nonzero():
        error = error + on(size_x, w.error, None)
    if len(call.args) > bias and isinstance(call.args[bias], Near) and call.args[bias].error.count_nonzero():
        error = error + on(torch.zeros_like(size_x), size_w, lambda b: b.error)
    return error


def _sum(call: Call, y: Tensor) -> Tensor:
    x = call.args[0].value
    terms = max(x.numel() // max(y.numel(), 1), 1)
    if call.name == "cumsum":
        terms = x.shape[call.args[1]]
    elif "pool" in call.name:
        terms = 2 ** x.dim() * terms if "adaptive" in call.name else prod(call.args[1])
    error: Tensor = call(error_of) + call(size_of) * call.gamma(terms + 1)
    return error


def _resize(call: Call, y: Tensor) -> Tensor:
    """Where in x a value lies is known to three roundings of the size; from there to the next it is 2 · max|x|."""
    x = call.args[0].value
    axes = tuple(range(2, x.dim()))
    places = 6 * call.u * sum(x.shape[2:]) * x.abs().amax(axes, keepdim=True)
    error: Tensor = call(error_of).abs() + call(size_of) * call.gamma(2 ** (x.dim() - 1)) + places
    return error


def _grid_sample(call: Call, y: Tensor) -> Tensor:
    x, grid, *rest = call.args
    if rest[0] != 0:  # the nearest jumps; cubic has no rule
        return unknown(y, call.u)
    args = (x, grid.value, *rest)
    sizes = torch.tensor(x.value.shape[:1:-1], dtype=torch.float64)
    places = ((grid.error + 4 * call.u * (1 + grid.value.abs())) * sizes).sum(-1)[:, None]
    largest = x.value.abs().amax(tuple(range(2, x.value.dim())), keepdim=True)
    error: Tensor = call(error_of, args).abs() + call(size_of, args) * call.gamma(8) + places * largest
    return error


def _softmax(call: Call, y: Tensor) -> Tensor:
    """A quotient of exponentials: relative in what is added to an exponent, absolute in its logarithm."""
    x, dim = call.args[0], call.args[1]
    spread = size(x.value - x.value.amax(dim, keepdim=True))
    # Where p is 0 beside the others, so is what its exponent's error makes of it.
    own = 2 * x.error.nan_to_num(posinf=0).amax(dim, keepdim=True) + call.gamma(x.value.shape[dim] + 2 * _FUNCTION)
    relative: Tensor = own + call.u * spread
    if "log" in call.name:
        return relative + size(y) * 2 * call.u
    return y * relative


def _variance_error(x: Near, axes: tuple[int, ...], call: Call) -> tuple[Tensor, Tensor]:
    """The bounds of `x - mean(x)`, and of the mean of its square, be that computed as mean(x²) - mean(x)² even."""
    n = prod(x.value.shape[axis] for axis in axes)
    mean = x.value.mean(axes, keepdim=True)
    apart = (x.value - mean).abs()
    error = x.error + x.error.mean(axes, keepdim=True)
    error = error + call.gamma(n) * x.value.abs().mean(axes, keepdim=True) + call.u * apart
    square = (2 * apart * error).mean(axes, keepdim=True)
    return error, square + call.gamma(n + 4) * x.value.square().mean(axes, keepdim=True)


def _layer_norm(call: Call, y: Any) -> Any:
    x, shape, weight, bias, eps = (*call.args[:5], *(None, None, 1e-5)[len(call.args) - 2 :])[:5]
    axes = tuple(range(x.value.dim() - len(shape), x.value.dim()))
    apart_error, square_error = _variance_error(x, axes, call)
    mean = x.value.mean(axes, keepdim=True)
    variance = (x.value - mean).square().mean(axes, keepdim=True) + eps
    error = (apart_error + (x.value - mean).abs() * square_error / (2 * variance)) / variance.sqrt()
    if isinstance(weight, Near):
        error = error * weight.value.abs() + ((x.value - mean) / variance.sqrt()).abs() * weight.error
    if isinstance(bias, Near):
        error = error + bias.error + bias.value.abs() * call.u
    first = y if isinstance(y, Tensor) else y[0]
    error = error + size(first) * 4 * call.u
    return error if isinstance(y, Tensor) else (error, *(torch.full_like(each, torch.nan) for each in y[1:]))


def _batch_norm(call: Call, y: Any) -> Any:
    """With statistics that stand still: one factor and one summand for each channel."""
    x, weight, bias, mean, variance, *_, eps = call.args
    shape = (1, -1, *[1] * (x.value.dim() - 2))
    gain = (weight.value / (variance.value + eps).sqrt()).reshape(shape).abs()
    error = gain * (x.error + 6 * call.u * (x.value.abs() + mean.value.reshape(shape).abs()))
    error = error + 3 * call.u * bias.value.reshape(shape).abs()
    return (error, *(torch.full_like(each, torch.nan) for each in y[1:]))


def _variance(call: Call, y: Tensor) -> Tensor:
    x, axes = call.args[:2]
    axes = tuple(axis % x.value.dim() for axis in (axes or range(x.value.dim())))
    error = _variance_error(x, axes, call)[1].reshape(y.shape)
    n: int = prod(x.value.shape[axis] for axis in axes)
    correction = int(call.args[2] if len(call.args) > 2 else call.kwargs.get("correction", 1))
    return error * n / max(n - correction, 1) + size(y) * 2 * call.u


RULES: dict[str, Callable[[Call, Any], Any]] = {
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d", "convolution", "linear", "mm", "bmm", "matmul", "mv", "dot"), _product
    ),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _product),
    **dict.fromkeys(("addmm", "baddbmm"), partial(_product, first=1, bias=0)),
    **dict.fromkeys(("sum", "mean", "trace", "cumsum", "avg_pool1d", "avg_pool2d", "avg_pool3d"), _sum),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d"), _sum),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max", "hardtanh", "maximum", "minimum", "leaky_relu"), _steady),
    **dict.fromkeys(("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"), _resize),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), _softmax),
    **dict.fromkeys(("layer_norm", "native_layer_norm"), _layer_norm),
    **dict.fromkeys(("amin", "min"), _least),
    "_native_batch_norm_legit_no_training": _batch_norm,
    "_to_copy": _cast,
    "grid_sampler": _grid_sample,
    "grid_sampler_2d": _grid_sample,
    "var": _variance,
}
