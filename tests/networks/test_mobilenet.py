"""MobileNetV2: depthwise convolutions, ReLU6, additions without a ReLU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from nashquant.quantization import QATMode, check_result_of

from .models.mobilenet import MobileNetV2
from .networks import NETWORKS
from .way import exports, goes_all_the_way, in_float, prepared

MOBILENET = NETWORKS["MobileNetV2"]


def test_with_its_batch_norms_folded_it_gives_the_float_numbers() -> None:
    assert in_float(MOBILENET) < 1e-5


@pytest.mark.parametrize("train", [False, True])
def test_with_its_batch_norms_kept_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(MOBILENET, QATMode.WithBN, train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(MOBILENET, bits)


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(MOBILENET, bits, tmp_path)


def test_linear_bottlenecks_take_the_addition_and_nothing_is_left_apart() -> None:
    result = check_result_of(prepared(MOBILENET, MOBILENET.trained(), 8))
    types = Counter(row.module_type for row in result.layers)
    residuals = sum(blocks - (stage != 0) for stage, (_, _, blocks, _) in enumerate(MobileNetV2.stages))
    assert types["ConvAdd2d"] == residuals == 4
    assert not any("Norm" in name or name == "ReLU6" for name in types)
    assert result.summary()["unfused"] == ()
