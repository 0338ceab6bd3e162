"""The templates of `QconfigSetter`: dtypes by name, by kind of op, by sensitivity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nashquant.dtype import DType, QuantDType, qint8, qint16
from nashquant.op_kind import OpKind
from nashquant.quantization.prepare.graph import Op

from .dtype_table import (
    DtypeTable,
    DtypeTemplate,
    lies_below,
    parsed_dtype,
    parsed_inputs,
    parsed_threshold,
    parsed_weight,
)
from .near import near
from .sensitivity_table import SensitivityTable, first, sensitivity_rows

__all__ = [
    "ConvDtypeTemplate",
    "MatmulDtypeTemplate",
    "ModuleNameTemplate",
    "SensitivityTemplate",
    "SetDynamicQuantTemplate",
]

_Said = dict[str, Any]


class ModuleNameTemplate(DtypeTemplate):
    """Dtypes and thresholds by module name.

    A key is the name of an op or of a module around it; "" means all. Where several fit, the closest one has the last
    word: the op's own name, then that of a module fused into it, then the longest prefix. A value is

    - a dtype: of the output;
    - `{"input": ..., "weight": ..., "output": ...}`: dtypes of the parts; of the input one for the first operand, or a
      list;
    - `{"dtype": ..., "threshold": ...}`: either of the two above, and the greatest value instead of the observed one:
      of the output, or `{"input": ..., "output": ...}`. `scale = threshold / -qmin`.

    A dtype is `qint8`, `qint16`, `torch.float16` (on the marches that have it), or `torch.float32` for "not quantized";
    names ("qint8") will do, so that the table in qconfig_dtypes.pt can be given back.

    >>> ModuleNameTemplate({"": qint8, "head": {"dtype": qint16, "threshold": 4.0}})
    ModuleNameTemplate({'': qint8, 'head': {'dtype': qint16, 'threshold': 4.0}}, freeze=False)

    Args:
        config_mapping: the names and values.
        freeze: what is said here is changed neither by later templates nor by `prepare`; what the march can't do is
            an error then.

    Raises:
        TypeError, ValueError: a key or value of another kind. In `prepare` ValueError: a name that is not in the
            model; near names are listed.
    """

    def __init__(self, config_mapping: Mapping[str, Any], freeze: bool = False) -> None:
        if not isinstance(config_mapping, Mapping):
            kind = type(config_mapping).__name__
            raise TypeError(f"ModuleNameTemplate takes a dict of module name to dtype, not a {kind}")
        for name in config_mapping:
            if not isinstance(name, str):
                raise TypeError(f"a module name must be a string, not {name!r}")
        self.config_mapping, self.freeze = dict(config_mapping), freeze
        self._said = {name: _said_of(value, f"ModuleNameTemplate[{name!r}]") for name, value in config_mapping.items()}

    def write(self, table: DtypeTable) -> None:
        """Writes each key's values, the closest key last."""
        self._check_names(table)
        for op in table.ops:
            fitting = [key for key in self._said if any(lies_below(name, _bare(key)) for name in op.names)]
            for key in sorted(fitting, key=lambda key: _closeness(op, _bare(key))):
                for part, said in self._said[key].items():
                    if part != "weight" or op.kind is OpKind.GEMM:
                        table.say(op, part, **said)
            if self.freeze:
                table.asks[op.name].frozen |= {part for key in fitting for part in self._said[key]}

    def _check_names(self, table: DtypeTable) -> None:
        known = {name for op in table.ops for name in op.names}
        others = {node.path for node in table.graph.nodes}
        unknown = []
        for key in map(_bare, self._said):
            if any(lies_below(name, key) for name in known):
                continue
            if any(lies_below(name, key) for name in others):
                table.graph.warnings.append(f"ModuleNameTemplate names {key!r}, which has no quantizer of its own")
            else:
                unknown.append(f"{key!r}{near(key, known)}")
        if unknown:
            raise ValueError(f"ModuleNameTemplate names what is no op of the model: {'; '.join(unknown)}")

    def __repr__(self) -> str:
        return f"ModuleNameTemplate({self.config_mapping!r}, freeze={self.freeze})"


def _bare(key: str) -> str:
    return key.partition("[")[0]


def _closeness(op: Op, key: str) -> tuple[int, int]:
    exact = 2 if key == op.name else 1 if key in op.names else 0
    return exact, len(key)


