"""Inputs in a dict; outputs in dataclasses, a dict and a named tuple; two regions with float code between."""

from __future__ import annotations

from pathlib import Path

import pytest

from nashquant.quantization import check_result_of

from .models.nested import Found, Scores
from .networks import NETWORKS
from .way import calibrated, exports, goes_all_the_way, in_float

NESTED = NETWORKS["Nested"]


@pytest.mark.parametrize("train", [False, True])
def test_without_its_quantizers_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(NESTED, train=train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(NESTED, bits)


@pytest.mark.parametrize("bits", [8, 16])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(NESTED, bits, tmp_path)


def test_the_outputs_have_the_types_of_the_float_model() -> None:
    found = calibrated(NESTED, NESTED.trained(), 8)(*NESTED.inputs(2))
    assert isinstance(found, Found)
    assert isinstance(found.scores, Scores)
    assert list(found.maps) == ["near", "far"]


def test_each_stub_has_a_scale_of_its_own_and_what_is_between_two_regions_stays_float() -> None:
    twin = calibrated(NESTED, NESTED.trained(), 8)
    scales = {stub.activation_post_process.scale.item() for stub in twin.quants.values()}
    assert len(scales) == 3
    ops = [row.name for row in check_result_of(twin).layers]
    assert not [name for name in ops if "mean" in name or "std" in name or "div" in name]
