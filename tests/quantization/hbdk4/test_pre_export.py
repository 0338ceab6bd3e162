"""A model in any state is made ready for export, or refused as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from nashquant.quantization.fake_quantize import GlobalFakeQuantSwitch, set_fake_quantize
from nashquant.quantization.hbdk4 import export, pre_export

from .small_models import OneQuantizer, ResidualBlock, quantizer


@pytest.mark.parametrize("state", ["calibration", "qat", "float", "validation"])
def test_a_copy_is_ready_and_the_model_as_it_was(state: str) -> None:
    model = ResidualBlock().train()
    set_fake_quantize(model, state)
    modes = [module.training for module in model.modules()]
    buffers = {name: value.clone() for name, value in model.state_dict().items()}
    ready = pre_export(model)
    assert ready is not model
    assert not any(module.training for module in (ready, ready.conv))
    x = torch.randn(1, 4, 4, 4)
    y = ready(x)
    assert torch.equal(y * 4096, (y * 4096).round())  # on the grid of the sum
    assert [module.training for module in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert torch.equal(value, buffers[name]), name


def test_in_place_it_is_the_model_itself(tmp_path: Path) -> None:
    model = ResidualBlock().train()
    assert pre_export(model, inplace=True) is model
    export(model, torch.randn(1, 4, 4, 4), path=tmp_path / "m.onnx", verify=False)
    assert (tmp_path / "m.onnx").exists()


def test_what_cannot_be_exported_stays_in_its_mode() -> None:
    narrow = quantizer(0.5)
    narrow.quant_min = -127
    model = OneQuantizer(narrow).train()
    with pytest.raises(ValueError, match="the range -127 to 127 of 'quant' cannot be exported"):
        pre_export(model, inplace=True)
    assert model.training
    with pytest.raises(ValueError, match="holds no FakeQuantize"):
        pre_export(nn.Linear(1, 1))


def test_while_quantizers_are_switched_off_a_model_stays_in_its_mode() -> None:
    model = ResidualBlock().train()
    GlobalFakeQuantSwitch.disable()
    try:
        with pytest.raises(RuntimeError, match=r"call GlobalFakeQuantSwitch\.enable\(\)"):
            pre_export(model, inplace=True)
    finally:
        GlobalFakeQuantSwitch.enable()
    assert model.training
