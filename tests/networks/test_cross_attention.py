"""nn.MultiheadAttention between two inputs of different width, whose weights are an output too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from .networks import NETWORKS
from .way import calibrated, exports, goes_all_the_way, in_float

CROSS = NETWORKS["Cross"]


@pytest.mark.parametrize("train", [False, True])
def test_without_its_quantizers_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(CROSS, train=train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(CROSS, bits)


@pytest.mark.parametrize("bits", [8, 16])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(CROSS, bits, tmp_path)


def test_hidden_keys_get_no_weight_and_the_rest_sums_to_about_one() -> None:
    twin = calibrated(CROSS, CROSS.trained(), 8)
    x, memory, padding = CROSS.inputs(3)
    _, weights = twin(x, memory, padding)
    assert not weights.masked_select(padding[:, None].expand_as(weights)).any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 5), atol=0.05, rtol=0)
