"""Scales of a Resize that f32 rounds down."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nashquant.nash import convert
from nashquant.quantization import DeQuantStub, QuantStub, get_qconfig, prepare, set_fake_quantize
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.setter import TemplateQconfigSetter


class Resized(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.quant, self.dequant, self.scale = QuantStub(), DeQuantStub(), scale

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dequant(nn.functional.interpolate(self.quant(x), scale_factor=self.scale, mode="nearest"))
        return y


@pytest.mark.parametrize(("size", "scale", "length"), [(3, 5 / 3, 5), (10, 1.3, 13), (10, 0.7, 7), (4, 1.5, 6)])
def test_a_resize_has_the_sizes_that_the_model_gives_it(size: int, scale: float, length: int, tmp_path: Path) -> None:
    x = torch.randn(2, 3, size, size)
    model = prepare(Resized(scale).eval(), (x,), TemplateQconfigSetter(get_qconfig()), save_dir=None)
    for state in ("calibration", "validation"):
        set_fake_quantize(model.eval(), state)
        y = model(x)
    exported = export(model, (x,), path=tmp_path / "m.onnx", dynamic_batch=True)
    assert y.shape == (2, 3, length, length)
    for found in (exported.run(x)[0], convert(exported)(x)):
        assert isinstance(found, Tensor)
        assert found.shape == y.shape
        assert (found - y).abs().max() < 0.05  # a step, where x / scale falls to another side
