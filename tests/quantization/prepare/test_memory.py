"""What a prepared model keeps does not depend on how often it ran."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import prepare, set_fake_quantize
from nashquant.quantization.prepare import scope
from nashquant.quantization.prepare.scope import redirections
from nashquant.quantization.qconfig_template import default_qat_qconfig_setter

from .conftest import Around

STEPS = 300


def body(self: nn.Module, x: Tensor) -> Tensor:
    for _ in range(3):
        x = F.relu(self.conv(x)) + x
    return torch.cat([x, x * 2])


@pytest.mark.parametrize("state", ["float", "calibration", "qat", "validation"])
def test_nothing_is_kept_of_a_call(state: str, x: Tensor):
    model = prepare(Around(body, conv=nn.Conv2d(4, 4, 1)), x, default_qat_qconfig_setter, save_dir=None).train()
    set_fake_quantize(model, "qat")
    model(x)  # sets the scales
    set_fake_quantize(model, state)

    def kept() -> tuple[int, int]:
        for _ in range(STEPS):
            model(x).sum().backward()
            model.zero_grad()
        gc.collect()
        return len(gc.get_objects()), sys.getallocatedblocks()

    kept()
    (objects, blocks), (objects_later, blocks_later) = kept(), kept()
    assert objects_later - objects < STEPS / 10
    assert blocks_later - blocks < STEPS  # some pools of the interpreter fill slowly; one thing a step would show


def newly_made(self: nn.Module, x: Tensor) -> Tensor:
    made: Callable[[Tensor], Tensor] = eval("lambda x: torch.sigmoid(x)", {"torch": torch})  # another code object
    return made(x)


def test_places_of_functions_that_a_forward_makes_anew_are_forgotten(monkeypatch: pytest.MonkeyPatch, x: Tensor):
    monkeypatch.setattr(scope, "_MOST_PLACES", 5)
    model = prepare(Around(newly_made).eval(), x, default_qat_qconfig_setter, save_dir=None)
    set_fake_quantize(model, "float")
    for _ in range(20):
        assert torch.equal(model(x), x.sigmoid())
        assert len(redirections(model).by_frames) <= 5
