"""Ready-made setters. In the tuple given to `prepare`, earlier setters win over later ones."""

from __future__ import annotations

import difflib
import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..dtype import QuantDType, qint8, qint16
from .observer import MinMaxObserver, MSEObserver, ObserverBase
from .prepare.graph import Graph
from .prepare.setter import QconfigSetterBase
from .qconfig import QConfig, activation_spec, weight_spec

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

_log = logging.getLogger("nashquant")


class HighPrecisionOutputTemplate:
    """Leaves a GEMM that feeds only DeQuantStubs in the accumulator's precision."""

    def qconfigs(self, graph: Graph, default: QConfig) -> dict[str, QConfig]:
        """The outputs that can be high precision; logs a warning about those that can't."""
        found = {}
        kinds = graph.march.spec.high_precision_kinds
        for op in graph.ops:
            if op.kind in kinds and graph.feeds_only_dequant(op):
                found[op.name] = default.replace(output=None)
        for name in graph.low_precision_outputs(found):
            _log.warning(
                "the output of %r leaves the chip without high precision: only a conv, linear or matmul whose output "
                "goes directly to a DeQuantStub and nowhere else keeps its accumulator's precision",
                name,
            )
        return found


class GridInt16Template:
    """Gives qint16 to what computes the grid of a grid_sample, back to the first GEMM or QuantStub."""

    def qconfigs(self, graph: Graph, default: QConfig) -> dict[str, QConfig]:
        """`default` with a qint16 output, for those ops."""
        if default.output is None:
            return {}
        wide = default.replace(output=default.output.replace(dtype=qint16))
        return {op.name: wide for grid in graph.sampling_grids() for op in graph.back_from(grid)}


_Template = HighPrecisionOutputTemplate | GridInt16Template


class TemplateQconfigSetter(QconfigSetterBase):
    """Every op gets `default_qconfig`, except where a template says otherwise; the first template wins.

    Args:
        default_qconfig: None: only the templates speak, with weights left to later setters.
        templates: instances or classes; a single template may stand in the place of `default_qconfig`.
    """

    def __init__(
        self,
        default_qconfig: QConfig | _Template | type[_Template] | None = None,
        templates: Sequence[_Template | type[_Template]] = (),
    ) -> None:
        if default_qconfig is not None and not isinstance(default_qconfig, QConfig):
            templates, default_qconfig = (default_qconfig, *templates), None
        self.default_qconfig = default_qconfig
        self.templates = tuple(t() if isinstance(t, type) else t for t in templates)

    def qconfigs(self, graph: Graph) -> dict[str, QConfig]:
        """The default, overlaid by the templates."""
        default = self.default_qconfig
        found = {} if default is None else {op.name: default for op in graph.ops if op.makes_grid}
        for template in reversed(self.templates):
            found |= template.qconfigs(graph, default or QConfig())
        return found

    def __repr__(self) -> str:
        names = ", ".join(type(template).__name__ for template in self.templates)
        return f"TemplateQconfigSetter({self.default_qconfig!r}, [{names}])"


class ModuleNameQconfigSetter(QconfigSetterBase):
    """Says how single ops are quantized, by name: module paths and `_generated_<op>_<i>` as in model_check_result.txt.

    A fused op answers to the name of any of its members.

    Raises (in `prepare`):
        ValueError: a name is no op of the model; near names are listed.
    """

    by_name = True

    def __init__(self, module_name_to_qconfig: Mapping[str, QConfig]) -> None:
        for name, qconfig in module_name_to_qconfig.items():
            if not isinstance(qconfig, QConfig):
                raise TypeError(f"the qconfig of {name!r} must be a QConfig, not {qconfig!r}")
        self.module_name_to_qconfig = dict(module_name_to_qconfig)

    def qconfigs(self, graph: Graph) -> dict[str, QConfig]:
        """The mapping, with names of fused members turned into the names of their ops."""
        ops = _names(graph)
        found = {}
        unknown = []
        for name, qconfig in self.module_name_to_qconfig.items():
            key = name.partition("[")[0]
            if key not in ops:
                unknown.append(f"{name!r}{_near(key, ops)}")
            elif key == ops[key] or ops[key] not in self.module_name_to_qconfig:
                found[ops[key]] = qconfig
        if unknown:
            raise ValueError(
                f"ModuleNameQconfigSetter names what is no quantized op of the model: {'; '.join(unknown)}"
            )
        return found


def _names(graph: Graph) -> dict[str, str]:
    """Each name an op answers to -> the op's own name."""
    return {name: op.name for op in graph.ops if op.makes_grid for name in op.names}


def _near(name: str, ops: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name, ops, n=3, cutoff=0.5) or [op for op in ops if op.startswith(f"{name}.")][:3]
    if not near and len(ops) <= 8:
        near = list(ops)
    return f" (did you mean {', '.join(map(repr, near))}?)" if near else ""


