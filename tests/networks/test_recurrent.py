"""An LSTM and a GRU cell written by hand, called in a plain loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nashquant.quantization import check_result_of

from .network import closeness
from .networks import NETWORKS
from .way import LEAST_DB, calibrated, exports, goes_all_the_way, in_float, prepared

RECURRENT = NETWORKS["Recurrent"]


@pytest.mark.parametrize("train", [False, True])
def test_without_its_quantizers_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(RECURRENT, train=train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(RECURRENT, bits)


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(RECURRENT, bits, tmp_path)


def test_the_steps_of_the_loop_share_the_scales_of_their_cell() -> None:
    twin = prepared(RECURRENT, RECURRENT.trained(), 8)
    assert [name for name, _ in twin.gru.named_children()] == [
        *("x2h", "h2h"),
        *(f"_generated_{op}" for op in ("add_0", "sigmoid_0", "add_1", "sigmoid_1", "mul_0", "add_2", "tanh_0")),
        *(f"_generated_{op}" for op in ("sub_0", "mul_1", "mul_2", "add_3")),
    ]
    assert dict(check_result_of(twin).called_times)["lstm.x2h"] == 3


def test_shorter_and_longer_sequences_run_on_the_same_scales() -> None:
    model = RECURRENT.trained()
    twin = calibrated(RECURRENT, model, 8)
    for steps in (1, 9):
        x = torch.randn(3, steps, 8)
        assert closeness(twin(x), model(x)) >= LEAST_DB[8]
