"""The rules of the template setters, and who wins where several speak."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant import set_march
from nashquant.dtype import qint4, qint8, qint16
from nashquant.quantization import (
    DeQuantStub,
    FakeQuantize,
    QConfig,
    QconfigSetterBase,
    QuantStub,
    check_result_of,
    get_qconfig,
    prepare,
    set_fake_quantize,
)
from nashquant.quantization import qconfig_template as templates
from nashquant.quantization.observer import FixedScaleObserver, MinMaxObserver, MSEObserver
from nashquant.quantization.qconfig_template import (
    HighPrecisionOutputTemplate,
    ModuleNameQconfigSetter,
    TemplateQconfigSetter,
    calibration_8bit_weight_16bit_act_qconfig_setter,
    default_calibration_qconfig_setter,
    default_qat_fixed_act_qconfig_setter,
    default_qat_qconfig_setter,
    qat_8bit_weight_16bit_act_qconfig_setter,
    qat_8bit_weight_16bit_fixed_act_qconfig_setter,
    sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter,
    sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter,
    sensitive_op_qat_8bit_weight_16bit_fixed_act_qconfig_setter,
)


class Net(nn.Module):
    """quant -> conv -> sigmoid -> head -> dequant, and a second output that is no GEMM."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant, self.dequant2 = QuantStub(), DeQuantStub(), DeQuantStub()
        self.conv, self.head = nn.Conv2d(4, 4, 1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.sigmoid(self.conv(self.quant(x)))
        return self.dequant(self.head(x)), self.dequant2(x)


X = torch.linspace(-1, 1, 2 * 4 * 36).reshape(2, 4, 6, 6)


@pytest.fixture(autouse=True)
def _a_march() -> None:
    set_march("nash-m")


def outputs(*setters: QconfigSetterBase, net: nn.Module | None = None, x: Any = X) -> dict[str, str]:
    prepared = prepare(net or Net(), x, setters, save_dir=None)
    return {row.name: str(row.output_dtype) for row in check_result_of(prepared).layers}


def test_the_default_setter_gives_int8_and_a_high_precision_head() -> None:
    assert outputs(default_calibration_qconfig_setter) == {
        "quant": "qint8",
        "conv": "qint8",
        "_generated_sigmoid_0": "qint8",
        "head": "torch.float32",
        "dequant": "torch.float32",
        "dequant2": "torch.float32",
    }


def test_the_int16_setter_gives_int16_and_a_high_precision_head() -> None:
    dtypes = outputs(calibration_8bit_weight_16bit_act_qconfig_setter)
    assert [dtypes[name] for name in ("quant", "conv", "_generated_sigmoid_0", "head")] == [
        *("qint16", "qint16", "qint16", "torch.float32")
    ]


def test_outputs_that_cannot_be_high_precision_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "nashquant"):
        outputs(default_calibration_qconfig_setter)
    assert ["'_generated_sigmoid_0' leaves the chip without high" in record.message for record in caplog.records] == [
        True
    ]


@pytest.mark.parametrize("between", [lambda y: y.reshape(-1), lambda y: y.sigmoid()])
def test_anything_between_the_head_and_dequant_blocks_high_precision(between: Callable[[Tensor], Tensor]) -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant, self.head = QuantStub(), DeQuantStub(), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.dequant(between(self.head(self.quant(x))))  # type: ignore[no-any-return]

    assert outputs(default_qat_qconfig_setter, net=Head())["head"] == "qint8"


def test_a_second_consumer_blocks_high_precision() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant, self.head = QuantStub(), DeQuantStub(), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.head(self.quant(x))
            return self.dequant(y), self.dequant(F.relu(y))

    assert outputs(default_qat_qconfig_setter, net=Head())["head"] == "qint8"


