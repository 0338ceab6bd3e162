"""Setters: they say how ops are quantized. `qconfig_template` is where the vendor keeps them."""

from nashquant.quantization.prepare.setter import QconfigSetterBase

from .module_name import ModuleNameQconfigSetter
from .sensitivity import SensitivityQconfigSetter, SensitivityTable
from .template import GridInt16Template, HighPrecisionOutputTemplate, Template, TemplateQconfigSetter

__all__ = [
    "GridInt16Template",
    "HighPrecisionOutputTemplate",
    "ModuleNameQconfigSetter",
    "QconfigSetterBase",
    "SensitivityQconfigSetter",
    "SensitivityTable",
    "Template",
    "TemplateQconfigSetter",
]
