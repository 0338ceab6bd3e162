"""Half precision instead of integers, for the marches that compute in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.compiler import is_compiling

from nashquant import ops
from nashquant.quantization.observer import ExactBuffers

from .module import FakeQuantize
from .spec import FakeQuantizeSpec
from .warning import Notices

__all__ = ["FakeCast", "Quantizer"]


class FakeCast(ExactBuffers):
    """Rounds a tensor to float16 and gives it back in its own dtype.

    `y = clamp(x, min_val, max_val)` rounded to float16, ties to even: a value beyond float16 saturates, as it does on
    an integer grid, where a plain cast would give infinity (which of the two the chip does is not public). NaN stays
    NaN. The gradient passes in full precision where nothing was clamped. There is nothing to observe; in CALIBRATION
    values pass as they are.

    >>> FakeCast()(torch.tensor([0.1, 1e6, -0.0]))
    tensor([9.9976e-02, 6.5504e+04, -0.0000e+00])

    Args:
        dtype: torch.float16.

    Attributes:
        min_val, max_val: the ends of float16.
        name: where this sits in the model, for messages; `prepare` sets it.

    Raises:
        TypeError: another dtype.
    """

    fake_quant_enabled: Tensor

    enabled: bool = True
    """Of all FakeCasts of the process: whether they cast."""

    def __init__(self, dtype: torch.dtype = torch.float16) -> None:
        super().__init__()
        if dtype is not torch.float16:
            raise TypeError(f"FakeCast takes torch.float16, not {dtype!r}; for integers take FakeQuantize")
        self.dtype = dtype
        self.min_val, self.max_val = torch.finfo(dtype).min, torch.finfo(dtype).max
        self.name = ""
        self._casts = True
        self.register_buffer("fake_quant_enabled", torch.ones(1, dtype=torch.uint8))

    @classmethod
    def with_args(cls, **kwargs: Any) -> FakeQuantizeSpec:
        """How to make one: a frozen value for a QConfig.

        >>> FakeCast.with_args(dtype=torch.float16)
        FakeCast.with_args(dtype=torch.float16)

        Raises:
            TypeError: as the class itself, at once.
        """
        return FakeQuantizeSpec.of(cls, None, {"dtype": torch.float16, **kwargs})

    @classmethod
    def enable(cls) -> None:
        """Has every FakeCast of the process do what its state says, from here on."""
        FakeCast.enabled = True

    @classmethod
    def disable(cls) -> None:
        """Has every FakeCast of the process give what it gets, from here on; see `GlobalFakeQuantSwitch`."""
        FakeCast.enabled = False

    def forward(self, x: Tensor, clamp: ops.Clamp | None = None) -> Tensor:
        """Gives `x`, or what `clamp` makes of it, in the precision of float16.

        Raises:
            TypeError: `x` is not floating point.
        """
        return self.requantize(x if clamp is None else clamp.function(x))

    def requantize(self, x: Tensor) -> Tensor:
        """The same, for ops that keep their input's precision."""
        if not x.is_floating_point():
            raise TypeError(f"x is {x.dtype}, expected floating point (while casting {self.name!r})")
        if not (self._casts and FakeCast.enabled):
            return x
        if is_compiling() and torch.compiler.is_exporting():
            return _cast(x)
        return _Cast.apply(x)  # type: ignore[no-untyped-call,no-any-return]

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Rounds what comes."""
        self._casts = bool(enabled)
        self.fake_quant_enabled.fill_(int(enabled))

    def disable_fake_quant(self) -> None:
        """Lets everything pass as it is."""
        self.enable_fake_quant(False)

    def enable_observer(self, enabled: bool = True) -> None:
        """Nothing: there is none."""

    def share_notices(self, notices: Notices) -> None:
        """Nothing: there is nothing to say."""

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._casts = bool(self.fake_quant_enabled.item())

    def extra_repr(self) -> str:
        """The dtype and its ends."""
        return f"dtype={self.dtype}, min_val={self.min_val:g}, max_val={self.max_val:g}"


Quantizer = FakeQuantize | FakeCast
"""What a QConfig can put at a tensor."""

_ENDS = torch.finfo(torch.float16)


def _wide(x: Tensor) -> Tensor:
    """`x` in a dtype that holds the ends: bfloat16 makes 65536 of 65504, which is beyond float16."""
    return x.float() if x.dtype is torch.bfloat16 else x


def _cast(x: Tensor) -> Tensor:
    return _wide(x).clamp(_ENDS.min, _ENDS.max).to(torch.float16).to(x.dtype)


class _Cast(Function):
    """`_cast`, with a gradient that is not rounded."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _cast(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        (x,) = inputs
        wide = _wide(x)
        ctx.save_for_backward((wide >= _ENDS.min) & (wide <= _ENDS.max))

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Tensor:
        (inside,) = ctx.saved_tensors
        grad_x: Tensor = grad_y * inside
        return grad_x