class Sampler(nn.Module):
    def __init__(self, through_conv: bool) -> None:
        super().__init__()
        self.quant, self.quant_grid, self.dequant = QuantStub(), QuantStub(), DeQuantStub()
        self.conv, self.offset = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)
        self.through_conv = through_conv

    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        x = self.conv(self.quant(x))
        grid = self.quant_grid(grid)
        if self.through_conv:
            grid = grid + self.offset(x).permute(0, 2, 3, 1)
        return self.dequant(F.grid_sample(x, (grid * 0.5).clamp(-1, 1), align_corners=False))  # type: ignore


def test_the_way_to_a_sampling_grid_is_int16_back_to_its_stub() -> None:
    grid = torch.rand(2, 6, 6, 2) * 2 - 1
    dtypes = outputs(default_calibration_qconfig_setter, net=Sampler(False), x=(X, grid))
    assert dtypes == {
        "quant": "qint8",
        "conv": "qint8",
        "quant_grid": "qint16",
        "_generated_mul_0": "qint16",
        "_generated_clamp_0": "qint16",
        "dequant": "torch.float32",
    }


def test_the_way_to_a_sampling_grid_is_int16_back_to_its_gemm() -> None:
    grid = torch.rand(2, 6, 6, 2) * 2 - 1
    dtypes = outputs(default_calibration_qconfig_setter, net=Sampler(True), x=(X, grid))
    assert [dtypes[n] for n in ("quant_grid", "offset", "_generated_add_0", "_generated_mul_0")] == ["qint16"] * 4
    assert [dtypes[n] for n in ("quant", "conv")] == ["qint8"] * 2


class Turned(Sampler):
    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        x = self.conv(self.quant(x)).transpose(2, 3)
        grid = self.quant_grid(grid).transpose(1, 2)
        return self.dequant(F.grid_sample(x, grid, align_corners=False))  # type: ignore[no-any-return]


def test_the_way_to_a_sampling_grid_leads_through_its_own_moves_only() -> None:
    grid = torch.rand(2, 6, 6, 2) * 2 - 1
    dtypes = outputs(default_calibration_qconfig_setter, net=Turned(False), x=(X, grid))
    assert (dtypes["quant_grid"], dtypes["quant"], dtypes["conv"]) == ("qint16", "qint8", "qint8")


def test_the_nine_setters_differ_in_observer_and_scale_update_only() -> None:
    table = [["conv", "activation", "x", 1.0]]

    def of(setter: QconfigSetterBase) -> tuple[Any, ...]:
        prepared: Any = prepare(Net(), X, (setter, default_qat_qconfig_setter), save_dir=None)
        output, weight = prepared.conv.activation_post_process, prepared.conv.weight_fake_quant
        observer = output.activation_post_process
        assert (weight.dtype, weight.ch_axis, weight.activation_post_process.averaging_constant) == (qint8, 0, 1.0)
        assert weight.qscheme is torch.per_channel_symmetric
        return type(observer), observer.averaging_constant, output.dtype

    assert of(default_calibration_qconfig_setter) == (MSEObserver, 0.01, qint8)
    assert of(default_qat_qconfig_setter) == (MinMaxObserver, 0.01, qint8)
    assert of(default_qat_fixed_act_qconfig_setter) == (MinMaxObserver, 0.0, qint8)
    assert of(calibration_8bit_weight_16bit_act_qconfig_setter) == (MSEObserver, 0.01, qint16)
    assert of(qat_8bit_weight_16bit_act_qconfig_setter) == (MinMaxObserver, 0.01, qint16)
    assert of(qat_8bit_weight_16bit_fixed_act_qconfig_setter) == (MinMaxObserver, 0.0, qint16)
    assert of(sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(table, topk=1))[::2] == (
        MSEObserver,
        qint16,
    )
    assert of(sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter(table, topk=1)) == (MinMaxObserver, 0.01, qint16)
    fixed = sensitive_op_qat_8bit_weight_16bit_fixed_act_qconfig_setter(table, topk=1)
    assert of(fixed) == (MinMaxObserver, 0.0, qint16)


