"""What a moving average, its scale and the rounding take together: one call of a kernel, where it is the usual case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from nashquant import ops
from nashquant.compat.torch_ao.observer import MovingAverageMinMaxObserver
from nashquant.compat.torch_ao.observer.qparams import is_symmetric
from nashquant.compat.torch_ao.parity import is_exact

if TYPE_CHECKING:
    from .module import FakeQuantize

__all__ = ["observed_in_one_call"]


def observed_in_one_call(quantizer: FakeQuantize, x: Tensor) -> Tensor | None:
    """`x` as `quantizer` observes and rounds it; None, and nothing was changed, where that takes several steps."""
    # Past `Module.__getattr__`, which takes longer for all of these than the kernel for 1K elements.
    observer = quantizer._modules["activation_post_process"]
    if (
        type(observer) is not MovingAverageMinMaxObserver
        or observer.is_sync_quantize
        or observer._forward_hooks
        or observer._forward_pre_hooks
        or is_exact()
    ):
        return None
    held, own = observer._buffers, quantizer._buffers
    state = (held["min_val"], held["max_val"], own["scale"], own["zero_point"])
    try:
        return ops.fake_quantize_observed_as_torch_per_tensor(
            x,
            *state,  # type: ignore[arg-type]  # buffers that are there
            observer.averaging_constant,
            observer.quant_min,
            observer.quant_max,
            "symmetric" if is_symmetric(observer.qscheme) else "affine",
            middle=observer._middle(),
            least_scale=held["eps"].item(),  # type: ignore[union-attr]
        )
    except (TypeError, ValueError, OverflowError):
        return None
