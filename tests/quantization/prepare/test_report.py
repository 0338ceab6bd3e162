"""The report: the vendor's worked example, reproduced; and the sections of model_check_result.txt."""

from __future__ import annotations

import inspect
import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.dtype import qint8, qint16
from nashquant.nn import FloatFunctional
from nashquant.quantization import (
    DeQuantStub,
    QConfig,
    QuantStub,
    UnknownOpWarning,
    check_result_of,
    get_qconfig,
    prepare,
)
from nashquant.quantization.prepare import ModelCheckResult
from nashquant.quantization.prepare.report_text import shortened
from nashquant.quantization.qconfig_template import (
    ModuleNameQconfigSetter,
    default_calibration_qconfig_setter,
    sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter,
)

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
    plain = result.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["layers"][0]["output_dtype"] == "qint8"
    assert plain["summary"]["int16"] == ["quant_grid"]
    assert (plain["model"], plain["march"], plain["qat_mode"]) == ("Net", "nash-m", "fuse_bn")


class Everything(nn.Module):
    """One thing of each sort that the report has a word for."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant, self.dequant2 = QuantStub(), DeQuantStub(), DeQuantStub()
        self.conv, self.wide, self.shared = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.relu, self.relu2 = nn.ReLU(), nn.ReLU()
        self.unused, self.head = nn.Linear(2, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.relu(self.conv(self.quant(x)))
        y = torch.sigmoid(self.wide(x))
        z = self.relu2(self.shared(self.shared(y)))
        first, second = torch.i0(z).chunk(2, dim=-1)
        return self.dequant(self.head(y)), self.dequant2(torch.cat([second, first], dim=-1))


@pytest.fixture(name="everything")
def _everything(tmp_path: Path) -> ModelCheckResult:
    from nashquant import set_march

    set_march("nash-e")
    table = [["wide", "activation", 2.0], ["relu2", "activation", 1.5], ["relu", "activation", 1.0]]
    setters = (
        ModuleNameQconfigSetter({"relu": QConfig(output=None), "_generated_sigmoid_0": get_qconfig(out_dtype=qint8)}),
        sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(table, topk=2),
        default_calibration_qconfig_setter,
    )
    with pytest.warns(UnknownOpWarning, match="i0"):
        return check_result_of(prepare(Everything().eval(), torch.randn(1, 3, 4, 4), setters, save_dir=tmp_path))


def test_the_summary_names_everything_one_looks_for(everything: ModelCheckResult) -> None:
    assert everything.summary() == {
        "int8": ("quant", "_generated_sigmoid_0", "shared", "shared(1)", "_generated_cat_0"),
        "int16": ("wide", "relu2"),
        "high precision": ("relu", "head"),
        "float": (),
        "unsupported": ("[i0]",),
        "fell back": (),
        "unfused": ("shared", "relu2"),
        "shared": ("shared",),
        "uncalled": ("unused",),
    }


def test_an_unknown_op_is_a_row_among_the_others_in_float(everything: ModelCheckResult) -> None:
    row = next(row for row in everything.layers if row.precision == "unsupported")
    assert (row.name, row.module_type, row.input_dtypes) == ("[i0]", "i0", (qint16,))
    assert (row.output_dtype, row.observer) == (torch.float32, None)
    assert everything.output_statistics()["i0"] == {torch.float32: 1}


def test_the_text_starts_with_the_summary(everything: ModelCheckResult) -> None:
    lines = str(everything).splitlines()
    assert lines[0] == "Everything for nash-e, batch norms folded"
    assert lines[1] == "  int8               5  quant, _generated_sigmoid_0, shared, shared(1), _generated_cat_0"
    assert lines[5] == "  unsupported        1  [i0]"
    assert lines[6] == "  fell back          0"


def test_long_lists_of_names_are_cut_at_the_edge() -> None:
    names = [f"layer{i}.conv" for i in range(100)]
    shown = shortened(names, width=40)
    assert shown == "layer0.conv, layer1.conv, layer2.conv and 97 more"
    assert shortened(["x" * 99], width=40) == "x" * 99
    assert shortened([]) == ""


def test_the_graph_says_who_reads_whom_from_which_line(everything: ModelCheckResult, tmp_path: Path) -> None:
    rows = {row.name: row for row in everything.graph}
    assert [row.name for row in everything.graph][:4] == ["quant", "conv", "relu", "wide"]
    assert (rows["conv"].args, rows["conv"].out, rows["conv"].op) == ("quant", "(fused)", "relu")
    assert (rows["wide"].opcode, rows["wide"].target, rows["wide"].out) == ("call_module", "Conv2d", "qint16")
    assert rows["shared(1)"].args == "shared"
    assert (rows["i0"].args, rows["i0"].out) == ("relu2", "torch.float32")
    assert rows["_generated_cat_0"].args == "chunk[1], chunk[0]"
    assert (rows["_generated_sigmoid_0"].opcode, rows["quant"].args) == ("call_function", "input")
    line = inspect.getsource(Everything).splitlines().index("        y = torch.sigmoid(self.wide(x))")
    place = f"{Path(__file__).name}:{inspect.getsourcelines(Everything)[1] + line}"
    assert rows["_generated_sigmoid_0"].place.endswith(place)
    text = (tmp_path / "fx_graph.txt").read_text()
    assert text.splitlines()[0].split() == ["opcode", "name", "target", "args", "kwargs", "out", "op", "place"]
    assert len(text.splitlines()) == len(everything.graph) + 2


def test_on_a_terminal_it_is_a_table_in_colours(
    everything: ModelCheckResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console = pytest.importorskip("rich.console")
    terminal = console.Console(width=100, force_terminal=True, file=io.StringIO(), record=True)
    terminal.print(everything)
    coloured, plain = terminal.export_text(styles=True, clear=False), terminal.export_text()
    assert "\x1b[1;31munsupported" in coloured
    row = next(line for line in coloured.splitlines() if "wide" in line and "Conv2d" in line)
    assert row.startswith("\x1b[36m")  # int16
    row = next(line for line in plain.splitlines() if "wide" in line and "Conv2d" in line)
    assert row.split() == ["wide", "Conv2d", "float", "int8", "int16", "MSE"]
    row = next(line for line in coloured.splitlines() if "[i0]" in line)
    assert row.startswith("\x1b[1;31m")
    assert plain.index("relu2") < plain.index("[i0]") < plain.index("_generated_cat_0")  # where it ran
    names = list(everything.summary())
    summary = plain.splitlines()[-len(names) - 1 :]  # the end of a long table is what a terminal shows
    assert summary[0].startswith("Everything for nash-e")
    assert all(line.split("  ")[0].strip() == name for line, name in zip(summary[1:], names, strict=True))

    everything.show()  # captured, so no terminal
    assert capsys.readouterr().out == f"{everything}\n"
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    everything.show()
    assert capsys.readouterr().out == f"{everything}\n"
