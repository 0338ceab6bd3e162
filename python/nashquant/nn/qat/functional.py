"""A functional call that carries quantizers: what a recorded call is redirected to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant import ops
from nashquant.nn import float_functional
from nashquant.quantization.fake_quantize import Quantizer

from ._quantized import Quantized, is_in_region, mark_region, on_grid, own_business

__all__ = ["FloatFunctional", "Resample"]


# Functions whose last step a quantizer can do in its own pass: what comes before that step, and the step.
_Parts = tuple[Callable[..., Tensor] | None, ops.Clamp]
_CLAMPED: dict[Callable[..., Any], _Parts] = {
    torch.relu: (None, ops.RELU),
    Tensor.relu: (None, ops.RELU),
    F.relu: (None, ops.RELU),
    F.relu6: (None, ops.RELU6),
    float_functional.add_relu: (torch.add, ops.RELU),
}


class FloatFunctional(Quantized, float_functional.FloatFunctional):
    """Computes a function, then puts the output on its grid.

    Attributes:
        operand_fake_quant: quantizers of operands that come in float, by position ("1", "other", "0_2" in a list):
            constants, and the weight of a functional conv or linear.
        requantized: those of the positions whose operands come quantized, and shall change their grid.
    """

    operand_fake_quant: nn.ModuleDict | None
    requantized: frozenset[str] = frozenset()

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Gives `function(*args, **kwargs)` on the grid."""
        with own_business():
            return self.compute(function, args, kwargs)

    def compute(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As `run`, for a call that is the op's own business already."""
        state = self.__dict__
        if "also_float" in state and self.is_outside(*args, *kwargs.values()):
            return function(*args, **kwargs)
        modules = state["_modules"]
        operands, quantizer = modules["operand_fake_quant"], modules["activation_post_process"]
        if operands is not None:
            args, kwargs = _quantized_operands(operands._modules, self.requantized, args, kwargs)
        if kwargs:
            return on_grid(quantizer, function(*args, **kwargs))
        parts = _CLAMPED.get(function)
        if parts is None:
            return on_grid(quantizer, function(*args))
        before, clamp = parts
        return on_grid(quantizer, args[0] if before is None else before(*args), clamp)


def _quantized_operands(
    quantizers: Mapping[str, Any], requantized: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    for position, quantizer in quantizers.items():
        key, *inner = position.split("_")
        always = position in requantized
        if key.isdigit():
            args = tuple(_quantized_at(list(args), [key, *inner], quantizer, always))
        else:
            kwargs = _quantized_at(dict(kwargs), [key, *inner], quantizer, always)
    return args, kwargs


def _quantized_at(tree: Any, way: list[str], fake_quant: nn.Module, always: bool) -> Any:
    """`tree` with the tensor at the end of the way quantized, if one is there; one quantized already only `always`."""
    if not way:
        return fake_quant(tree) if isinstance(tree, Tensor) and (always or not is_in_region(tree)) else tree
    key: Any = int(way[0]) if way[0].isdigit() else way[0]
    if isinstance(tree, dict):
        return {**tree, key: _quantized_at(tree[key], way[1:], fake_quant, always)} if key in tree else tree
    if not isinstance(tree, (list, tuple)) or key >= len(tree):
        return tree
    return [*tree[:key], _quantized_at(tree[key], way[1:], fake_quant, always), *tree[key + 1 :]]


class Resample(nn.Module):
    """A function whose output keeps its input's grid: interpolate, grid_sample.

    The quantizer belongs to the op that made the input; here it is only borrowed.
    """

    def __init__(self, source: Quantizer) -> None:
        super().__init__()
        self._source = (source,)  # in a tuple: not a child, not in the state_dict twice

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Gives `function(*args, **kwargs)` rounded to the grid of its input."""
        with own_business():
            return self.compute(function, args, kwargs)

    def compute(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """As `run`, for a call that is the op's own business already."""
        return mark_region(self._source[0].requantize(function(*args, **kwargs)))  # type: ignore[no-any-return]
