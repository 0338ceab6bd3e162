"""What the march can't do: said, written down, refused where asked."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nashquant import march
from nashquant.dtype import qint8, qint16
from nashquant.quantization import (
    DeQuantStub,
    QconfigSetter,
    QuantStub,
    check_result_of,
    get_qconfig,
    prepare,
    set_fake_quantize,
)
from nashquant.quantization.prepare import Change
from nashquant.quantization.qconfig_setter import ConvDtypeTemplate, MatmulDtypeTemplate, ModuleNameTemplate
from nashquant.quantization.qconfig_template import (
    ModuleNameQconfigSetter,
    default_calibration_qconfig_setter,
    sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter,
)


class Net(nn.Module):
    """Two table look-ups, an addition of two dtypes, and a matmul."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant, self.dequant2 = QuantStub(), DeQuantStub(), DeQuantStub()
        self.conv, self.head, self.apart = nn.Conv2d(4, 4, 1), nn.Linear(6, 6), nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.quant(x)
        y = torch.tanh(self.conv(x).sigmoid()) + self.apart(self.head(x))
        return self.dequant(torch.matmul(y, y) * 0.5), self.dequant2(y)


X = torch.linspace(-1, 1, 2 * 4 * 36).reshape(2, 4, 6, 6)
TABLE = [["_generated_sigmoid_0", "activation", 2.0], ["_generated_tanh_0", "activation", 1.0]]
WIDE_TABLES = sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(TABLE, topk=2)


def result(*setters: Any, **more: Any) -> Any:
    return check_result_of(prepare(Net().eval(), X, setters, save_dir=None, **more))


def without_int16(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> None:
    spec = dataclasses.replace(march.March.NASH_M.spec, **parts)
    monkeypatch.setattr(march, "_SPECS", {**march._SPECS, march.March.NASH_M: spec})


def test_each_fallback_is_a_change_with_its_reason() -> None:
    changes = result(WIDE_TABLES, default_calibration_qconfig_setter).changes
    why = "nash-m computes {} from qint8 to qint8 only"
    assert changes == tuple(
        Change(f"_generated_{name}_0", "output", "qint16", "qint8", why.format(name), fallback=True)
        for name in ("sigmoid", "tanh")
    )
    assert str(changes[0]) == f"_generated_sigmoid_0: output qint16 -> qint8 (fallback): {why.format('sigmoid')}"


def test_strict_refuses_and_lists_all_fallbacks_in_one_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="strict: 2 dtype") as refused:
        prepare(Net(), X, (WIDE_TABLES, default_calibration_qconfig_setter), save_dir=tmp_path, strict=True)
    assert "_generated_sigmoid_0: output qint16 -> qint8" in str(refused.value)
    assert "_generated_tanh_0: output qint16 -> qint8" in str(refused.value)
    assert not list(tmp_path.iterdir())
    assert result(default_calibration_qconfig_setter, strict=True).changes == ()


def test_what_was_asked_by_name_and_cannot_be_is_one_error_too() -> None:
    by_name = ModuleNameQconfigSetter({row[0]: get_qconfig(out_dtype=qint16) for row in TABLE})  # type: ignore[misc]
    with pytest.raises(ValueError, match="_generated_sigmoid_0") as refused:
        result(by_name, default_calibration_qconfig_setter)
    assert "_generated_tanh_0" in str(refused.value)


def test_a_march_without_int16_gives_int8_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    without_int16(monkeypatch, activations=(qint8,), weights=(qint8,))
    mapping = {"": qint16, "head": {"output": qint16, "weight": qint16}, "quant": {"threshold": 1.0}}
    found = result(QconfigSetter(get_qconfig(), [ModuleNameTemplate(mapping)]))
    assert found.summary()["int16"] == ()
    assert set(found.summary()["fell back"]) >= {"quant", "conv", "head", "_generated_add_0"}
    assert {row.dtype for row in found.weights} == {qint8}
    parts = {(change.name, change.part) for change in found.changes if change.fallback}
    assert {("head", "weight"), ("head", "output")} <= parts
    with pytest.raises(ValueError, match="nash-m has no qint16 weight for Linear, it has qint8"):
        result(QconfigSetter(get_qconfig(), [ModuleNameTemplate({"": qint8, "head": {"weight": qint16}})]), strict=True)


