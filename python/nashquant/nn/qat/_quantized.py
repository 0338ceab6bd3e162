"""What all modules that carry quantizers share: compute unobserved, then put the output on its grid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nashquant.quantization.fake_quantize import FakeQuantize

__all__ = ["Quantized", "QuantizedOutput", "is_in_region", "mark_region"]

# While it is entered, calls inside an op are the op's own business and are not redirected again.
own_business = torch._C.DisableTorchFunction


def mark_region(x: Any) -> Any:
    """Remembers that the float tensors in `x` (a tensor, a tuple, a list) lie between QuantStub and DeQuantStub."""
    if isinstance(x, Tensor):
        if x.is_floating_point():
            x.in_quantized_region = True  # type: ignore[attr-defined]
    elif isinstance(x, (tuple, list)):
        for item in x:
            mark_region(item)
    return x


def is_in_region(x: Any) -> bool:
    """Whether `x`, or a tensor in it, was marked."""
    if isinstance(x, Tensor):
        return hasattr(x, "in_quantized_region")
    return isinstance(x, (tuple, list)) and any(map(is_in_region, x))


class Quantized(nn.Module):
    """An op on the chip. `activation_post_process` is its output's quantizer; None leaves high precision."""

    activation_post_process: FakeQuantize | None

    def finish(self, y: Any) -> Any:
        """Gives `y` on the output's grid, marked as lying in the quantized region. Call it in `own_business`."""
        if self.activation_post_process is not None:
            y = self.activation_post_process(y)
        return y if torch.compiler.is_compiling() else mark_region(y)


class QuantizedOutput(Quantized):
    """A float module followed by a quantizer."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Gives the float module's output on the grid."""
        with own_business():
            return self.finish(super().forward(*args, **kwargs))
