"""The vendor-shaped face: quantizers, how they are configured, and `prepare`."""

from nashquant.dtype import qint4, qint8, qint16
from nashquant.nn.stubs import DeQuantStub, QuantStub

from .fake_quantize import CalibrationWarning, FakeQuantize, FakeQuantState, set_fake_quantize
from .observer import HistogramObserver
from .prepare import (
    ModelCheckResult,
    PrepareMethod,
    QconfigSetterBase,
    UnknownOpWarning,
    UnrecordedCallError,
    check_result_of,
    prepare,
)
from .qconfig import QConfig, get_qconfig

__all__ = [
    "CalibrationWarning",
    "DeQuantStub",
    "FakeQuantState",
    "FakeQuantize",
    "HistogramObserver",
    "ModelCheckResult",
    "PrepareMethod",
    "QConfig",
    "QconfigSetterBase",
    "QuantStub",
    "UnknownOpWarning",
    "UnrecordedCallError",
    "check_result_of",
    "get_qconfig",
    "prepare",
    "qint4",
    "qint8",
    "qint16",
    "set_fake_quantize",
]