def fixed(scale: float) -> QConfig:
    return QConfig(output=FakeQuantize.with_args(observer=FixedScaleObserver, dtype=qint16, scale=scale))


def test_the_first_setter_that_matches_wins() -> None:
    first = ModuleNameQconfigSetter({"conv": fixed(0.5)})
    second = ModuleNameQconfigSetter({"conv": fixed(0.25), "quant": fixed(0.125)})
    prepared: Any = prepare(Net(), X, (first, second, default_qat_qconfig_setter), save_dir=None)
    assert prepared.conv.activation_post_process.scale.tolist() == [0.5]
    assert prepared.quant.activation_post_process.scale.tolist() == [0.125]
    assert prepared.conv.weight_fake_quant.dtype is qint8  # the chip has no float weight: the next setter's


def test_an_op_nobody_speaks_for_stays_float_and_what_it_feeds_is_flagged() -> None:
    prepared: Any = prepare(
        Net(), X, ModuleNameQconfigSetter({"quant": fixed(0.5), "head": get_qconfig(in_dtype=None)}), save_dir=None
    )
    result = check_result_of(prepared)
    assert {row.name: row.observer for row in result.layers}["conv"] is None
    set_fake_quantize(prepared, "qat")
    prepared.train()(X)
    assert prepared.conv.weight_fake_quant is None
    message = "input dtype [torch.float32]: a float tensor enters a quantized op"
    assert ("head", "Linear", message) in result.messages


def test_a_name_that_matches_nothing_lists_near_names() -> None:
    with pytest.raises(ValueError, match=r"no quantized op of the model: 'convv' \(did you mean 'conv'\?\)"):
        outputs(ModuleNameQconfigSetter({"convv": fixed(0.5)}), default_qat_qconfig_setter)


def test_ops_that_no_setter_speaks_for_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    by_name = ModuleNameQconfigSetter({"conv": get_qconfig()})
    with caplog.at_level(logging.WARNING, "nashquant"):
        assert outputs(by_name)["head"] == "torch.float32"
    said = [record.message for record in caplog.records if "no setter speaks for" in record.message]
    assert len(said) == 1
    assert "'conv'" not in said[0]
    assert "_generated_sigmoid_0, head" in said[0]
    caplog.clear()
    outputs(by_name, default_qat_qconfig_setter)
    assert "no setter speaks for" not in caplog.text


def test_a_fused_op_answers_to_its_own_name_first_and_to_its_members() -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = QuantStub(), DeQuantStub()
            self.conv, self.bn, self.relu = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.dequant(self.relu(self.bn(self.conv(self.quant(x)))).flatten(1))  # type: ignore

    for name in ("conv", "bn", "relu"):
        assert outputs(ModuleNameQconfigSetter({name: fixed(1)}), default_qat_qconfig_setter, net=Fused())["relu"] == (
            "qint16"
        )
    both = ModuleNameQconfigSetter({"conv": fixed(1), "relu": get_qconfig(out_dtype=qint8)})
    assert outputs(both, default_qat_qconfig_setter, net=Fused())["relu"] == "qint8"


def test_a_high_precision_template_put_first_beats_a_name() -> None:
    by_name = ModuleNameQconfigSetter({"head": get_qconfig(out_dtype=qint16)})
    assert outputs(by_name, default_qat_qconfig_setter)["head"] == "qint16"
    for template in (HighPrecisionOutputTemplate, HighPrecisionOutputTemplate()):
        first = TemplateQconfigSetter(template)
        assert outputs(first, by_name, default_qat_qconfig_setter)["head"] == "torch.float32"
    base = TemplateQconfigSetter(get_qconfig(out_dtype=qint16), [HighPrecisionOutputTemplate()])
    assert outputs(base)["head"] == "torch.float32"
    assert outputs(base)["conv"] == "qint16"