def _said_of(value: Any, what: str) -> dict[str, _Said]:
    """Part -> what is said about it."""
    if not isinstance(value, Mapping):
        return {"output": {"output": parsed_dtype(value, what)}}
    keys = {"dtype", "threshold"} if {"dtype", "threshold"} & value.keys() else {"input", "weight", "output"}
    if not value or value.keys() - keys:
        raise ValueError(
            f"{what} takes a dtype, or a dict with 'dtype' and 'threshold', or with 'input', 'weight' and 'output', "
            f"not {dict(value)!r}"
        )
    dtypes = value.get("dtype", {}) if "dtype" in keys else value
    said = _dtypes_of(dtypes, what)
    threshold = value.get("threshold", {}) if "dtype" in keys else {}
    thresholds = threshold if isinstance(threshold, Mapping) else {"output": threshold}
    if thresholds.keys() - {"input", "output"}:
        raise ValueError(f"{what}: a threshold is for 'input' or 'output', not {dict(thresholds)!r}")
    if "output" in thresholds:
        said.setdefault("output", {})["threshold"] = parsed_threshold(thresholds["output"], f"{what}: threshold")
    if "input" in thresholds:
        each = thresholds["input"] if isinstance(thresholds["input"], (list, tuple)) else [thresholds["input"]]
        parsed = tuple(None if one is None else parsed_threshold(one, f"{what}: threshold") for one in each)
        said.setdefault("input", {})["input_thresholds"] = parsed
    return said


def _dtypes_of(dtypes: Any, what: str) -> dict[str, _Said]:
    if not isinstance(dtypes, Mapping):
        return {"output": {"output": parsed_dtype(dtypes, what)}}
    said: dict[str, _Said] = {}
    if dtypes.get("input") is not None:
        said["input"] = {"inputs": parsed_inputs(dtypes["input"], f"{what}: input")}
    for part in ("weight", "output"):
        if dtypes.get(part) is not None:
            parsed = parsed_weight if part == "weight" else parsed_dtype
            said[part] = {part: parsed(dtypes[part], f"{what}: {part}")}
    return said


class ConvDtypeTemplate(DtypeTemplate):
    """The input and the weight of every conv, transposed conv and linear.

    Args:
        input_dtype: an input on another grid is requantized, or made so where nobody else reads it.
        weight_dtype: qint8 or qint16.
        prefix: only ops below these module names; all by default.

    Raises:
        TypeError: a dtype of another kind. To leave single ops in floating point is for ModuleNameTemplate.
    """

    def __init__(
        self, input_dtype: QuantDType, weight_dtype: QuantDType, prefix: str | Sequence[str] | None = None
    ) -> None:
        self.inputs = parsed_inputs(input_dtype, "ConvDtypeTemplate's input_dtype")
        self.weight = parsed_weight(weight_dtype, "ConvDtypeTemplate's weight_dtype")
        if self.weight is torch.float32:
            raise TypeError(
                "ConvDtypeTemplate's weight_dtype is torch.float32, but it says how weights are quantized: take qint8 "
                'or qint16. ModuleNameTemplate({"...": {"weight": torch.float32}}) leaves single ones in floating point'
            )
        self.prefix = prefix

    def write(self, table: DtypeTable) -> None:
        """Writes both for each op with a weight."""
        for op in table.below(self.prefix):
            if op.kind is OpKind.GEMM:
                table.say(op, "input", inputs=self.inputs)
                table.say(op, "weight", weight=self.weight)

    def __repr__(self) -> str:
        return f"ConvDtypeTemplate({self.inputs[0]}, {self.weight}, prefix={self.prefix!r})"


class MatmulDtypeTemplate(DtypeTemplate):
    """The two operands of every matmul.

    Args:
        input_dtypes: one for both, or `[left, right]`.
        prefix: only ops below these module names; all by default.
    """

    def __init__(
        self, input_dtypes: QuantDType | Sequence[QuantDType], prefix: str | Sequence[str] | None = None
    ) -> None:
        both = input_dtypes if isinstance(input_dtypes, (list, tuple)) else [input_dtypes] * 2
        self.inputs = parsed_inputs(both, "MatmulDtypeTemplate's input_dtypes")
        if len(self.inputs) != 2:
            raise ValueError(f"MatmulDtypeTemplate takes one dtype or two, [left, right], not {input_dtypes!r}")
        self.prefix = prefix

    def write(self, table: DtypeTable) -> None:
        """Writes them for each matmul."""
        for op in table.below(self.prefix):
            if op.kind is OpKind.MATMUL:
                table.say(op, "input", inputs=self.inputs)

    def __repr__(self) -> str:
        return f"MatmulDtypeTemplate({list(self.inputs)}, prefix={self.prefix!r})"