def test_a_frozen_dtype_that_the_march_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    without_int16(monkeypatch, activations=(qint8,))
    frozen = ModuleNameTemplate({"conv": qint16, "head": qint16}, freeze=True)
    with pytest.raises(
        ValueError, match=r"nash-m has no qint16 output for Conv2d, it has qint8 \(for 'conv'\)"
    ) as said:
        result(QconfigSetter(get_qconfig(), [ModuleNameTemplate({"": qint8}), frozen]))
    assert "(for 'head')" in str(said.value)


def test_a_module_called_again_and_again_is_one_line() -> None:
    class Thrice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant, self.conv = QuantStub(), DeQuantStub(), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.dequant(self.conv(self.conv(self.conv(self.quant(x)))).sigmoid())  # type: ignore[no-any-return]

    templates = [ModuleNameTemplate({"": qint16}), ConvDtypeTemplate(qint8, qint8)]
    setter = QconfigSetter(get_qconfig(), templates, enable_optimize=False)
    prepared = prepare(Thrice().eval(), X, setter, save_dir=None)
    changes = [change for change in check_result_of(prepared).changes if change.part == "input 0"]
    assert len(changes) == len(set(changes)) == 2  # from the stub, and from itself
    assert {change.name for change in changes} == {"conv"}


def test_what_nobody_asked_is_no_fallback() -> None:
    # The head asks for int16, and alone reads a table that can't give it: the head requantizes, and strict is content.
    class Looked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant, self.head = QuantStub(), DeQuantStub(), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.dequant(self.head(self.quant(x).sigmoid()))  # type: ignore[no-any-return]

    setter = QconfigSetter(get_qconfig(), [ModuleNameTemplate({"": qint8}), ConvDtypeTemplate(qint16, qint16)])
    found = check_result_of(prepare(Looked().eval(), X, setter, save_dir=None, strict=True))
    rows = {row.name: row for row in found.layers}
    assert (rows["_generated_sigmoid_0"].output_dtype, rows["head"].input_dtypes) == (qint8, (qint16,))
    assert {(c.name, c.part, c.given) for c in found.changes} == {
        ("head", "output", "torch.float32"),
        ("head", "input 0", "qint16"),
    }


def test_a_threshold_keeps_its_range_when_its_dtype_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    without_int16(monkeypatch, activations=(qint8,))
    setter = QconfigSetter(get_qconfig(), [ModuleNameTemplate({"": qint16, "quant": {"threshold": 2.0}})])
    prepared: Any = prepare(Net().eval(), X, setter, save_dir=None)
    assert prepared.quant.activation_post_process.scale.item() == 2 / 128


def test_a_stubs_own_scale_is_in_steps_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    without_int16(monkeypatch, activations=(qint8,))
    net = Net().eval()
    net.quant = QuantStub(scale=0.125)
    prepared: Any = prepare(net, X, QconfigSetter(get_qconfig(), [ModuleNameTemplate({"": qint16})]), save_dir=None)
    assert prepared.quant.activation_post_process.scale.item() == 0.125


def test_operands_of_an_addition_are_cast_to_one_dtype_and_no_number_changes() -> None:
    mapping = {"": qint8, "head": qint16, "_generated_add_0": qint16}
    found = result(QconfigSetter(get_qconfig(), [ModuleNameTemplate(mapping)]))
    (change,) = [change for change in found.changes if change.name == "_generated_add_0"]
    assert (change.part, change.asked, change.given, change.fallback) == ("input 0", "qint8", "qint16", False)
    assert "operands of one dtype" in change.reason
    wide = result(QconfigSetter(get_qconfig(), [ModuleNameTemplate({"": qint16})]))
    assert not [change for change in wide.changes if change.part.startswith("input")]