TABLE = [
    ["conv", "activation", "Conv2d", 0.9, "qint8", "100(50%)"],
    ["head", "weight", "Linear", 0.8, "qint8", "100(50%)"],
    ["quant", "activation", "QuantStub", 0.7, "qint8", "0(0%)"],
    ["_generated_sigmoid_0", "activation", "Sigmoid", 0.1, "qint8", "0(0%)"],
    ["elsewhere", "activation", "Add", 0.0, "qint8", "0(0%)"],
]


def test_topk_and_ratio_choose_the_most_sensitive_ops(tmp_path: Path) -> None:
    def chosen(**how: Any) -> set[str]:
        setter = sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(TABLE, **how)
        dtypes = outputs(setter, default_calibration_qconfig_setter)
        return {name for name, dtype in dtypes.items() if dtype == "qint16"}

    assert chosen(topk=0) == set()
    assert chosen(topk=1) == {"conv"}
    assert chosen(topk=2) == {"conv", "quant"}  # the row about a weight does not count
    assert chosen(ratio=0.25) == {"conv"}
    assert chosen(ratio=0.5) == {"conv", "quant"}
    path = tmp_path / "output_0-0_L1_sensitive_ops.pt"
    torch.save([tuple(row[:4]) for row in TABLE], path)
    setter = sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(path, topk=1)
    assert outputs(setter, default_calibration_qconfig_setter)["conv"] == "qint16"


def test_one_setter_per_model_output_add_up() -> None:
    first = sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(TABLE, topk=1)
    second = sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter([["quant", "activation", 1.0]], ratio=0.2)
    dtypes = outputs(first, second, default_calibration_qconfig_setter)
    assert dtypes["conv"] == dtypes["quant"] == "qint16"


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


def test_a_table_on_disk_cannot_execute_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pt"
    torch.save([["conv", "activation", 1.0, Evil()]], path)
    with pytest.raises(Exception, match=r"[Ww]eights"):
        sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter(path, topk=1)
    assert "executed" not in capsys.readouterr().out


def test_wrong_tables_and_counts_are_refused() -> None:
    make = sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter
    with pytest.raises(ValueError, match=r"give topk or ratio, one of the two; got topk=None, ratio=None"):
        make(TABLE)
    with pytest.raises(ValueError, match="one of the two"):
        make(TABLE, topk=1, ratio=0.1)
    with pytest.raises(ValueError, match="ratio must lie between 0 and 1, not 20"):
        make(TABLE, ratio=20)
    with pytest.raises(ValueError, match="topk must be a whole number, 0 or more, not -1"):
        make(TABLE, topk=-1)
    with pytest.raises(ValueError, match=r"row 0 of the sensitivity table must have 3 to 7 fields"):
        make([["conv", 1.0]], topk=1)
    with pytest.raises(ValueError, match=r"row 0 of the sensitivity table holds no number"):
        make([["conv", "activation", "Conv2d"]], topk=1)
    with pytest.raises(ValueError, match=r"row 1 of the sensitivity table has the sensitivity nan, which has no place"):
        make([TABLE[0], ["quant", "activation", float("nan")]], topk=1)
    with pytest.raises(ValueError, match="none of the 1 sensitive ops \\('elsewhere'\\) is an op of this model"):
        outputs(make(TABLE[-1:], topk=1), default_qat_qconfig_setter)


def test_a_dtype_the_march_lacks_is_an_error_that_names_the_op() -> None:
    setter = ModuleNameQconfigSetter({"conv": get_qconfig(out_dtype=qint4)})
    with pytest.raises(ValueError, match=r"nash-m has no qint4 output for Conv2d, it has qint8, qint16 \(for 'conv'\)"):
        outputs(setter, default_qat_qconfig_setter)


