"""The report: the vendor's worked example, reproduced; and the sections of model_check_result.txt."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.dtype import qint8, qint16
from nashquant.nn import FloatFunctional
from nashquant.quantization import DeQuantStub, QuantStub, check_result_of, get_qconfig, prepare
from nashquant.quantization.prepare import ModelCheckResult
from nashquant.quantization.qconfig_template import ModuleNameQconfigSetter, default_calibration_qconfig_setter

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "model_check_result.json").read_text())


class GridSample(nn.Module):
    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, align_corners=False)


class Net(nn.Module):
    """The net of the golden file, in our words."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.quant_grid, self.dequant = QuantStub(), QuantStub(1.1 / 32768.0), DeQuantStub()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.gridsample = GridSample()
        self.add1, self.add2 = FloatFunctional(), FloatFunctional()

    def forward(self, x: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        x = self.bn(self.conv(self.quant(x)))
        grid = self.quant_grid(grid)
        y = self.add2.add(F.grid_sample(x, grid, align_corners=False), self.gridsample(x, grid))
        values, _ = y.flatten(1).topk(5)
        z = self.add1.add(values, values)
        return self.dequant(y), self.dequant(z)


@pytest.fixture(name="result")
def _result() -> ModelCheckResult:
    from nashquant import set_march

    set_march("nash-m")
    example = (torch.randn(1, 3, 6, 6), torch.rand(1, 6, 6, 2) * 2 - 1)
    return check_result_of(prepare(Net().eval(), example, default_calibration_qconfig_setter, save_dir=None))


def test_the_rows_are_those_of_the_worked_example(result: ModelCheckResult) -> None:
    rows = [[row.name, list(map(str, row.input_dtypes)), str(row.output_dtype)] for row in result.layers]
    assert sorted(rows) == sorted(GOLDEN["rows"])


def test_the_statistics_are_those_of_the_worked_example(result: ModelCheckResult) -> None:
    order = [torch.float32, qint8, qint16]
    for statistics, expected in (
        (result.input_statistics(), GOLDEN["input_statistics"]),
        (result.output_statistics(), GOLDEN["output_statistics"]),
    ):
        counts = {name: [row[dtype] for dtype in order] for name, row in statistics.items()}
        counts["total"] = [sum(row[dtype] for row in statistics.values()) for dtype in order]
        assert counts == expected


def test_the_fixed_scale_is_called_to_attention(result: ModelCheckResult) -> None:
    assert ("quant_grid", "QuantStub", "Fixed input scale 3.35693359375e-05") in result.messages


def test_the_text_has_its_sections_in_order(result: ModelCheckResult) -> None:
    text = str(result)
    places = [text.index(section) for section in GOLDEN["sections"]]
    assert places == sorted(places)
    assert "| total " in text
    assert any(line.split()[1:6:2] == ["dequant(1)", "DeQuantStub", "['qint8']"] for line in text.splitlines() if line)
    assert "MSEObserver(averaging_constant=0.01)" in text


def test_what_could_not_fuse_and_what_ran_not_once_is_listed() -> None:
    from nashquant import set_march

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = QuantStub(), DeQuantStub()
            self.conv, self.relu, self.unused = nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.quant(x)
            return self.dequant(self.relu(self.conv(self.conv(x))).flatten(1))  # type: ignore[no-any-return]

    set_march("nash-e")
    setters = (ModuleNameQconfigSetter({"conv": get_qconfig(weight_dtype=qint16)}), default_calibration_qconfig_setter)
    result = check_result_of(prepare(Shared(), torch.randn(1, 3, 2, 2), setters, save_dir=None))
    text = str(result)
    assert "Fusable modules are listed below:" in text
    assert dict(result.fusable) == {"conv": "Conv2d (shared)", "relu": "ReLU"}
    assert dict(result.called_times) == {"conv": 2, "unused": 0}
    assert ("conv", "Conv2d", "qint16 weight!!!") in result.messages
    assert "conv            int8*int16" in text


def test_weights_have_rows_under_the_name_of_their_op(result: ModelCheckResult) -> None:
    assert [(row.name, row.dtype, row.ch_axis) for row in result.weights] == [("conv", qint8, 0)]
    assert result.weights[0].observer == "MinMaxObserver(averaging_constant=1.0)"


def test_a_result_is_a_value_a_program_can_read(result: ModelCheckResult) -> None:
    counts: Counter[Any] = Counter(row.output_dtype for row in result.layers)
    assert counts == {qint8: 4, qint16: 1, torch.float32: 2}
    assert hash(result) == hash(result)
