"""The consistency level: which scales are powers of two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from nashquant import set_march
from nashquant.dtype import qint8
from nashquant.qat_mode import ConsistencyStrategy
from nashquant.quantization import DeQuantStub, FakeQuantize, QconfigSetter, QuantStub, prepare, set_fake_quantize
from nashquant.quantization.observer import power_of_two
from nashquant.quantization.qconfig import default_qat_8bit_lsq_quant_qconfig, get_qconfig
from nashquant.quantization.qconfig_setter import ConvDtypeTemplate, ModuleNameTemplate
from nashquant.quantization.qconfig_template import TemplateQconfigSetter, default_calibration_qconfig_setter


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.fixed, self.dequant = QuantStub(), QuantStub(scale=0.3), DeQuantStub()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.register_buffer("offset", torch.full((1,), 0.7))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(self.conv(self.quant(x)))
        return self.dequant(y.sum(1, keepdim=True) + self.fixed(x) + self.offset)


IMAGES = torch.randn(2, 3, 6, 6)
TEMPLATES = QconfigSetter(get_qconfig(), [ModuleNameTemplate({"": qint8}), ConvDtypeTemplate(qint8, qint8)])


@pytest.fixture(autouse=True)
def _level_0_again() -> Iterator[None]:
    set_march("nash-m")
    yield
    ConsistencyStrategy.set_consistency_level(0)


@pytest.mark.parametrize("setter", [default_calibration_qconfig_setter, TEMPLATES])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_level_says_which_scales_are_powers_of_two(level: int, setter: object) -> None:
    ConsistencyStrategy.set_consistency_level(level)
    model = prepare(Net().eval(), IMAGES, setter, save_dir=None)
    set_fake_quantize(model.eval(), "calibration")
    with torch.no_grad():
        model(IMAGES)
    held = {
        name: torch.equal(power_of_two(m.scale), m.scale)
        for name, m in model.named_modules()
        if isinstance(m, FakeQuantize)
    }
    assert held.pop("fixed.activation_post_process") is False
    assert held.pop("conv.weight_fake_quant") == (level == 2)
    assert len(held) > 4
    assert set(held.values()) == {level > 0}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="the consistency level is 3, expected 0, 1 or 2"):
        ConsistencyStrategy.set_consistency_level(3)
    ConsistencyStrategy.set_consistency_level(1)
    with pytest.raises(ValueError, match=r"powers of two: _LearnableFakeQuantize trains its scale.*\(for 'quant'\)"):
        prepare(Net().eval(), IMAGES, TemplateQconfigSetter(default_qat_8bit_lsq_quant_qconfig, ()), save_dir=None)
    set_march("nash-p")
    with pytest.raises(ValueError, match="the consistency level is 1, but nash-p has none"):
        prepare(Net().eval(), IMAGES, default_calibration_qconfig_setter, save_dir=None)
