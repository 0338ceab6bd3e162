"""What makes a quantized model better without training it: before `prepare` (`equalize`) or after calibration."""

from __future__ import annotations

from .auto_calibrate import auto_calibrate
from .correct_bias import correct_bias
from .equalize import equalize
from .reconstruct import Reconstruction, weight_reconstruction

__all__ = ["Reconstruction", "auto_calibrate", "correct_bias", "equalize", "weight_reconstruction"]
