"""Whether a model can be exported as it stands; the questions are asked before anything is done."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from nashquant.dtype import QuantDType, qint4, qint8, qint16
from nashquant.quantization.fake_quantize import (
    CalibrationWarning,
    DynamicFakeQuantize,
    FakeCast,
    FakeQuantize,
    GlobalFakeQuantSwitch,
    Quantizer,
    unset_scales,
)
from nashquant.quantization.prepare import ModelCheckResult, check_result_of

_CALL = "set_fake_quantize(model, FakeQuantState.VALIDATION)"
_RANGES = {(dtype.qmin, dtype.qmax): dtype for dtype in (qint4, qint8, qint16)}


def check_ready(model: nn.Module) -> None:
    """Nothing, if `model` is prepared, in eval mode and in the VALIDATION state; changes nothing.

    Warns:
        CalibrationWarning: quantizers whose scale was never set.

    Raises:
        TypeError: `model` is not a module.
        ValueError: as `check_prepared` says.
        RuntimeError: it trains, observes, or has quantizers switched off; the message names the missing call.
    """
    quantizers = check_prepared(model)
    _check_mode(model, quantizers)
    check_switches()
    if unset := list(unset_scales(model)):
        warnings.warn(
            f"exporting {len(unset)} quantizers whose scale was never set, and is still 1: {_some(unset)}. "
            "Calibrate the model, or load a calibrated checkpoint, before export",
            CalibrationWarning,
            stacklevel=3,
        )


def check_prepared(model: nn.Module) -> dict[str, Quantizer]:
    """The quantizers of a prepared `model`, by name.

    Raises:
        TypeError: `model` is not a module.
        ValueError: it holds no FakeQuantize, one with a range no integer type has, or one whose scale is dynamic; an op
            has no quantizer any more.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"export takes a prepared model (a torch.nn.Module), not {type(model).__name__}")
    quantizers = {name: m for name, m in model.named_modules() if isinstance(m, Quantizer)}
    if not quantizers:
        raise ValueError(
            f"{type(model).__name__} holds no FakeQuantize, so nothing in it is quantized: "
            "call nashquant.quantization.prepare(model, ...) and export what it returns"
        )
    _check_constant(quantizers)
    for name, quantizer in quantizers.items():
        if isinstance(quantizer, FakeQuantize):
            check_range(quantizer.quant_min, quantizer.quant_max, name)
    _check_planned(model)
    return quantizers


def check_numbers(model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Nothing, if `model` can be exported in its dtypes, its parameters are numbers, and `inputs` tell something.

    Raises:
        ValueError: something is bfloat16; a parameter holds NaN or infinity; an input is empty or holds NaN.
    """
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if found := [name for name, tensor in {**held, **inputs}.items() if tensor.dtype == torch.bfloat16]:
        raise ValueError(
            f"bfloat16 cannot be exported, since ONNX Runtime's CPU does not compute in it, but so is {_some(found)}: "
            "call model.float(), and give example inputs in float32"
        )
    for name, parameter in model.named_parameters():
        if number := int((~parameter.isfinite()).sum()):
            raise ValueError(
                f"parameter {name!r} holds {number} NaN or infinity, which integers would hide: they have neither"
            )
    for name, tensor in inputs.items():
        if not tensor.numel():
            raise ValueError(f"example input {name!r} is empty: its shape is {list(tensor.shape)}")
        if tensor.is_floating_point() and (number := int(tensor.isnan().sum())):
            raise ValueError(f"example input {name!r} holds {number} NaN")


def check_range(qmin: int, qmax: int, where: str) -> None:
    """Nothing, if `qmin` to `qmax` is the whole of an integer type.

    Raises:
        ValueError: it is narrower; QuantizeLinear saturates at the ends of its type and nowhere else.
    """
    if (qmin, qmax) not in _RANGES:
        known = ", ".join(f"{dtype} {low} to {high}" for (low, high), dtype in _RANGES.items())
        raise ValueError(
            f"the range {qmin} to {qmax} of {where!r} cannot be exported: QuantizeLinear saturates at the "
            f"ends of its integer type only ({known}), so the range must be the whole of one"
        )


def float_ops(model: nn.Module) -> tuple[str, ...]:
    """The ops between the stubs that stay in floating point, as `prepare` reported them."""
    report = _report(model)
    return () if report is None else tuple(name for name, _ in report.float_ops)


def _check_planned(model: nn.Module) -> None:
    """Nothing, if each op that `prepare` gave a grid still has it."""
    report = _report(model)
    for row in [] if report is None else report.layers:
        module = model.get_submodule(re.split(r"[(\[]", row.name)[0])
        quantizer = getattr(module, "activation_post_process", None)
        given = quantizer.dtype if isinstance(quantizer, Quantizer) else None
        if isinstance(row.output_dtype, QuantDType) and given != row.output_dtype:
            raise ValueError(
                f"{row.name!r} was prepared to give {row.output_dtype}, but "
                + ("has no quantizer any more" if given is None else f"its quantizer gives {given}")
                + ": prepare the float model again with the qconfig that is meant"
            )


def _report(model: nn.Module) -> ModelCheckResult | None:
    try:
        return check_result_of(model)
    except ValueError:  # made by hand
        return None


def _check_constant(quantizers: Mapping[str, Quantizer]) -> None:
    if dynamic := [name for name, m in quantizers.items() if isinstance(m, DynamicFakeQuantize)]:
        raise ValueError(
            f"a scale that is taken from each tensor cannot be exported, since those of QuantizeLinear are constant: "
            f"{_some(dynamic)}. Give these ops FakeQuantize instead of DynamicFakeQuantize"
        )


def check_switches() -> None:
    """Nothing, if the switches of all quantizers are on.

    Raises:
        RuntimeError: one is off; the message names the missing call.
    """
    if not (GlobalFakeQuantSwitch.enabled and FakeCast.enabled):
        which = "FakeCast" if GlobalFakeQuantSwitch.enabled else "GlobalFakeQuantSwitch"
        raise RuntimeError(f"export needs all quantizers, but {which} has switched them off: call {which}.enable()")


def _check_mode(model: nn.Module, quantizers: Mapping[str, Quantizer]) -> None:
    inside = {id(part) for quantizer in quantizers.values() for part in quantizer.modules()}
    others = [(name, module) for name, module in model.named_modules() if id(module) not in inside]
    training = [name or "the model itself" for name, module in others if module.training]
    if training:
        raise RuntimeError(
            f"export needs eval mode, but in training mode is {_some(training)}: call model.eval(), then {_CALL}"
        )
    observed = {name: m for name, m in quantizers.items() if isinstance(m, FakeQuantize)}
    if observing := [name for name, m in observed.items() if bool(m.observer_enabled)]:
        raise RuntimeError(f"export needs fixed scales, but observing is {_some(observing)}: call {_CALL}")
    if off := [name for name, m in quantizers.items() if not bool(m.fake_quant_enabled)]:
        raise RuntimeError(f"export needs all quantizers, but switched off is {_some(off)}: call {_CALL}")


def _some(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
