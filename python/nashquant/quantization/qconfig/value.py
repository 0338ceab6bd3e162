"""How one op is quantized: configuration as a value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from nashquant.dtype import DType, QuantDType, qint8
from nashquant.quantization.fake_quantize import (
    DynamicFakeQuantize,
    FakeCast,
    FakeQuantize,
    FakeQuantizeSpec,
    Quantizer,
)
from nashquant.quantization.observer import HistogramObserver, MinMaxObserver, MSEObserver, ObserverBase

__all__ = ["QConfig", "activation_spec", "dynamic_spec", "get_qconfig", "weight_spec"]


@dataclass(frozen=True)
class QConfig:
    """How one op is quantized. `None` leaves that part in high precision.

    Attributes:
        activation: the older name of `output`; give one of the two.
        weight: the weight's quantizer; ops without a weight ignore it. None on an op with a weight takes the weight
            quantizer of the next setter that matches the op, since the chip has no float weights.
        input: quantizer of operands that arrive in float; operands that come quantized keep their grid.
        output: the output's quantizer.

    >>> QConfig(output=activation_spec(MinMaxObserver, qint8)).output.dtype
    qint8
    """

    activation: FakeQuantizeSpec | None = None
    weight: FakeQuantizeSpec | None = None
    input: FakeQuantizeSpec | None = None
    output: FakeQuantizeSpec | None = None

    def __post_init__(self) -> None:
        for part in ("activation", "weight", "input", "output"):
            spec = getattr(self, part)
            if isinstance(spec, type) and issubclass(spec, Quantizer):
                object.__setattr__(self, part, spec.with_args())
            elif spec is not None and not isinstance(spec, FakeQuantizeSpec):
                raise TypeError(
                    f"QConfig's {part} takes FakeQuantize.with_args(...) (or another quantizer's) or None, not {spec!r}"
                )
            elif spec is not None and part != "weight" and spec.kwargs.get("qscheme") is torch.per_channel_symmetric:
                raise ValueError(
                    f"QConfig's {part} is per channel, but the chip has one scale for a whole activation; only a "
                    "weight can be per channel"
                )
        if self.activation is not None and self.output is not None and self.activation != self.output:
            raise ValueError("QConfig's activation and output are two names for one thing, but were given two values")
        both = self.output if self.output is not None else self.activation
        object.__setattr__(self, "activation", both)
        object.__setattr__(self, "output", both)

    def replace(self, **parts: FakeQuantizeSpec | None) -> QConfig:
        """The same with other parts.

        >>> QConfig(output=activation_spec(MinMaxObserver, qint8)).replace(output=None)
        QConfig(activation=None, weight=None, input=None, output=None)
        """
        if "output" in parts:
            parts["activation"] = parts["output"]
        return replace(self, **parts)


def weight_spec(dtype: QuantDType, **arguments: Any) -> FakeQuantizeSpec:
    """A weight's quantizer: min/max of the current weight per output channel, symmetric.

    `averaging_constant` is 1, so that the range is always that of the weight as it is; what the vendor does on J6 is
    not public.
    """
    settings: dict[str, Any] = {
        "averaging_constant": 1.0,
        "qscheme": torch.per_channel_symmetric,
        "ch_axis": 0,
        **arguments,
    }
    return FakeQuantize.with_args(observer=MinMaxObserver, dtype=dtype, **settings)


def activation_spec(observer: type[ObserverBase], dtype: DType, **arguments: Any) -> FakeQuantizeSpec:
    """An activation's quantizer: one scale for the tensor, symmetric; for torch.float16 a cast, without an observer."""
    if dtype is torch.float16:
        return FakeCast.with_args(dtype=dtype)
    return FakeQuantize.with_args(observer=observer, dtype=dtype, **arguments)


def dynamic_spec(spec: FakeQuantizeSpec) -> FakeQuantizeSpec:
    """The same grid with a scale from each tensor, by the same observer where that needs one tensor only."""
    if not isinstance(spec.dtype, QuantDType):
        raise ValueError(f"{spec!r} has no scale to be taken from the tensor")
    arguments = {name: value for name, value in spec.arguments if name != "averaging_constant"}
    try:
        return FakeQuantizeSpec.of(DynamicFakeQuantize, spec.observer, arguments)
    except ValueError:
        return DynamicFakeQuantize.with_args(observer=MinMaxObserver, dtype=spec.dtype)


def get_qconfig(
    observer: type[ObserverBase] = HistogramObserver,
    in_dtype: DType | None = qint8,
    weight_dtype: QuantDType | None = qint8,
    out_dtype: DType | None = qint8,
    fix_scale: bool = False,
) -> QConfig:
    """A QConfig from dtypes.

    Args:
        observer: finds the scale of activations: MinMaxObserver, MSEObserver or HistogramObserver. Weights always
            take MinMaxObserver per channel.
        in_dtype: of operands that arrive in float. None leaves them so.
        weight_dtype: ignored by ops without a weight.
        out_dtype: None leaves the output in high precision; torch.float16 casts it, where the march has that.
        fix_scale: the scale loaded from a calibration checkpoint is never updated.

    >>> from nashquant.dtype import qint16
    >>> get_qconfig(out_dtype=qint16).output.dtype
    qint16

    Raises:
        TypeError: an observer or dtype is not one of those.
    """
    if observer not in (MinMaxObserver, MSEObserver, HistogramObserver):
        raise TypeError(
            "get_qconfig takes MinMaxObserver, MSEObserver or HistogramObserver, not "
            f"{getattr(observer, '__name__', observer)!r}; others go into QConfig(output=FakeQuantize.with_args(...))"
        )
    for name, dtype in {"in_dtype": in_dtype, "weight_dtype": weight_dtype, "out_dtype": out_dtype}.items():
        if dtype is torch.float16 and name != "weight_dtype":
            continue
        if dtype is not None and not isinstance(dtype, QuantDType):
            raise TypeError(f"{name} takes qint8, qint16, ... or None, not {dtype!r}")
    fixed: dict[str, Any] = {"averaging_constant": 0.0} if fix_scale else {}
    return QConfig(
        input=None if in_dtype is None else activation_spec(observer, in_dtype, **fixed),
        weight=None if weight_dtype is None else weight_spec(weight_dtype),
        output=None if out_dtype is None else activation_spec(observer, out_dtype, **fixed),
    )
