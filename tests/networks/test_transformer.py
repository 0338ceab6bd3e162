"""nn.TransformerEncoder as it is, with a causal mask and a mask of padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .network import Network, closeness
from .networks import NETWORKS
from .way import LEAST_DB, calibrated, exports, goes_all_the_way, in_float

ENCODER, FIRST = NETWORKS["Encoder"], NETWORKS["Encoder first"]


@pytest.mark.parametrize("train", [False, True])
def test_without_its_quantizers_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(ENCODER, train=train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(ENCODER, bits)


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(ENCODER, bits, tmp_path)


@pytest.mark.parametrize("train", [False, True])
def test_with_norms_first_it_gives_the_same_bits_too(train: bool) -> None:
    assert in_float(FIRST, train=train) == 0


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("network", [ENCODER, FIRST], ids=["norm last", "norm first"])
def test_both_masks_hold_exactly(network: Network, bits: int) -> None:
    twin = calibrated(network, network.trained(), bits)
    x, padding = network.inputs(3)
    padding[:] = torch.arange(9) >= 6
    later, hidden = x.clone(), x.clone()
    later[:, 4:] += 1.0
    hidden[:, 6:] = 0.5
    y = twin(x, padding)
    assert torch.equal(twin(later, padding)[:, :4], y[:, :4])  # causal: the past does not see what comes
    assert not torch.equal(twin(later, padding)[:, 4:], y[:, 4:])
    assert torch.equal(twin(hidden, padding)[:, :6], y[:, :6])  # nobody sees the padding


@pytest.mark.parametrize("bits", [8, 16])
def test_norms_first_comes_close_too(bits: int) -> None:
    model = FIRST.trained()
    inputs = FIRST.inputs(4)
    assert closeness(calibrated(FIRST, model, bits)(*inputs), model(*inputs)) >= LEAST_DB[bits]
