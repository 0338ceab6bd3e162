"""Blocks that are computed again in backward: torch.utils.checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nashquant.quantization import FakeQuantize, QATMode, set_fake_quantize

from .models.checkpointed import Checkpointed
from .networks import NETWORKS
from .way import exports, goes_all_the_way, in_float, prepared

CHECKPOINTED = NETWORKS["Checkpointed"]


def test_with_its_batch_norms_folded_it_gives_the_float_numbers() -> None:
    assert in_float(CHECKPOINTED) < 1e-5


@pytest.mark.parametrize("train", [False, True])
def test_with_its_batch_norms_kept_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(CHECKPOINTED, QATMode.WithBN, train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(CHECKPOINTED, bits)


@pytest.mark.parametrize("bits", [8, 16])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(CHECKPOINTED, bits, tmp_path)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_are_those_of_the_blocks_kept(reentrant: bool) -> None:
    network = replace(CHECKPOINTED, make=lambda: Checkpointed(reentrant))
    (x,) = network.inputs(2)
    twin = prepared(network, network.trained(), 8, qat=True)
    set_fake_quantize(twin, "qat")
    gradients = []
    for train in (False, True):  # eval mode does not checkpoint
        twin.train(), twin(x)  # ranges
        twin.zero_grad()
        twin.apply(lambda module: None)
        twin.training = train
        set_fake_quantize(twin, "qat")
        for module in twin.modules():
            if isinstance(module, FakeQuantize):
                module.disable_observer()
        twin(x.requires_grad_()).square().sum().backward()
        gradients.append({name: weight.grad for name, weight in twin.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
