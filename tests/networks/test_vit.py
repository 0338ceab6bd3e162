"""A vision transformer, its attention spelled out; and with torch's attention in one call."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from nashquant.quantization import check_result_of

from .network import closeness
from .networks import NETWORKS
from .way import calibrated, exports, goes_all_the_way, in_float

VIT, FUSED = NETWORKS["ViT"], NETWORKS["ViT fused"]


@pytest.mark.parametrize("train", [False, True])
def test_without_its_quantizers_it_gives_the_same_bits(train: bool) -> None:
    assert in_float(VIT, train=train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_it_calibrates_trains_and_validates(bits: int) -> None:
    goes_all_the_way(VIT, bits)


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_it_exports(bits: int, tmp_path: Path) -> None:
    exports(VIT, bits, tmp_path)


@pytest.mark.parametrize("train", [False, True])
def test_attention_in_one_call_gives_the_same_bits_too(train: bool) -> None:
    assert in_float(FUSED, train=train) == 0


@pytest.mark.parametrize("bits", [8, 16])
def test_attention_in_one_call_is_quantized_like_attention_in_many(bits: int) -> None:
    near = []
    for network in (VIT, FUSED):
        model = network.trained()
        twin = calibrated(network, model, bits)
        rows = [row for row in check_result_of(twin).layers if "attn" in row.name]
        ops = Counter(row.name.rpartition(".")[2].removeprefix("_generated_").rpartition("_")[0] for row in rows)
        assert (ops["matmul"], ops["softmax"]) == (4, 2)  # two blocks
        inputs = network.inputs(4)
        near.append(closeness(twin(*inputs), model(*inputs)))
    assert abs(near[0] - near[1]) < 6
