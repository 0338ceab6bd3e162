"""A U-Net: cat of skips, up by a transposed convolution and by interpolation, pictures of odd sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nashquant.quantization import QATMode, check_result_of

from .network import closeness
from .networks import NETWORKS
from .way import LEAST_DB, calibrated, exports, goes_all_the_way, in_float, prepared

UNET = NETWORKS["U-Net"]


def test_with_its_batch_norms_folded_it_gives_the_float_numbers() -> None:
    assert in_float(UNET) < 1e-5


@pytest.mark.parametrize("train", [False, True])
def test_with_its_batch_norms_kept_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(UNET, QATMode.WithBN, train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(UNET, bits)


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(UNET, bits, tmp_path)


def test_pictures_of_other_sizes_than_the_example_s_are_close_too() -> None:
    model = UNET.trained()
    twin = calibrated(UNET, model, 8)
    for height, width in ((18, 26), (23, 21)):
        x = torch.randn(2, 3, height, width)
        assert closeness(twin(x), model(x)) >= LEAST_DB[8]


def test_what_interpolation_gives_stays_on_the_grid_of_what_it_takes() -> None:
    rows = {row.name: row for row in check_result_of(prepared(UNET, UNET.trained(), 8)).graph}
    assert [name for name in rows if "interpolate" in name]
    twin = calibrated(UNET, UNET.trained(), 8)
    assert not any("interpolate" in key or "pad" in key for key in twin.state_dict())
