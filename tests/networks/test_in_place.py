"""In-place calls of all spellings: methods, functions, operators, modules, items."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nashquant.quantization import QATMode, check_result_of

from .networks import NETWORKS
from .way import calibrated, exports, goes_all_the_way, in_float, prepared

IN_PLACE = NETWORKS["In place"]


def test_with_its_batch_norms_folded_it_gives_the_float_numbers() -> None:
    assert in_float(IN_PLACE) < 1e-5


@pytest.mark.parametrize("train", [False, True])
def test_with_its_batch_norms_kept_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(IN_PLACE, QATMode.WithBN, train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(IN_PLACE, bits)


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(IN_PLACE, bits, tmp_path)


def test_every_in_place_call_has_a_scale() -> None:
    names = [row.name.rpartition(".")[2] for row in check_result_of(prepared(IN_PLACE, IN_PLACE.trained(), 8)).layers]
    ops = ["mul_0", "sub_0", "clamp_0", "add_1", "setitem_0", "mul_1", "relu_1"]
    assert [name for name in names if name.removeprefix("_generated_") in ops] == [f"_generated_{op}" for op in ops]
    assert "act" in names


def test_the_caller_s_input_is_not_changed() -> None:
    twin = calibrated(IN_PLACE, IN_PLACE.trained(), 8)
    (x,) = IN_PLACE.inputs(2)
    before = x.clone()
    twin(x)
    assert torch.equal(x, before)
