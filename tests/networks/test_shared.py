"""A head that is called on three maps, twice on each; one activation for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from nashquant.quantization import QATMode, check_result_of

from .networks import NETWORKS
from .way import exports, goes_all_the_way, in_float, prepared

SHARED = NETWORKS["Shared"]


def test_with_its_batch_norms_folded_it_gives_the_float_numbers() -> None:
    assert in_float(SHARED) < 1e-5


@pytest.mark.parametrize("train", [False, True])
def test_with_its_batch_norms_kept_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(SHARED, QATMode.WithBN, train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(SHARED, bits)


@pytest.mark.parametrize("bits", [8, 16])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(SHARED, bits, tmp_path)


def test_all_its_calls_share_one_scale_and_the_report_says_so() -> None:
    result = check_result_of(prepared(SHARED, SHARED.trained(), 8))
    times = dict(result.called_times)
    assert (times["tower.conv"], times["tower.bn"], times["score"], times["relu"]) == (6, 6, 3, 3)
    assert {"tower.conv", "tower.bn"} <= set(result.summary()["unfused"])
    assert {"tower.conv", "down", "relu"} <= set(result.summary()["shared"])
