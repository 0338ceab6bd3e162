"""The vendor-shaped face: quantizers, how they are configured, and `prepare`."""

from nashquant.dtype import qint4, qint8, qint16
from nashquant.nn.qat import freeze_bn_stats, update_bn_stats
from nashquant.nn.stubs import DeQuantStub, QuantStub
from nashquant.qat_mode import QATMode, get_qat_mode, set_qat_mode

from .fake_quantize import (
    CalibrationWarning,
    FakeCast,
    FakeQuantize,
    FakeQuantState,
    GlobalFakeQuantSwitch,
    set_fake_quantize,
)
from .observer import HistogramObserver, synchronize_observers
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
from .qconfig_setter import QconfigSetter
from .tuning import auto_calibrate, correct_bias, equalize, weight_reconstruction

__all__ = [
    "CalibrationWarning",
    "DeQuantStub",
    "FakeCast",
    "FakeQuantState",
    "FakeQuantize",
    "GlobalFakeQuantSwitch",
    "HistogramObserver",
    "ModelCheckResult",
    "PrepareMethod",
    "QATMode",
    "QConfig",
    "QconfigSetter",
    "QconfigSetterBase",
    "QuantStub",
    "UnknownOpWarning",
    "UnrecordedCallError",
    "auto_calibrate",
    "check_result_of",
    "correct_bias",
    "equalize",
    "freeze_bn_stats",
    "get_qat_mode",
    "get_qconfig",
    "prepare",
    "qint4",
    "qint8",
    "qint16",
    "set_fake_quantize",
    "set_qat_mode",
    "synchronize_observers",
    "update_bn_stats",
    "weight_reconstruction",
]
