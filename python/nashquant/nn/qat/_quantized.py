"""What all modules that carry quantizers share: compute unobserved, then put the output on its grid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.nn.modules.module import (
    _global_backward_hooks,
    _global_backward_pre_hooks,
    _global_forward_hooks,
    _global_forward_pre_hooks,
)

from nashquant import ops
from nashquant.quantization.fake_quantize import FakeQuantize, Quantizer

__all__ = ["Quantized", "QuantizedOutput", "is_in_region", "mark_region", "set_apart"]

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


def set_apart(x: Tensor) -> Tensor:
    """A copy of `x` to compute with, where the result is then written into `x`: autograd may have kept the copy."""
    y = x.clone()
    return mark_region(y) if is_in_region(x) else y


def on_grid(quantizer: Any, y: Any, clamp: ops.Clamp | None = None) -> Any:
    """Gives `y`, clamped, as `quantizer` leaves it, marked as in the quantized region. Call it in `own_business`."""
    if clamp is not None and type(quantizer) is not FakeQuantize:  # a subclass may know no clamp
        y, clamp = clamp.function(y), None
    if is_compiling():
        return y if quantizer is None else quantizer(y) if clamp is None else quantizer(y, clamp)
    if quantizer is None:
        return mark_region(y)
    # An attribute of an nn.Module takes three times as long as an item of its `__dict__`.
    state = quantizer.__dict__
    if (  # a call of the module is more than its forward
        state["_forward_hooks"]
        or state["_forward_pre_hooks"]
        or state["_backward_hooks"]
        or state["_backward_pre_hooks"]
        or "_compiled_call_impl" in state
        or _global_forward_hooks
        or _global_forward_pre_hooks
        or _global_backward_hooks
        or _global_backward_pre_hooks
    ):
        y = quantizer(y) if clamp is None else quantizer(y, clamp)
    elif type(quantizer) is not FakeQuantize:
        y = quantizer.forward(y)
    elif state["_quantizes"] or state["_observes"]:
        y = FakeQuantize.forward(quantizer, y, clamp)
    elif clamp is not None:
        y = clamp.function(y)
    y.in_quantized_region = True  # as mark_region: what a quantizer gives is one tensor of floats
    return y


class Quantized(nn.Module):
    """An op on the chip.

    Attributes:
        activation_post_process: the output's quantizer; None leaves high precision.
        input_fake_quant: quantizer of an input that arrives in float, where the QConfig asks for one.
        also_float: whether the float model calls this module outside the stubs too; there it stays float.
        writes_back: whether the float module worked in place, and the model goes on with its input.
    """

    activation_post_process: Quantizer | None
    input_fake_quant: Quantizer | None
    also_float: bool = False
    writes_back: bool = False

    def finish(self, y: Any, clamp: ops.Clamp | None = None) -> Any:
        """Gives `y`, clamped, on the output's grid, marked as in the quantized region. Call it in `own_business`."""
        return on_grid(self._modules["activation_post_process"], y, clamp)

    def enter(self, x: Any) -> Any:
        """Gives `x` as the op takes it."""
        quantizer = self._modules["input_fake_quant"]
        return x if quantizer is None else quantizer(x)

    def is_outside(self, *args: Any) -> bool:
        """Whether this call is one outside the stubs."""
        if not self.also_float:
            return False
        if is_compiling():
            raise NotImplementedError(
                f"{type(self).__name__} is called inside and outside the stubs, which a compiler can't tell apart: "
                "use two modules"
            )
        return not any(map(is_in_region, args))

    def float_forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the float module gives."""
        return super().forward(*args, **kwargs)


class QuantizedOutput(Quantized):
    """A float module followed by a quantizer.

    Attributes:
        clamp: what the float module computes, where its quantizer can do that in the same pass.
    """

    clamp: ops.Clamp | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Gives the float module's output on the grid."""
        if self.is_outside(*args, *kwargs.values()):
            return self.float_forward(*args, **kwargs)
        with own_business():
            given = (set_apart(args[0]), *args[1:]) if self.writes_back else args
            entered = (self.enter(given[0]), *given[1:]) if given else given
            if self.clamp is None or kwargs:
                y = self.finish(self.float_forward(*entered, **kwargs))
            else:
                y = self.finish(entered[0], self.clamp)
            return args[0].copy_(y) if self.writes_back else y
