"""The states of a prepared model: calibrate, train, validate."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Iterator

from torch import nn

from .cast import Quantizer
from .module import FakeQuantize
from .warning import CalibrationWarning, Notices, nothing_to_set, scales_never_set, still_training

__all__ = ["FakeQuantState", "set_fake_quantize", "unset_scales"]


class FakeQuantState(enum.Enum):
    """What the quantizers of a model do.

    | state | observers | fake quantization | call before |
    |---|---|---|---|
    | CALIBRATION | on | off: values pass as they are | `model.eval()` |
    | QAT | on | on | `model.train()` |
    | VALIDATION | off | on | `model.eval()` |
    | _FLOAT | off | off | |

    Observers look at data only where their quantizer is in training mode. CALIBRATION puts the quantizers
    into it, and nothing else: batch norm and dropout stay as `model.eval()` left them. Calling `model.eval()`
    afterwards ends it.
    """

    QAT = "qat"
    CALIBRATION = "calibration"
    VALIDATION = "validation"
    _FLOAT = "float"


def set_fake_quantize(model: nn.Module, state: FakeQuantState | str) -> None:
    """Puts all quantizers in `model`, which may be a part of a model, into `state`.

    >>> model = nn.ModuleDict({"backbone": FakeQuantize(), "head": FakeQuantize()})
    >>> model["backbone"].set_qparams(0.5)
    >>> set_fake_quantize(model["backbone"].eval(), FakeQuantState.VALIDATION)  # frozen
    >>> set_fake_quantize(model["head"].train(), "qat")

    Args:
        model: prepared. Without quantizers there is a warning.
        state: or its value or name, in any case: "qat", "CALIBRATION", "validation", "float".

    Raises:
        ValueError: no such state.

    Warns:
        CalibrationWarning: VALIDATION with scales that were never set; CALIBRATION or VALIDATION while a dropout or a
            batch norm is in train mode; no quantizers.
    """
    state = _parsed(state)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}, expected a torch.nn.Module")
    quantizers = [quantizer for _, quantizer in _quantizers(model)]
    if not quantizers:
        warnings.warn(nothing_to_set(type(model).__name__), CalibrationWarning, stacklevel=2)
        return
    in_training = [] if state in (FakeQuantState.QAT, FakeQuantState._FLOAT) else _still_training(model)
    if in_training:
        warnings.warn(still_training(state.name, in_training), CalibrationWarning, stacklevel=2)
    notices = Notices(state.name)  # shared: one warning for the model, not one for each quantizer
    unset = unset_scales(model) if state is FakeQuantState.VALIDATION else []
    if unset:
        notices.say_no_more("unset")
        warnings.warn(scales_never_set(unset, len(quantizers)), CalibrationWarning, stacklevel=2)
    observe = state in (FakeQuantState.CALIBRATION, FakeQuantState.QAT)
    quantize = state in (FakeQuantState.VALIDATION, FakeQuantState.QAT)
    for quantizer in quantizers:
        quantizer.enable_observer(observe)
        quantizer.enable_fake_quant(quantize)
        quantizer.share_notices(notices)
        if state is FakeQuantState.CALIBRATION:
            quantizer.train()


def unset_scales(model: nn.Module) -> list[str]:
    """The names of the quantizers (weights, activations) whose scale was never observed, loaded or fixed."""
    return [
        quantizer.name or path
        for path, quantizer in _quantizers(model)
        if isinstance(quantizer, FakeQuantize) and not quantizer.has_scale
    ]


def _quantizers(model: nn.Module) -> Iterator[tuple[str, Quantizer]]:
    return ((path, module) for path, module in model.named_modules() if isinstance(module, Quantizer))


def _still_training(model: nn.Module) -> list[str]:
    """The names of the dropouts and batch norms in train mode: what they give depends on it."""
    return [
        path or type(model).__name__
        for path, module in model.named_modules()
        if module.training
        and (
            (isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats)
            or (isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0)
        )
    ]


def _parsed(state: FakeQuantState | str) -> FakeQuantState:
    try:
        return FakeQuantState(state.lower().removeprefix("_") if isinstance(state, str) else state)
    except ValueError:
        known = ", ".join(f"FakeQuantState.{member.name} ({member.value!r})" for member in FakeQuantState)
        raise ValueError(f"state is {state!r}, expected one of {known}") from None
