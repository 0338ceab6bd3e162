"""Small models around one piece of forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nashquant import set_march
from nashquant.quantization import DeQuantStub, QuantStub, prepare, set_fake_quantize
from nashquant.quantization.qconfig_template import default_calibration_qconfig_setter


class Around(nn.Module):
    """`dequant(body(self, quant(x)))`, with children and constants of its own."""

    def __init__(self, body: Callable[..., Any], **children: Any) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.body = body
        for name, child in children.items():
            if isinstance(child, Tensor) and not isinstance(child, nn.Parameter):
                self.register_buffer(name, child)
            else:
                setattr(self, name, child)

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(self.body(self, self.quant(x)))  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _a_march() -> None:
    set_march("nash-m")


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 4, 6, 6)


def prepared_around(body: Callable[..., Any], x: Tensor, setter: Any = None, **children: Any) -> tuple[Around, Any]:
    """The float model and its prepared twin, calibrated on `x` and in VALIDATION."""
    model = Around(body, **children).eval()
    prepared = prepare(model, x, setter or default_calibration_qconfig_setter, save_dir=None)
    set_fake_quantize(prepared, "calibration")
    with torch.no_grad():
        prepared(x)
    prepared.eval()
    set_fake_quantize(prepared, "validation")
    return model, prepared


@pytest.fixture
def around() -> Callable[..., tuple[Around, Any]]:
    return prepared_around