class SensitivityQconfigSetter(QconfigSetterBase):
    """Gives qint16 to the ops whose quantization hurts most.

    Args:
        table: rows `[op name, ..., sensitivity, ...]` of 3 to 7 fields, most sensitive first, as the sensitivity
            analysis saves them; or the path of a `.pt` file with such a table, loaded with `weights_only=True`.
            Where rows say "activation" or "weight", those about weights are passed over.
        qconfig: what those ops get.
        topk: how many ops.
        ratio: or which share of the table's rows, rounded up.

    Raises:
        ValueError: the table has other rows, both or none of topk and ratio are given, or one is out of range;
            in `prepare`, none of the chosen names is an op of the model.
    """

    def __init__(
        self,
        table: Sequence[Sequence[Any]] | str | os.PathLike[str],
        qconfig: QConfig,
        topk: int | None = None,
        ratio: float | None = None,
    ) -> None:
        if (topk is None) == (ratio is None):
            raise ValueError(f"give topk or ratio, one of the two; got topk={topk}, ratio={ratio}")
        if topk is not None and (isinstance(topk, bool) or not isinstance(topk, int) or topk < 0):
            raise ValueError(f"topk must be a whole number, 0 or more, not {topk!r}")
        if ratio is not None and not 0 <= ratio <= 1:
            raise ValueError(f"ratio must lie between 0 and 1, not {ratio!r}")
        names = _ranked_names(table)
        count = topk if topk is not None else math.ceil(ratio * len(names) - 1e-9)  # type: ignore[operator]
        self.names = names[:count]
        self.qconfig = qconfig

    def qconfigs(self, graph: Graph) -> dict[str, QConfig]:
        """`qconfig` for the chosen ops."""
        ops = _names(graph)
        found = {ops[name]: self.qconfig for name in self.names if name in ops}
        if self.names and not found:
            listed = ", ".join(map(repr, self.names[:5]))
            raise ValueError(f"none of the {len(self.names)} sensitive ops ({listed}) is an op of this model")
        missing = [name for name in self.names if name not in ops]
        if missing:
            _log.warning("sensitive ops that this model does not quantize: %s", ", ".join(missing))
        return found


def _ranked_names(table: Sequence[Sequence[Any]] | str | os.PathLike[str]) -> list[str]:
    where = "the sensitivity table"
    if isinstance(table, (str, os.PathLike)):
        where = f"the sensitivity table {os.fspath(table)!r}"
        table = torch.load(table, weights_only=True)
    if not isinstance(table, Sequence) or isinstance(table, (str, bytes)):
        raise ValueError(f"{where} must be a list of rows, not {type(table).__name__}")
    names = []
    for number, row in enumerate(table):
        if not isinstance(row, (list, tuple)) or not 3 <= len(row) <= 7 or not isinstance(row[0], str):
            raise ValueError(
                f"row {number} of {where} must have 3 to 7 fields, the first an op name; it is {row!r}"
            )
        if not any(isinstance(field, (int, float)) and not isinstance(field, bool) for field in row[1:]):
            raise ValueError(f"row {number} of {where} holds no number that could be a sensitivity: {row!r}")
        if "weight" not in row[1:]:
            names.append(row[0].partition("[")[0])
    return list(dict.fromkeys(names))


# The nine setters. Calibration searches the scale with the least squared error; QAT follows min and max of the data
# slowly; with a fixed activation scale it keeps what calibration found.


def _qconfig(observer: type[ObserverBase], dtype: QuantDType, **arguments: Any) -> QConfig:
    return QConfig(output=activation_spec(observer, dtype, **arguments), weight=weight_spec(qint8))


def _base(qconfig: QConfig, *templates: _Template) -> TemplateQconfigSetter:
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
    table: Sequence[Sequence[Any]] | str | os.PathLike[str],
    topk: int | None = None,
    ratio: float | None = None,
) -> SensitivityQconfigSetter:
    """The most sensitive ops get qint16, to calibrate. See `SensitivityQconfigSetter`."""
    return SensitivityQconfigSetter(table, _qconfig(MSEObserver, qint16), topk, ratio)


def sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter(
    table: Sequence[Sequence[Any]] | str | os.PathLike[str],
    topk: int | None = None,
    ratio: float | None = None,
) -> SensitivityQconfigSetter:
    """The most sensitive ops get qint16, to train. See `SensitivityQconfigSetter`."""
    return SensitivityQconfigSetter(table, _qconfig(MinMaxObserver, qint16), topk, ratio)


def sensitive_op_qat_8bit_weight_16bit_fixed_act_qconfig_setter(
    table: Sequence[Sequence[Any]] | str | os.PathLike[str],
    topk: int | None = None,
    ratio: float | None = None,
) -> SensitivityQconfigSetter:
    """The most sensitive ops get qint16 with the scale calibration found, to train. See `SensitivityQconfigSetter`."""
    return SensitivityQconfigSetter(table, _qconfig(MinMaxObserver, qint16, averaging_constant=0.0), topk, ratio)