def test_what_a_table_lookup_cannot_do_is_an_error_by_name_and_a_reported_fallback_else() -> None:
    by_name = ModuleNameQconfigSetter({"_generated_sigmoid_0": get_qconfig(out_dtype=qint16)})
    with pytest.raises(
        ValueError, match=r"from qint8 to qint8 only, but qint16 was asked \(for '_generated_sigmoid_0'"
    ):
        outputs(by_name, default_qat_qconfig_setter)
    table = [["_generated_sigmoid_0", "activation", 1.0]]
    setter = sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter(table, topk=1)
    prepared = prepare(Net(), X, (setter, default_qat_qconfig_setter), save_dir=None)
    result = check_result_of(prepared)
    assert {row.name: row.output_dtype for row in result.layers}["_generated_sigmoid_0"] is qint8
    assert any("qint16 became qint8" in message for _, _, message in result.messages)


def test_a_setter_in_the_vendors_shape_writes_qconfig_on_modules() -> None:
    class Mine(QconfigSetterBase):
        def set_qconfig(self, model: nn.Module, example_inputs: Any, example_kw_inputs: Any = None) -> None:
            model.conv.qconfig = fixed(0.5)  # type: ignore[union-attr, assignment]
            model.get_submodule("_generated_sigmoid_0").qconfig = fixed(0.25)  # type: ignore[assignment]

    net = Net()
    prepared: Any = prepare(net, X, (Mine(), default_qat_qconfig_setter), save_dir=None)
    assert prepared.conv.activation_post_process.scale.tolist() == [0.5]
    assert prepared._generated_sigmoid_0.activation_post_process.scale.tolist() == [0.25]
    assert not hasattr(net.conv, "qconfig")


def test_a_stub_s_own_qconfig_and_scale_win() -> None:
    net = Net()
    net.quant = QuantStub(qconfig=get_qconfig(observer=MinMaxObserver, out_dtype=qint16))
    assert outputs(default_qat_qconfig_setter, net=net)["quant"] == "qint16"
    net.quant = QuantStub(scale=1.1 / 32768.0)
    prepared: Any = prepare(net, X, default_qat_qconfig_setter, save_dir=None)
    assert prepared.quant.activation_post_process.dtype is qint8
    assert prepared.quant.activation_post_process.scale.item() == pytest.approx(3.35693359375e-05)
    with pytest.raises(ValueError, match=r"scale above 0, not -1\.0"):
        QuantStub(scale=-1)
    with pytest.raises(ValueError, match="zero_point 0"):
        QuantStub(zero_point=3)


def test_wrong_kinds_of_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="takes a dict of module name to QConfig, not a list"):
        ModuleNameQconfigSetter([("conv", fixed(1))])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a module name must be a string, not 3"):
        ModuleNameQconfigSetter({3: fixed(1)})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="ratio must lie between 0 and 1, not 'a'"):
        sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter(TABLE, ratio="a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one number as scale, not 'a'"):
        QuantStub("a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale above 0, not 1e-45"):
        QuantStub(1e-45)
    with pytest.raises(TypeError, match="example_kw_inputs takes a dict of keyword inputs, not list"):
        prepare(Net(), X, default_qat_qconfig_setter, [X])  # type: ignore[arg-type]


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "garbage.pt"
    path.write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"garbage\.pt' is no table that torch can load"):
        sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter(path, topk=1)


def test_all_nine_setters_are_offered() -> None:
    setters = [name for name in templates.__all__ if name.endswith("_qconfig_setter")]
    assert len(setters) == 9


def test_names_behind_a_setter_that_speaks_for_all_are_an_error_that_tells_the_order() -> None:
    named = ModuleNameQconfigSetter({"quant": get_qconfig(out_dtype=qint16)})
    model = Sampler(False)
    inputs = (X, torch.rand(2, 6, 6, 2))
    with pytest.raises(ValueError, match=r"number 1 of 2 \(TemplateQ.*: ModuleNameQ.* behind it"):
        prepare(model, inputs, (default_qat_qconfig_setter, named), save_dir=None)
    part = TemplateQconfigSetter(HighPrecisionOutputTemplate)  # speaks for some ops only
    prepare(model, inputs, (named, part, default_qat_qconfig_setter), save_dir=None)
