"""Like a bird's-eye-view neck: features sampled at computed places, whose coordinates get int16."""

from __future__ import annotations

from pathlib import Path

import pytest

from nashquant.dtype import qint16
from nashquant.quantization import FakeQuantize, QATMode, check_result_of

from .network import closeness
from .networks import NETWORKS
from .way import calibrated, exports, goes_all_the_way, in_float, prepared

BEV = NETWORKS["BEV"]


def test_with_its_batch_norms_folded_it_gives_the_float_numbers() -> None:
    assert in_float(BEV) < 1e-5


@pytest.mark.parametrize("train", [False, True])
def test_with_its_batch_norms_kept_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(BEV, QATMode.WithBN, train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(BEV, bits)


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(BEV, bits, tmp_path)


def test_all_that_computes_the_sampling_grid_is_int16_and_the_rest_int8() -> None:
    rows = check_result_of(prepared(BEV, BEV.trained(), 8)).layers
    wide = {row.name for row in rows if str(row.output_dtype) == "qint16"}
    assert wide == {
        "quant_places",
        "offsets",
        *("_generated_mul_0", "_generated_add_0", "_generated_tanh_0"),
        *(f"_generated_add_{i}" for i in (1, 2, 3)),  # one for each height
    }


def test_int8_places_would_be_much_further_off() -> None:
    model = BEV.trained()
    twin = calibrated(BEV, model, 8)
    inputs = BEV.inputs(3)
    near = closeness(twin(*inputs), model(*inputs))
    for name, module in twin.named_modules():
        if isinstance(module, FakeQuantize) and module.dtype is qint16 and "weight" not in name:
            module.scale.mul_(256)
            module.quant_min, module.quant_max = -128, 127
    assert closeness(twin(*inputs), model(*inputs)) < near - 6
