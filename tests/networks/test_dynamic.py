"""A branch on the data, and a loop whose length depends on the shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nashquant.quantization import QATMode, UnrecordedCallError, set_fake_quantize
from nashquant.quantization.hbdk4 import export

from .networks import NETWORKS
from .way import calibrated, exports, goes_all_the_way, in_float, prepared

DYNAMIC = NETWORKS["Dynamic"]


def test_with_its_batch_norms_folded_it_gives_the_float_numbers() -> None:
    assert in_float(DYNAMIC) < 1e-5


@pytest.mark.parametrize("train", [False, True])
def test_with_its_batch_norms_kept_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(DYNAMIC, QATMode.WithBN, train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(DYNAMIC, bits)


@pytest.mark.parametrize("bits", [8, 16])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(DYNAMIC, bits, tmp_path)


def test_a_way_that_no_example_took_is_an_error_that_says_where() -> None:
    bright, dark, _ = DYNAMIC.ways(2)
    twin = prepared(replace(DYNAMIC, more=DYNAMIC.more[1:]), DYNAMIC.trained(), 8).eval()
    set_fake_quantize(twin, "float")
    twin(*bright)
    with pytest.raises(UnrecordedCallError, match=r"at .*dynamic\.py:\d+ \(in Conv2d 'dark'\).*more_example_inputs"):
        twin(*dark)


def test_an_undecided_branch_can_t_be_exported(tmp_path: Path) -> None:
    twin = calibrated(DYNAMIC, DYNAMIC.trained(), 8)
    with pytest.raises(RuntimeError, match=r"torch\.export could not follow the model's forward"):
        export(twin, DYNAMIC.inputs(2), path=tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())
