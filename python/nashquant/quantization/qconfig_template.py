"""Ready-made setters. In the tuple given to `prepare`, earlier setters win over later ones."""

from __future__ import annotations

from typing import Any

from nashquant.dtype import QuantDType, qint8, qint16

from .observer import MinMaxObserver, MSEObserver, ObserverBase
from .qconfig import QConfig, activation_spec, weight_spec
from .setter import (
    GridInt16Template,
    HighPrecisionOutputTemplate,
    ModuleNameQconfigSetter,
    QconfigSetterBase,
    SensitivityQconfigSetter,
    SensitivityTable,
    Template,
    TemplateQconfigSetter,
)

__all__ = [
    "GridInt16Template",
    "HighPrecisionOutputTemplate",
    "ModuleNameQconfigSetter",
    "QconfigSetterBase",
    "SensitivityQconfigSetter",
    "TemplateQconfigSetter",
    "calibration_8bit_weight_16bit_act_qconfig_setter",
    "default_calibration_qconfig_setter",
    "default_qat_fixed_act_qconfig_setter",
    "default_qat_qconfig_setter",
    "qat_8bit_weight_16bit_act_qconfig_setter",
    "qat_8bit_weight_16bit_fixed_act_qconfig_setter",
    "sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter",
    "sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter",
    "sensitive_op_qat_8bit_weight_16bit_fixed_act_qconfig_setter",
]

# The nine setters. Calibration searches the scale with the least squared error; QAT follows min and max of the data
# slowly; with a fixed activation scale it keeps what calibration found.


def _qconfig(observer: type[ObserverBase], dtype: QuantDType, **arguments: Any) -> QConfig:
    return QConfig(output=activation_spec(observer, dtype, **arguments), weight=weight_spec(qint8))


def _base(qconfig: QConfig, *templates: Template) -> TemplateQconfigSetter:
    return TemplateQconfigSetter(qconfig, (HighPrecisionOutputTemplate(), *templates))


default_calibration_qconfig_setter = _base(_qconfig(MSEObserver, qint8), GridInt16Template())
default_qat_qconfig_setter = _base(_qconfig(MinMaxObserver, qint8), GridInt16Template())
default_qat_fixed_act_qconfig_setter = _base(
    _qconfig(MinMaxObserver, qint8, averaging_constant=0.0), GridInt16Template()
)

calibration_8bit_weight_16bit_act_qconfig_setter = _base(_qconfig(MSEObserver, qint16))
qat_8bit_weight_16bit_act_qconfig_setter = _base(_qconfig(MinMaxObserver, qint16))
qat_8bit_weight_16bit_fixed_act_qconfig_setter = _base(_qconfig(MinMaxObserver, qint16, averaging_constant=0.0))


def sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(
    table: SensitivityTable,
    topk: int | None = None,
    ratio: float | None = None,
) -> SensitivityQconfigSetter:
    """The most sensitive ops get qint16, to calibrate. See `SensitivityQconfigSetter`."""
    return SensitivityQconfigSetter(table, _qconfig(MSEObserver, qint16), topk, ratio)


def sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter(
    table: SensitivityTable,
    topk: int | None = None,
    ratio: float | None = None,
) -> SensitivityQconfigSetter:
    """The most sensitive ops get qint16, to train. See `SensitivityQconfigSetter`."""
    return SensitivityQconfigSetter(table, _qconfig(MinMaxObserver, qint16), topk, ratio)


def sensitive_op_qat_8bit_weight_16bit_fixed_act_qconfig_setter(
    table: SensitivityTable,
    topk: int | None = None,
    ratio: float | None = None,
) -> SensitivityQconfigSetter:
    """The most sensitive ops get qint16 with the scale calibration found, to train. See `SensitivityQconfigSetter`."""
    return SensitivityQconfigSetter(table, _qconfig(MinMaxObserver, qint16, averaging_constant=0.0), topk, ratio)
