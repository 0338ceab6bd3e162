"""The two doors of the quantized region."""

from __future__ import annotations

import torch
from torch import Tensor

from nashquant.nn import stubs

from ._quantized import Quantized, own_business

__all__ = ["DeQuantStub", "QuantStub"]


class QuantStub(Quantized, stubs.QuantStub):
    """Puts a float tensor on its grid."""

    def forward(self, x: Tensor) -> Tensor:
        """Gives `x`, any shape, on the grid.

        Raises:
            TypeError: `x` is not a float tensor.
        """
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            what = f"a {x.dtype} tensor" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            name = self.activation_post_process.name if self.activation_post_process is not None else ""
            raise TypeError(f"QuantStub takes a float tensor, not {what} (in {name!r})")
        with own_business():
            return self.finish(x)  # type: ignore[no-any-return]


class DeQuantStub(stubs.DeQuantStub):
    """Gives the tensor back to the float world."""

    def forward(self, x: Tensor) -> Tensor:
        """Gives `x`, no longer marked as quantized."""
        if torch.compiler.is_compiling():
            return x
        with own_business():  # the mark would travel to the view
            return x.view_as(x)
