"""Setters: they say how ops are quantized. The vendor keeps them in `qconfig_template` and `qconfig_setter`."""

from nashquant.quantization.prepare.setter import QconfigSetterBase

from .dtype_table import DtypeTable, DtypeTemplate
from .dtype_templates import (
    ConvDtypeTemplate,
    MatmulDtypeTemplate,
    ModuleNameTemplate,
    SensitivityTemplate,
    SetDynamicQuantTemplate,
)
from .module_name import ModuleNameQconfigSetter
from .qconfig_setter import QconfigSetter
from .sensitivity import SensitivityQconfigSetter
from .sensitivity_table import SensitivityTable, sensitivity_rows
from .template import GridInt16Template, HighPrecisionOutputTemplate, Template, TemplateQconfigSetter

__all__ = [
    "ConvDtypeTemplate",
    "DtypeTable",
    "DtypeTemplate",
    "GridInt16Template",
    "HighPrecisionOutputTemplate",
    "MatmulDtypeTemplate",
    "ModuleNameQconfigSetter",
    "ModuleNameTemplate",
    "QconfigSetter",
    "QconfigSetterBase",
    "SensitivityQconfigSetter",
    "SensitivityTable",
    "SensitivityTemplate",
    "SetDynamicQuantTemplate",
    "Template",
    "TemplateQconfigSetter",
    "sensitivity_rows",
]
