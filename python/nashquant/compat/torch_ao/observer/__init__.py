"""`torch.ao.quantization.observer`, by nashquant."""

from __future__ import annotations

from . import defaults
from .base import ObserverBase
from .defaults import *  # noqa: F403  (all the names in its `__all__`)
from .histogram import HistogramObserver
from .min_max import MinMaxObserver, MovingAverageMinMaxObserver
from .passive import (
    FixedQParamsObserver,
    NoopObserver,
    PlaceholderObserver,
    RecordingObserver,
    ReuseInputObserver,
)
from .per_channel import MovingAveragePerChannelMinMaxObserver, PerChannelMinMaxObserver
from .state import get_observer_state_dict, load_observer_state_dict
from .uniform import UniformQuantizationObserverBase

__all__ = [
    *defaults.__all__,
    "FixedQParamsObserver",
    "HistogramObserver",
    "MinMaxObserver",
    "MovingAverageMinMaxObserver",
    "MovingAveragePerChannelMinMaxObserver",
    "NoopObserver",
    "ObserverBase",
    "PerChannelMinMaxObserver",
    "PlaceholderObserver",
    "RecordingObserver",
    "ReuseInputObserver",
    "UniformQuantizationObserverBase",
    "get_observer_state_dict",
    "load_observer_state_dict",
]