class SetDynamicQuantTemplate(DtypeTemplate):
    """The outputs of these ops take their scale from each tensor (`DynamicFakeQuantize`); their dtypes stay.

    The vendor documents the name of this template and not its arguments; these are our choice.

    Args:
        names: only ops below these module names; all by default.

    Raises:
        ValueError: in `prepare`, a name that is not in the model; near names are listed.
    """

    def __init__(self, names: str | Sequence[str] | None = None) -> None:
        self.names = names

    def write(self, table: DtypeTable) -> None:
        """Writes it for each of these ops that has a grid."""
        names = [self.names] if isinstance(self.names, str) else self.names
        known = {name for op in table.ops for name in op.names}
        for name in names or ():
            if not any(lies_below(each, name) for each in known):
                raise ValueError(
                    f"SetDynamicQuantTemplate names {name!r}, which is no op of the model{near(name, known)}"
                )
        for op in table.below(names):
            table.say(op, "output", dynamic=True)

    def __repr__(self) -> str:
        return f"SetDynamicQuantTemplate({self.names!r})"


class SensitivityTemplate(DtypeTemplate):
    """The ops whose quantization hurts most get a wide dtype; the others of the table a narrow one.

    Args:
        sensitive_table: rows, most sensitive first, or the path of a `.pt` file with them; see `sensitivity_rows`.
        topk_or_ratio: how many rows (a whole number), or which share of them (a float from 0 to 1, rounded up).
        sensitive_type: which rows count: those about "activation", about "weight", or "both". A row about an
            activation sets the op's output, one about a weight its weight.
        low_precision_dtype: for the others of these rows.
        high_precision_dtype: for the first of them.

    Raises:
        ValueError: not such a table, count or type; in `prepare`, none of the first is an op of the model.
    """

    def __init__(
        self,
        sensitive_table: SensitivityTable,
        topk_or_ratio: int | float,
        sensitive_type: str = "activation",
        low_precision_dtype: DType = qint8,
        high_precision_dtype: DType = qint16,
    ) -> None:
        if sensitive_type not in ("activation", "weight", "both"):
            raise ValueError(f"sensitive_type is {sensitive_type!r}, expected 'activation', 'weight' or 'both'")
        is_count = isinstance(topk_or_ratio, int)
        topk, ratio = (topk_or_ratio, None) if is_count else (None, topk_or_ratio)
        self.low = parsed_dtype(low_precision_dtype, "SensitivityTemplate's low_precision_dtype")
        self.high = parsed_dtype(high_precision_dtype, "SensitivityTemplate's high_precision_dtype")
        wanted = {"activation": {False}, "weight": {True}, "both": {False, True}}[sensitive_type]
        first(0, topk, ratio)  # type: ignore[arg-type]
        self.rows = list(dict.fromkeys(row for row in sensitivity_rows(sensitive_table) if row.about_weight in wanted))
        self.count = first(len(self.rows), topk, ratio)  # type: ignore[arg-type]

    def write(self, table: DtypeTable) -> None:
        """Writes the narrow dtype, then the wide one."""
        ops = {name: op for op in table.ops for name in op.names} | {op.name: op for op in table.ops}
        sensitive = self.rows[: self.count]
        missing = list(dict.fromkeys(row.name for row in sensitive if row.name not in ops))
        if sensitive and len(missing) == len({row.name for row in sensitive}):
            listed = ", ".join(map(repr, missing[:5]))
            raise ValueError(f"none of the {len(missing)} sensitive ops ({listed}) is an op of this model")
        if missing:
            table.graph.warnings.append(f"sensitive ops that this model does not quantize: {', '.join(missing)}")
        for rows, dtype in ((self.rows[self.count :], self.low), (sensitive, self.high)):
            for name, about_weight in rows:
                if name in ops:
                    part = "weight" if about_weight else "output"
                    table.say(ops[name], part, **{part: dtype})

    def __repr__(self) -> str:
        return f"SensitivityTemplate({self.count} of {len(self.rows)} rows, {self.low}, {self.high})"
