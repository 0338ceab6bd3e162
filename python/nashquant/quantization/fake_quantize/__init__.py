"""Fake quantization: the module that does it, how to ask for one, and the states a model can be in."""

from __future__ import annotations

from .cast import FakeCast, Quantizer
from .dynamic import DynamicFakeQuantize
from .learnable import _LearnableFakeQuantize
from .module import FakeQuantize
from .pact import PACTFakeQuantize
from .spec import FakeQuantizeSpec
from .states import FakeQuantState, set_fake_quantize, unset_scales
from .switch import GlobalFakeQuantSwitch
from .warning import CalibrationWarning, Notices

__all__ = [
    "CalibrationWarning",
    "DynamicFakeQuantize",
    "FakeCast",
    "FakeQuantState",
    "FakeQuantize",
    "FakeQuantizeSpec",
    "GlobalFakeQuantSwitch",
    "Notices",
    "PACTFakeQuantize",
    "Quantizer",
    "_LearnableFakeQuantize",
    "set_fake_quantize",
    "unset_scales",
]
