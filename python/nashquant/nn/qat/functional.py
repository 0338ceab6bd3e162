"""A functional call that carries quantizers: what a recorded call is redirected to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nashquant.nn import float_functional
from nashquant.quantization.fake_quantize import FakeQuantize

from ._quantized import Quantized, mark_region, own_business

__all__ = ["FloatFunctional", "Resample"]


class FloatFunctional(Quantized, float_functional.FloatFunctional):
    """Computes a function, then puts the output on its grid.

    Attributes:
        operand_fake_quant: quantizers of operands that come in float, by position: constants, and the weight
            of a functional conv or linear.
    """

    operand_fake_quant: nn.ModuleDict | None

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Gives `function(*args, **kwargs)` on the grid."""
        with own_business():
            if self.operand_fake_quant is not None:
                args = self._quantize_operands(args)
            return self.finish(function(*args, **kwargs))

    def _quantize_operands(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        assert self.operand_fake_quant is not None
        flat: list[Any] = list(args)
        for position, fake_quant in self.operand_fake_quant.items():
            index, *inner = map(int, position.split("_"))
            if inner:  # an operand inside a list: torch.cat([x, constant])
                operands = list(flat[index])
                operands[inner[0]] = fake_quant(operands[inner[0]])
                flat[index] = operands
            else:
                flat[index] = fake_quant(flat[index])
        return tuple(flat)


class Resample(nn.Module):
    """A function whose output keeps its input's grid: interpolate, grid_sample.

    The quantizer belongs to the op that made the input; here it is only borrowed.
    """

    def __init__(self, source: FakeQuantize) -> None:
        super().__init__()
        self._source = (source,)  # in a tuple: not a child, not in the state_dict twice

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Gives `function(*args, **kwargs)` rounded to the grid of its input."""
        with own_business():
            y = self._source[0].requantize(function(*args, **kwargs))
        return mark_region(y)  # type: ignore[no-any-return]
