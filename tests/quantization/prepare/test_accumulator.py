"""Where sums may leave the chip's 32 bits, the report names the op, the depth and how far they reach."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant import set_march
from nashquant.dtype import QuantDType, qint8, qint16
from nashquant.quantization import QconfigSetter, check_result_of, get_qconfig, prepare
from nashquant.quantization.qconfig_setter import ModuleNameTemplate

from .conftest import Around


def remarks(body: Any, output: QuantDType, weight: QuantDType, x: Tensor, **children: Any) -> list[str]:
    """What the report says of sums."""
    template = ModuleNameTemplate({"": {"output": output, "weight": weight}})
    prepared = prepare(Around(body, **children), x, QconfigSetter(get_qconfig(), [template]), save_dir=None)
    return [f"{name}: {message}" for name, _, message in check_result_of(prepared).messages if "sums" in message]


def of_module(layer: Any, *weights: float, x: Tensor, output: QuantDType = qint16, weight: Any = qint16) -> list[str]:
    with torch.no_grad():
        layer.weight.zero_().view(-1)[: len(weights)] = torch.tensor(weights)
    return remarks(lambda s, x: s.layer(x).relu(), output, weight, x, layer=layer)


MAPS, ROWS = torch.randn(1, 2, 4, 4), torch.randn(1, 6)


def test_the_weights_say_how_far_int16_products_reach() -> None:
    assert of_module(nn.Linear(6, 2), 0.5, -0.5, 0.5, 0.25, 0.25, 0.0, x=ROWS) == [
        "_generated_relu_0: sums of 6 products int16*int16 may reach 2**32.0, the accumulator is int32"
    ]  # 2 ** 30 times 2 / 0.5
    assert of_module(nn.Linear(6, 2), 0.5, -0.25, 0.25, x=ROWS) == []  # and here 1 / 0.5: 2 ** 31
    assert of_module(nn.Conv2d(2, 2, 2), *[0.25] * 8, x=MAPS)[0].endswith(
        ": sums of 8 products int16*int16 may reach 2**33.0, the accumulator is int32"
    )


def test_narrower_integers_need_depth() -> None:
    wide = torch.randn(1, 1200)
    assert of_module(nn.Linear(1200, 1), *[1.0] * 1024, x=wide, weight=qint8)[0].endswith(
        "sums of 1200 products int16*int8 may reach 2**32.0, the accumulator is int32"
    )
    assert of_module(nn.Linear(1200, 1), *[1.0] * 512, x=wide, weight=qint8) == []
    assert of_module(nn.Linear(1200, 1), *[1.0] * 1200, x=wide, output=qint8, weight=qint8) == []


@pytest.mark.parametrize(("stride", "depth", "bits"), [(1, 8, 33.0), (2, 2, None)])
def test_a_transposed_conv_meets_every_stride_th_tap(stride: int, depth: int, bits: float | None) -> None:
    found = of_module(nn.ConvTranspose2d(2, 1, 2, stride), *[1.0] * 8, x=MAPS)
    expected = f"sums of {depth} products int16*int16 may reach 2**{bits}, the accumulator is int32"
    assert [message.partition(": ")[2] for message in found] == ([expected] if bits else [])


def test_two_activations_are_bound_by_their_depth_unless_a_softmax_made_one() -> None:
    scores = remarks(lambda s, x: torch.matmul(x, x.transpose(-2, -1)), qint16, qint16, torch.randn(2, 3, 8))
    assert scores == ["_generated_matmul_0: sums of 8 products int16*int16 may reach 2**33.0, the accumulator is int32"]
    assert remarks(lambda s, x: torch.matmul(x.softmax(-1), x), qint16, qint16, torch.randn(2, 8, 8)) == []
    assert remarks(lambda s, x: torch.einsum("ij,jk", x, x), qint16, qint16, torch.randn(8, 8)) == []


def test_a_functional_weight_counts_whole() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    found = remarks(lambda s, x: F.linear(x, s.w).relu(), qint16, qint16, torch.randn(1, 4), w=weight)
    assert [message.partition(": ")[2][:32] for message in found] == ["sums of 4 products int16*int16 m"]


def test_a_wide_accumulator_is_no_matter() -> None:
    set_march("nash-p")
    assert of_module(nn.Linear(6, 2), *[1.0] * 6, x=ROWS) == []