@pytest.mark.parametrize("weight", [qint8, qint16])
@pytest.mark.parametrize("activation", [qint8, qint16])
def test_conv_linear_and_matmul_take_every_pair_of_dtypes(activation: Any, weight: Any) -> None:
    templates = [
        ModuleNameTemplate({"": activation}),
        ConvDtypeTemplate(activation, weight),
        MatmulDtypeTemplate([activation, weight]),
    ]
    net = Net().eval()
    prepared: Any = prepare(net, X, QconfigSetter(get_qconfig(), templates), save_dir=None, strict=True)
    rows = {row.name: row for row in check_result_of(prepared).layers}
    assert rows["conv"].input_dtypes == rows["head"].input_dtypes == (activation,)
    assert rows["_generated_matmul_0"].input_dtypes == (activation, weight)
    assert {row.dtype for row in check_result_of(prepared).weights} == {weight}
    set_fake_quantize(prepared, "calibration")
    prepared(X)
    set_fake_quantize(prepared.eval(), "validation")
    for got, wanted in zip(prepared(X), net(X), strict=True):
        worst = (got - wanted).abs().max() / wanted.abs().max()
        assert worst < (0.001 if activation is weight is qint16 else 0.1)


def test_the_files_hold_what_was_decided(tmp_path: Path) -> None:
    setters = (WIDE_TABLES, default_calibration_qconfig_setter)
    prepared = prepare(Net().eval(), X, setters, save_dir=tmp_path)
    log = (tmp_path / "qconfig_changelogs.txt").read_text().splitlines()
    assert log[0].startswith("2 change(s) by prepare, 2 of them fallbacks")
    assert log[1:] == [str(change) for change in check_result_of(prepared).changes]
    dtypes = torch.load(tmp_path / "qconfig_dtypes.pt", weights_only=True)
    assert dtypes["conv"] == {"input": ["qint8"], "weight": "qint8", "output": "qint8"}
    assert dtypes["quant"] == {"output": "qint8"}
    assert dtypes["_generated_add_0"] == {"input": ["qint8", "qint8"], "output": "qint8"}
    assert runpy.run_path(str(tmp_path / "qconfig_dtypes.pt.py"))["qconfig_dtypes"] == dtypes
    prepare(Net().eval(), X, default_calibration_qconfig_setter, save_dir=tmp_path)
    assert (tmp_path / "qconfig_changelogs.txt").read_text().startswith("prepare changed nothing")


def test_the_dtypes_written_give_the_same_model_again(tmp_path: Path) -> None:
    templates = [
        ModuleNameTemplate({"": qint16, "head": qint8}),
        ConvDtypeTemplate(qint8, qint16),
        MatmulDtypeTemplate([qint16, qint8]),
    ]
    setter = QconfigSetter(get_qconfig(), templates, save_dir=tmp_path / "setter")
    first = check_result_of(prepare(Net().eval(), X, setter, save_dir=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fx_graph.txt", "model_check_result.txt", "setter"]
    mapping = torch.load(tmp_path / "setter" / "qconfig_dtypes.pt", weights_only=True)
    again = QconfigSetter(get_qconfig(), [ModuleNameTemplate({"": qint8}), ModuleNameTemplate(mapping)])
    second = check_result_of(prepare(Net().eval(), X, again, save_dir=None))
    assert (second.layers, second.weights) == (first.layers, first.weights)


def test_nothing_is_written_where_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result(default_calibration_qconfig_setter)
    assert not list(tmp_path.iterdir())


def test_a_float_output_of_what_has_no_accumulator_is_called_to_attention() -> None:
    found = result(QconfigSetter(get_qconfig(), [ModuleNameTemplate({"": qint8, "_generated_mul_0": torch.float32})]))
    message = "float output: of the ops on the chip only a conv, linear or matmul can give one"
    assert ("_generated_mul_0", "FloatFunctional", message) in found.messages
    assert found.summary()["float"] == ("_generated_mul_0",)
