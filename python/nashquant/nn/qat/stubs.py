"""The two doors of the quantized region."""

from __future__ import annotations

import torch
from torch import Tensor

from nashquant.nn import stubs

from ._quantized import Quantized, own_business

__all__ = ["DeQuantStub", "QuantStub"]


_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class QuantStub(Quantized, stubs.QuantStub):
    """Puts a float tensor on its grid."""

    def forward(self, x: Tensor) -> Tensor:
        """Gives `x`, any shape, on the grid.

        Raises:
            TypeError: `x` is not a tensor of float32, float64, bfloat16 or float16.
            ValueError: `x` is on another device than the model.
        """
        with own_business():
            quantizer = self.activation_post_process
            name = quantizer.name if quantizer is not None else ""
            if not isinstance(x, Tensor) or x.dtype not in _FLOATS:
                what = f"a {x.dtype} tensor" if isinstance(x, Tensor) else f"a {type(x).__name__}"
                raise TypeError(
                    f"QuantStub takes a float32, float64, bfloat16 or float16 tensor, not {what} (in {name!r})"
                )
            device = x.device if quantizer is None else quantizer.fake_quant_enabled.device
            if x.device != device:
                raise ValueError(f"the model is on {device}, but x is on {x.device} (in {name!r})")
            if not torch.compiler.is_compiling():
                x = x.view_as(x)  # another handle: the caller's own tensor gets no mark
            return self.finish(x)  # type: ignore[no-any-return]


class DeQuantStub(stubs.DeQuantStub):
    """Gives the tensor back to the float world."""

    def forward(self, x: Tensor) -> Tensor:
        """Gives `x`, no longer marked as quantized."""
        if torch.compiler.is_compiling():
            return x
        with own_business():  # the mark would travel to the view
            return x.view_as(x)
