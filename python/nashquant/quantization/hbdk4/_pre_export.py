"""`pre_export`: a trained model as `export` wants it."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from nashquant.quantization.fake_quantize import FakeQuantState, set_fake_quantize

from ._ready import check_prepared, check_ready, check_switches

Model = TypeVar("Model", bound=nn.Module)


def pre_export(model: Model, inplace: bool = False) -> Model:
    """The prepared `model` in eval mode and in the VALIDATION state, checked: what `export` takes.

    The vendor's step of this name also makes its look-up tables integers. Here there is nothing left to do for int8:
    what a quantized sigmoid gives for each of the 256 inputs is what the table holds. The vendor's piecewise tables for
    int16 are not modelled.

    Args:
        model: what `prepare` gave, in any mode and state.
        inplace: change `model` itself, and not a copy.

    Raises:
        TypeError: `model` is not a module.
        ValueError: the model is not prepared, or can't be exported as `export` says.
        RuntimeError: `GlobalFakeQuantSwitch` or `FakeCast` is switched off. The model is as it was, in all these cases.

    Warns:
        CalibrationWarning: scales that were never set.
    """
    check_prepared(model)
    check_switches()
    ready = model if inplace else copy.deepcopy(model)
    ready.eval()
    set_fake_quantize(ready, FakeQuantState.VALIDATION)
    check_ready(ready)
    return ready
