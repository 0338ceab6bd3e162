"""`torch.ao.quantization.fake_quantize`, by nashquant."""

from __future__ import annotations

from . import defaults
from .base import FakeQuantizeBase
from .defaults import *  # noqa: F403  (all the names in its `__all__`)
from .fixed import FixedQParamsFakeQuantize
from .fused import FusedMovingAvgObsFakeQuantize
from .module import FakeQuantize
from .switches import disable_fake_quant, disable_observer, enable_fake_quant, enable_observer

__all__ = [
    *defaults.__all__,
    "FakeQuantize",
    "FakeQuantizeBase",
    "FixedQParamsFakeQuantize",
    "FusedMovingAvgObsFakeQuantize",
    "disable_fake_quant",
    "disable_observer",
    "enable_fake_quant",
    "enable_observer",
]
