"""Fake quantization: the module that does it, how to ask for one, and the states a model can be in."""

from __future__ import annotations

from .module import FakeQuantize
from .spec import FakeQuantizeSpec
from .states import FakeQuantState, set_fake_quantize, unset_scales
from .warning import CalibrationWarning, Notices

__all__ = [
    "CalibrationWarning",
    "FakeQuantState",
    "FakeQuantize",
    "FakeQuantizeSpec",
    "Notices",
    "set_fake_quantize",
    "unset_scales",
]
