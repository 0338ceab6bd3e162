"""The newer way to say how ops are quantized: one setter, and templates of which the later override the earlier.

>>> from nashquant.dtype import qint8, qint16
>>> from nashquant.quantization.qconfig import get_qconfig
>>> setter = QconfigSetter(
...     get_qconfig(),
...     [ModuleNameTemplate({"": qint8, "head": qint16}), ConvDtypeTemplate(qint8, qint8), MatmulDtypeTemplate(qint8)],
... )
"""

from .setter import (
    ConvDtypeTemplate,
    DtypeTemplate,
    MatmulDtypeTemplate,
    ModuleNameTemplate,
    QconfigSetter,
    SensitivityTemplate,
    SetDynamicQuantTemplate,
)

__all__ = [
    "ConvDtypeTemplate",
    "DtypeTemplate",
    "MatmulDtypeTemplate",
    "ModuleNameTemplate",
    "QconfigSetter",
    "SensitivityTemplate",
    "SetDynamicQuantTemplate",
]
