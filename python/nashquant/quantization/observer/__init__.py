"""Observers: they look at tensors and choose the range to quantize."""

from __future__ import annotations

from .accumulating import AccumulatingObserver
from .arguments import accepted_arguments
from .base import ObserverBase
from .clip import ClipObserver, ClipStdObserver
from .exact_buffers import ExactBuffers
from .fixed_scale import FixedScaleObserver, check_scale, check_zero_point
from .histogram import HistogramObserver
from .kl import KLObserver
from .looking import is_recomputing, refuse_transforms
from .min_max import MinMaxObserver
from .mix import MixObserver
from .mse import MSEObserver
from .percentile import PercentileObserver
from .scale import EPSILON, power_of_two, range_from_scale, scale_from_range
from .synchronize import join_ranges, synchronize_observers

__all__ = [
    "EPSILON",
    "AccumulatingObserver",
    "ClipObserver",
    "ClipStdObserver",
    "ExactBuffers",
    "FixedScaleObserver",
    "HistogramObserver",
    "KLObserver",
    "MSEObserver",
    "MinMaxObserver",
    "MixObserver",
    "ObserverBase",
    "PercentileObserver",
    "accepted_arguments",
    "check_scale",
    "check_zero_point",
    "is_recomputing",
    "join_ranges",
    "power_of_two",
    "range_from_scale",
    "refuse_transforms",
    "scale_from_range",
    "synchronize_observers",
]
