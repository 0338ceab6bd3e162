"""Like EfficientNet: SiLU, squeeze and excitation, and branches dropped at random in train mode only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nashquant.quantization import QATMode, UnrecordedCallError, check_result_of, set_fake_quantize

from .networks import NETWORKS
from .way import exports, goes_all_the_way, in_float, prepared

EFFICIENTNET = NETWORKS["EfficientNet"]
# What only training runs is not calibrated in eval mode.
pytestmark = pytest.mark.filterwarnings("ignore:.*never had their scale set")


def test_with_its_batch_norms_folded_it_gives_the_float_numbers() -> None:
    assert in_float(EFFICIENTNET) < 1e-5


@pytest.mark.parametrize("train", [False, True])
def test_with_its_batch_norms_kept_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(EFFICIENTNET, QATMode.WithBN, train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(EFFICIENTNET, bits)


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(EFFICIENTNET, bits, tmp_path)


def test_what_only_training_runs_is_an_error_where_prepare_saw_only_eval_mode() -> None:
    twin = prepared(replace(EFFICIENTNET, trains_otherwise=False), EFFICIENTNET.trained(), 8).train()
    set_fake_quantize(twin, "float")
    twin.eval()(*EFFICIENTNET.inputs(2))
    with pytest.raises(UnrecordedCallError, match=r"mul at .*efficientnet\.py:\d+"):
        twin.train()(*EFFICIENTNET.inputs(2))


def test_the_gate_is_a_table_and_its_product_an_op_of_its_own() -> None:
    rows = {row.name: row for row in check_result_of(prepared(EFFICIENTNET, EFFICIENTNET.trained(), 8)).layers}
    for block in range(3):
        names = [f"blocks.{block}.se._generated_{op}_0" for op in ("adaptive_avg_pool2d", "silu", "sigmoid", "mul")]
        assert [str(rows[name].output_dtype) for name in names] == ["qint8"] * 4
