"""ResNet-18: sixteen convolutions in blocks, each of which ends in an addition and a ReLU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from nashquant.quantization import QATMode, check_result_of

from .networks import NETWORKS
from .way import exports, goes_all_the_way, in_float, prepared

RESNET = NETWORKS["ResNet-18"]


def test_with_its_batch_norms_folded_it_gives_the_float_numbers() -> None:
    assert in_float(RESNET) < 1e-5


@pytest.mark.parametrize("train", [False, True])
def test_with_its_batch_norms_kept_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(RESNET, QATMode.WithBN, train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(RESNET, bits)


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(RESNET, bits, tmp_path)


def test_each_convolution_takes_its_norm_addition_and_relu_into_itself() -> None:
    result = check_result_of(prepared(RESNET, RESNET.trained(), 8))
    types = Counter(row.module_type for row in result.layers)
    assert types == {
        "QuantStub": 1,
        "ConvReLU2d": 9,  # the stem, and the first of each block
        "ConvAddReLU2d": 8,  # the second of each block
        "Conv2d": 3,  # the ways around
        "AdaptiveAvgPool2d": 1,
        "Linear": 1,
        "DeQuantStub": 1,
    }
    assert result.summary()["high precision"] == ("fc",)
