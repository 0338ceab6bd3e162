"""The setter of the newer API: a reference for the observers, and templates that say dtypes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nashquant.dtype import DType, QuantDType, qint8
from nashquant.op_kind import OpKind
from nashquant.quantization.fake_quantize import FakeQuantizeSpec
from nashquant.quantization.observer import FixedScaleObserver, MinMaxObserver
from nashquant.quantization.prepare.graph import Graph, Op
from nashquant.quantization.prepare.plan import is_activation
from nashquant.quantization.prepare.setter import QconfigSetterBase, Request
from nashquant.quantization.qconfig import QConfig, activation_spec, dynamic_spec, weight_spec

from .dtype_table import Ask, DtypeTable, DtypeTemplate
from .dtype_templates import ModuleNameTemplate
from .module_name import ModuleNameQconfigSetter

__all__ = ["QconfigSetter"]


class QconfigSetter(QconfigSetterBase):
    """Every op's dtypes, from templates of which the later override the earlier.

    It stands alone: the older setters, of which the first wins, can't stand beside it. Both end in the same rules: what
    the march can't do falls back to what it can, and every change is a line of qconfig_changelogs.txt.

    Args:
        reference_qconfig: the observers of activations and weights; `get_qconfig(observer=...)`. Its dtypes count only
            where no template speaks (weights: qint8 else).
        templates: the first says what all ops get, `ModuleNameTemplate({"": qint8})`. Frozen ones may stand before.
        enable_optimize: let `prepare` adjust what is not frozen: an output that only one op reads, which asks for
            another dtype, gets it at once; a conv, linear or matmul that feeds only a DeQuantStub keeps its
            accumulator's precision.
        save_dir: folder for qconfig_changelogs.txt and qconfig_dtypes.pt; that of `prepare` by default.
        custom_qconfig_mapping: name of an op -> the QConfig that it gets in any case.

    Raises:
        TypeError: something else than a template among the templates.
        ValueError: no template says what all ops get, or one that does stands after others.
    """

    stands_alone = True

    def __init__(
        self,
        reference_qconfig: QConfig,
        templates: Sequence[DtypeTemplate],
        enable_optimize: bool = True,
        save_dir: str | os.PathLike[str] | None = None,
        custom_qconfig_mapping: Mapping[str, QConfig] | None = None,
    ) -> None:
        if not isinstance(reference_qconfig, QConfig):
            raise TypeError(f"reference_qconfig takes a QConfig, e.g. get_qconfig(), not {reference_qconfig!r}")
        parts = (reference_qconfig.output, reference_qconfig.input)
        activation = next((part for part in parts if part is not None and part.observer is not None), None)
        if activation is None:
            raise ValueError("reference_qconfig has neither output nor input: it must say how activations are observed")
        _check_templates(templates)
        self.templates, self.enable_optimize, self.save_dir = tuple(templates), enable_optimize, save_dir
        self._activation, self._weight = activation, reference_qconfig.weight or weight_spec(qint8)
        self._custom = ModuleNameQconfigSetter(custom_qconfig_mapping or {})

    def requests(self, graph: Graph) -> dict[str, Request]:
        """What the templates say, with the observers of the reference."""
        table = DtypeTable(graph)
        for template in self.templates:
            template.write(table)
        found = {op.name: self._request(table, op) for op in table.ops}
        return found | self._custom.requests(graph)

    def qconfigs(self, graph: Graph) -> dict[str, QConfig]:
        """The QConfigs among `requests`."""
        return {name: request.qconfig for name, request in self.requests(graph).items()}

    def _request(self, table: DtypeTable, op: Op) -> Request:
        ask = table.asks[op.name]
        output = ask.output or self._activation.dtype
        weight = None if op.kind is not OpKind.GEMM else self._weight_spec(ask.weight)
        spec = self._activation_spec(output, ask.threshold, op.name)
        if ask.dynamic and spec is not None and spec.observer not in (None, FixedScaleObserver):
            spec = dynamic_spec(spec)
        qconfig = QConfig(output=spec, weight=weight)
        return Request(qconfig, self._inputs(table, op, ask), frozenset(ask.frozen), self.enable_optimize)

    def _inputs(self, table: DtypeTable, op: Op, ask: Ask) -> tuple[FakeQuantizeSpec | None, ...]:
        specs = []
        for index in range(max(len(ask.inputs), len(ask.input_thresholds))):
            dtype = ask.inputs[index] if index < len(ask.inputs) else None
            threshold = ask.input_thresholds[index] if index < len(ask.input_thresholds) else None
            if dtype is None and threshold is not None:
                dtype = _arriving(table, op, index) or ask.output or self._activation.dtype
            specs.append(None if dtype is None else self._activation_spec(dtype, threshold, op.name))
        return tuple(specs)

    def _activation_spec(self, dtype: DType, threshold: float | None, name: str) -> FakeQuantizeSpec | None:
        if not isinstance(dtype, QuantDType):
            if threshold is not None:
                raise ValueError(f"a threshold of {threshold} makes no sense with {dtype} (for {name!r})")
            return activation_spec(MinMaxObserver, dtype) if dtype is torch.float16 else None
        if threshold is not None:
            return activation_spec(FixedScaleObserver, dtype, scale=threshold / -dtype.qmin)
        return self._activation.replace(dtype=dtype)

    def _weight_spec(self, dtype: DType | None) -> FakeQuantizeSpec | None:
        if dtype is torch.float32:
            return None
        return self._weight if dtype is None else self._weight.replace(dtype=dtype)

    def __repr__(self) -> str:
        return f"QconfigSetter({self._activation!r}, {list(self.templates)!r})"


def _arriving(table: DtypeTable, op: Op, index: int) -> DType | None:
    """What the op that feeds an operand is asked to give."""
    operands = [operand for operand in op.first.operands if is_activation(op.first, operand.position)]
    source = table.graph.grid_of(operands[index].value) if index < len(operands) else None
    return None if source is None else table.asks[source.name].output


def _check_templates(templates: Any) -> None:
    if isinstance(templates, DtypeTemplate) or not isinstance(templates, Sequence):
        raise TypeError(f"templates takes a list, e.g. [ModuleNameTemplate({{'': qint8}})], not {templates!r}")
    for template in templates:
        if isinstance(template, QconfigSetterBase):
            raise TypeError(
                f"{template!r} is a setter of the older API, not a template: give prepare a tuple of such setters "
                "(the first wins), or say the same in templates (the last wins)"
            )
        if not isinstance(template, DtypeTemplate):
            raise TypeError(f"{template!r} is no template of QconfigSetter, e.g. ModuleNameTemplate({{'': qint8}})")
    general = [i for i, template in enumerate(templates) if _is_general(template)]
    loose = [i for i, template in enumerate(templates) if not getattr(template, "freeze", False)]
    if not general:
        raise ValueError(
            "no template says what all ops get: put ModuleNameTemplate({'': qint8}) first, which later "
            "templates override"
        )
    if loose[0] != general[0]:
        raise ValueError(
            f"{templates[general[0]]!r} at place {general[0]} would override what stands before it: later templates "
            "win, so what all ops get stands first (in a tuple of the older setters it stood last)"
        )
    if len(general) > 1:
        raise ValueError(f"{templates[general[1]]!r} at place {general[1]} would override all that stands before it")


def _is_general(template: DtypeTemplate) -> bool:
    return isinstance(template, ModuleNameTemplate) and "" in template.config_mapping and not template.freeze
