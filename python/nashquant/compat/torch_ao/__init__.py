"""torch.ao's observers and fake quantizers, by nashquant: the same names, values and checkpoints.

    from nashquant.compat.torch_ao import FakeQuantize, MovingAverageMinMaxObserver

in place of the same names from `torch.ao.quantization`. Nothing here imports torch.ao; where it is loaded, ours work as
members of its QConfigs. docs/torch_ao.md lists what differs.
"""

from __future__ import annotations

from . import fake_quantize, observer
from .accelerate import accelerate
from .fake_quantize import *  # noqa: F403  (all the names in its `__all__`)
from .functional import (
    fake_quantize_per_channel_affine,
    fake_quantize_per_tensor_affine,
    fused_moving_avg_obs_fake_quant,
)
from .observer import *  # noqa: F403  (all the names in its `__all__`)
from .parity import exact_parity
from .redirect import redirect_fake_quantize

__all__ = [
    *fake_quantize.__all__,
    *observer.__all__,
    "accelerate",
    "exact_parity",
    "fake_quantize_per_channel_affine",
    "fake_quantize_per_tensor_affine",
    "fused_moving_avg_obs_fake_quant",
    "redirect_fake_quantize",
]
