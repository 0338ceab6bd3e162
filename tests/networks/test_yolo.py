"""Like YOLO: chunk, split, stack, permute, a sigmoid on the chip, and boxes decoded behind the stubs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nashquant.quantization import QATMode, check_result_of

from .networks import NETWORKS
from .way import calibrated, exports, goes_all_the_way, in_float, prepared

YOLO = NETWORKS["YOLO"]


def test_with_its_batch_norms_folded_it_gives_the_float_numbers() -> None:
    assert in_float(YOLO) < 1e-5


@pytest.mark.parametrize("train", [False, True])
def test_with_its_batch_norms_kept_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(YOLO, QATMode.WithBN, train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(YOLO, bits)


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(YOLO, bits, tmp_path)


def test_what_decodes_the_boxes_is_not_quantized() -> None:
    twin = prepared(YOLO, YOLO.trained(), 8)
    called = {row.name.rpartition(".")[2].rpartition("_")[0] for row in check_result_of(twin).layers}
    assert "_generated_sigmoid" in called  # of the classes
    assert not called & {"_generated_exp", "_generated_clamp", "_generated_div", "_generated_sub"}
    names = [name for name, _ in twin.named_modules()]
    assert [name for name in names if "sigmoid" in name and "." not in name] == []


def test_boxes_have_sizes_and_scores_are_probabilities() -> None:
    twin = calibrated(YOLO, YOLO.trained(), 8)
    boxes, scores = twin(*YOLO.inputs(3))
    assert (boxes.shape, scores.shape) == ((3, 160, 4), (3, 160, 3))
    assert bool((boxes[..., 2:] > boxes[..., :2]).all())
    assert bool(((scores >= 0) & (scores <= 1)).all())
