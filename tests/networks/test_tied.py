"""One tensor as the table of an embedding and the weight of a linear, another in two convolutions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from .networks import NETWORKS
from .way import calibrated, exports, goes_all_the_way, in_float, prepared, trains

TIED = NETWORKS["Tied"]


@pytest.mark.parametrize("train", [False, True])
def test_without_its_quantizers_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(TIED, train=train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(TIED, bits)


@pytest.mark.parametrize("bits", [8, 16])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(TIED, bits, tmp_path)


def test_what_was_tied_stays_tied_through_training() -> None:
    twin = prepared(TIED, TIED.trained(), 8, qat=True)
    trains(TIED, twin)
    assert twin.decoder.weight is twin.embedding.weight
    assert twin.conv1.weight is twin.conv2.weight
    assert len(list(twin.parameters())) == len(list(TIED.trained().parameters()))


def test_each_user_of_a_tied_weight_has_a_quantizer_and_the_embedding_in_float_has_none() -> None:
    twin = calibrated(TIED, TIED.trained(), 8)
    assert type(twin.embedding) is nn.Embedding
    assert torch.equal(twin.conv1.weight_fake_quant.scale, twin.conv2.weight_fake_quant.scale)
    assert twin.decoder.weight_fake_quant.scale.shape == (20,)
