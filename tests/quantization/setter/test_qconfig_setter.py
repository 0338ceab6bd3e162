"""The newer API: templates, of which the later override the earlier."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nashquant import set_march
from nashquant.dtype import qint8, qint16
from nashquant.quantization import (
    DeQuantStub,
    QConfig,
    QconfigSetter,
    QuantStub,
    check_result_of,
    get_qconfig,
    prepare,
    set_fake_quantize,
)
from nashquant.quantization.observer import HistogramObserver, MinMaxObserver, MSEObserver
from nashquant.quantization.qconfig_setter import (
    ConvDtypeTemplate,
    DtypeTemplate,
    MatmulDtypeTemplate,
    ModuleNameTemplate,
    SensitivityTemplate,
)
from nashquant.quantization.qconfig_template import (
    HighPrecisionOutputTemplate,
    ModuleNameQconfigSetter,
    default_calibration_qconfig_setter,
    default_qat_qconfig_setter,
)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn, self.relu = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()
        self.conv2 = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.relu(self.bn(self.conv1(x)))).sigmoid()


class Net(nn.Module):
    """quant -> two blocks -> matmul with itself -> head -> dequant."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.backbone, self.neck, self.head = Block(), Block(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.neck(self.backbone(self.quant(x)))
        return self.dequant(self.head(torch.matmul(x, x)))  # type: ignore[no-any-return]


X = torch.linspace(-1, 1, 2 * 4 * 36).reshape(2, 4, 6, 6)
ALL8, ALL16 = ModuleNameTemplate({"": qint8}), ModuleNameTemplate({"": qint16})


@pytest.fixture(autouse=True)
def _a_march() -> None:
    set_march("nash-m")


def made(*templates: DtypeTemplate, net: nn.Module | None = None, reference: QConfig | None = None, **more: Any) -> Any:
    setter = QconfigSetter(reference or get_qconfig(), list(templates), **more)
    return prepare((net or Net()).eval(), X, setter, save_dir=None)


def outputs(prepared: nn.Module) -> dict[str, str]:
    return {row.name: str(row.output_dtype) for row in check_result_of(prepared).layers}


def inputs(prepared: nn.Module) -> dict[str, list[str]]:
    return {row.name: list(map(str, row.input_dtypes)) for row in check_result_of(prepared).layers}


def weights(prepared: nn.Module) -> dict[str, str]:
    return {row.name: str(row.dtype) for row in check_result_of(prepared).weights}


def changes(prepared: nn.Module) -> list[str]:
    return [str(change) for change in check_result_of(prepared).changes]


def test_the_first_template_is_for_all_ops_and_the_reference_gives_the_observers() -> None:
    for dtype, template in ((qint8, ALL8), (qint16, ALL16)):
        prepared = made(template, reference=get_qconfig(observer=MSEObserver), enable_optimize=False)
        names = [name for name in outputs(prepared) if name != "dequant"]
        assert {outputs(prepared)[name] for name in names} == {str(dtype)}
        assert type(prepared.quant.activation_post_process.activation_post_process) is MSEObserver
        weight = prepared.head.weight_fake_quant
        assert (weight.dtype, type(weight.activation_post_process)) == (qint8, MinMaxObserver)
    assert type(made(ALL8).quant.activation_post_process.activation_post_process) is HistogramObserver


def test_a_later_template_overrides_an_earlier_one_part_by_part() -> None:
    prepared = made(ALL8, ModuleNameTemplate({"head": {"weight": qint16}}), ModuleNameTemplate({"neck.conv1": qint16}))
    assert weights(prepared) == {
        "backbone.relu": "qint8",
        "backbone.conv2": "qint8",
        "neck.relu": "qint8",
        "neck.conv2": "qint8",
        "head": "qint16",
    }
    assert outputs(prepared)["neck.relu"] == "qint16"
    again = made(ALL8, ModuleNameTemplate({"neck": qint16}), ModuleNameTemplate({"neck.conv1": qint8}))
    assert outputs(again)["neck.relu"] == "qint8"


def test_the_closest_name_has_the_last_word_in_whatever_order_they_stand() -> None:
    for mapping in (
        {"": qint8, "neck": qint16, "neck.relu": qint8},
        {"neck.relu": qint8, "neck": qint16, "": qint8},
    ):
        found = outputs(made(ModuleNameTemplate(mapping)))
        assert (found["neck.conv2"], found["neck.relu"], found["backbone.conv2"]) == ("qint16", "qint8", "qint8")
    both = outputs(made(ModuleNameTemplate({"": qint8, "neck.conv1": qint8, "neck.relu": qint16})))
    assert both["neck.relu"] == "qint16"  # the op's own name before that of a member


def test_a_prefix_ends_at_a_dot() -> None:
    class Numbered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = QuantStub(), DeQuantStub()
            self.conv1, self.conv10 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.dequant(self.conv10(self.conv1(self.quant(x))).sigmoid())  # type: ignore[no-any-return]

    found = outputs(made(ModuleNameTemplate({"": qint8, "conv1": qint16}), net=Numbered()))
    assert (found["conv1"], found["conv10"]) == ("qint16", "qint8")


def test_a_threshold_becomes_a_fixed_scale() -> None:
    mapping = {
        "": qint8,
        "quant": {"threshold": 1.0},
        "backbone.relu": {"dtype": qint16, "threshold": 2},
        "head": {"dtype": qint8, "threshold": {"input": 0.5, "output": 4.0}},
    }
    prepared = made(ModuleNameTemplate(mapping))
    assert prepared.quant.activation_post_process.scale.item() == 1 / 128
    relu = prepared.backbone.relu.activation_post_process
    assert (relu.scale.item(), relu.dtype) == (2 / 32768, qint16)
    assert prepared.head.activation_post_process.scale.item() == 4 / 128
    # Only the head reads the matmul, so that the matmul gives what the head asks for.
    assert prepared._generated_matmul_0.activation_post_process.scale.item() == 0.5 / 128
    assert prepared.head.input_fake_quant is None
    at_the_door = made(ModuleNameTemplate(mapping), enable_optimize=False)
    assert at_the_door.head.input_fake_quant.scale.item() == 0.5 / 128
    assert type(at_the_door._generated_matmul_0.activation_post_process.activation_post_process) is HistogramObserver


def test_a_threshold_of_an_input_is_on_the_dtype_that_arrives() -> None:
    mapping = {"": qint8, "_generated_matmul_0": qint16, "head": {"threshold": {"input": 0.5}}}
    prepared = made(ModuleNameTemplate(mapping), enable_optimize=False)
    door = prepared.head.input_fake_quant
    assert (door.dtype, door.scale.item()) == (qint16, 0.5 / 32768)


def test_conv_and_linear_get_inputs_and_weights() -> None:
    prepared = made(ALL16, ConvDtypeTemplate(qint8, qint8))
    found = inputs(prepared)
    assert [found[name] for name in ("backbone.relu", "backbone.conv2", "neck.relu", "head")] == [["qint8"]] * 4
    # What only one of them reads is made so at once; what the matmul reads stays.
    assert outputs(prepared)["backbone.relu"] == "qint8"
    assert outputs(prepared)["backbone.conv2"] == "qint16"
    assert outputs(prepared)["neck._generated_sigmoid_0"] == "qint16"
    assert "backbone.relu: output qint16 -> qint8 (adjusted): only 'backbone.conv2' reads it, and asks for this" in (
        changes(prepared)
    )
    dual = made(ALL8, ConvDtypeTemplate(qint16, qint16, prefix="neck"))
    assert set(weights(dual).items()) >= {("neck.conv2", "qint16"), ("backbone.conv2", "qint8"), ("head", "qint8")}
    assert (inputs(dual)["neck.conv2"], inputs(dual)["backbone.conv2"]) == (["qint16"], ["qint8"])


def test_an_input_that_others_read_too_is_requantized_at_the_door() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = QuantStub(), DeQuantStub()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.quant(x).sigmoid()
            return self.dequant(self.conv(x)), self.dequant(x * 2)

    prepared = made(ALL16, ConvDtypeTemplate(qint8, qint8), net=Forked())
    assert outputs(prepared)["_generated_sigmoid_0"] == "qint16"
    assert inputs(prepared)["conv"] == ["qint8"]
    set_fake_quantize(prepared, "calibration")
    prepared(X)
    set_fake_quantize(prepared.eval(), "validation")
    seen: list[Tensor] = []
    prepared.conv.input_fake_quant.register_forward_hook(lambda module, args, y: seen.extend([args[0], y]))
    prepared(X)
    wide, narrow = seen
    assert len(wide.unique()) > len(narrow.unique())
    steps = narrow / prepared.conv.input_fake_quant.scale
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    assert any("conv: input 0 qint16 -> qint8 (adjusted): asked for this op" in line for line in changes(prepared))


def test_the_sides_of_a_matmul_may_differ() -> None:
    prepared = made(ALL16, MatmulDtypeTemplate([qint8, qint16]))
    assert inputs(prepared)["_generated_matmul_0"] == ["qint8", "qint16"]
    assert list(prepared._generated_matmul_0.operand_fake_quant) == ["0"]
    set_fake_quantize(prepared, "calibration")
    prepared(X)
    set_fake_quantize(prepared.eval(), "validation")
    seen: list[Tensor] = []
    prepared._generated_matmul_0.operand_fake_quant["0"].register_forward_hook(lambda m, args, y: seen.append(y))
    prepared(X)
    assert len(seen[0].unique()) <= 256
    assert inputs(made(ALL16, MatmulDtypeTemplate(qint8)))["_generated_matmul_0"] == ["qint8", "qint8"]


def test_frozen_parts_are_left_alone_by_later_templates_and_by_prepare() -> None:
    frozen = ModuleNameTemplate({"backbone.relu": qint16, "head": {"output": qint16, "weight": qint8}}, freeze=True)
    for templates in ((ALL8, frozen), (frozen, ALL8)):
        prepared = made(*templates, ConvDtypeTemplate(qint8, qint16), ModuleNameTemplate({"backbone": qint8}))
        assert outputs(prepared)["backbone.relu"] == "qint16"
        assert inputs(prepared)["backbone.conv2"] == ["qint8"]  # requantized at its door instead
        assert outputs(prepared)["head"] == "qint16"  # else it would keep its accumulator's precision
        assert (weights(prepared)["head"], weights(prepared)["neck.conv2"]) == ("qint8", "qint16")


def test_what_the_march_lacks_is_an_error_if_frozen_and_a_fallback_else() -> None:
    mapping = {"neck._generated_sigmoid_0": qint16}
    prepared = made(ALL8, ModuleNameTemplate(mapping))
    assert outputs(prepared)["neck._generated_sigmoid_0"] == "qint8"
    assert any("qint16 -> qint8 (fallback): nash-m computes" in line for line in changes(prepared))
    with pytest.raises(ValueError, match="from qint8 to qint8 only, but qint16 was asked"):
        made(ALL8, ModuleNameTemplate(mapping, freeze=True))


def test_high_precision_is_kept_where_only_a_dequant_reads_unless_told_otherwise() -> None:
    assert outputs(made(ALL8))["head"] == "torch.float32"
    assert outputs(made(ALL8, enable_optimize=False))["head"] == "qint8"
    assert outputs(made(ALL8, ModuleNameTemplate({"head": torch.float32}), enable_optimize=False))["head"] == (
        "torch.float32"
    )
    assert outputs(made(ALL8, ModuleNameTemplate({"head": {"threshold": 1.0}})))["head"] == "qint8"


TABLE = [
    ["backbone.conv1", "activation", "Conv2d", 0.9],
    ["head", "weight", "Linear", 0.8],
    ["neck.relu", "activation", "ReLU", 0.5],
    ["backbone.conv1", "weight", "Conv2d", 0.4],
    ["quant", "activation", "QuantStub", 0.0],
]


def sensitive(how: float, kind: str = "activation", base: DtypeTemplate = ALL8) -> tuple[set[str], set[str]]:
    """The ops with an int16 output, and those with an int16 weight."""
    prepared = made(base, SensitivityTemplate(TABLE, how, kind), enable_optimize=False)
    wide = {name for name, dtype in outputs(prepared).items() if dtype == "qint16"}
    return wide, {name for name, dtype in weights(prepared).items() if dtype == "qint16"}


def test_the_most_sensitive_rows_get_the_wide_dtype() -> None:
    assert sensitive(0) == (set(), set())
    assert sensitive(1) == ({"backbone.relu"}, set())  # the conv is fused with its relu
    assert sensitive(2) == ({"backbone.relu", "neck.relu"}, set())
    assert sensitive(0.5) == ({"backbone.relu", "neck.relu"}, set())  # half of three, rounded up
    assert sensitive(1.0)[0] == {"backbone.relu", "neck.relu", "quant"}
    assert sensitive(1, "weight") == (set(), {"head"})
    assert sensitive(2, "both") == ({"backbone.relu"}, {"head"})


def test_the_others_of_the_table_get_the_narrow_dtype() -> None:
    wide, _ = sensitive(1, base=ALL16)
    assert {"neck.relu", "quant"} & wide == set()
    assert {"backbone.relu", "neck.conv2", "head"} <= wide


def test_a_sensitivity_table_must_fit(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="sensitive_type is 'act', expected 'activation', 'weight' or 'both'"):
        SensitivityTemplate(TABLE, 1, "act")
    with pytest.raises(ValueError, match=r"ratio must lie between 0 and 1, not 1\.5"):
        SensitivityTemplate(TABLE, 1.5)
    with pytest.raises(ValueError, match="topk must be a whole number, 0 or more, not True"):
        SensitivityTemplate(TABLE, True)
    with pytest.raises(ValueError, match=r"row 1 of the sensitivity table has the sensitivity nan"):
        SensitivityTemplate([TABLE[0], ["head", "activation", "Linear", float("nan")]], 1)
    with pytest.raises(ValueError, match="none of the 1 sensitive ops \\('gone'\\) is an op of this model"):
        made(ALL8, SensitivityTemplate([["gone", "activation", "Linear", 1.0]], 1))
    with caplog.at_level(logging.WARNING, "nashquant"):
        made(ALL8, SensitivityTemplate([["gone", "activation", "Linear", 1.0], *TABLE], 2))
    assert "sensitive ops that this model does not quantize: gone" in caplog.text


def test_the_two_apis_do_not_mix() -> None:
    setter = QconfigSetter(get_qconfig(), [ALL8])
    with pytest.raises(ValueError, match="QconfigSetter stands alone, but qconfig_setter has 2 setters"):
        prepare(Net(), X, (setter, default_qat_qconfig_setter), save_dir=None)
    with pytest.raises(TypeError, match=r"a template goes into QconfigSetter\(get_qconfig\(\), templates=\[\.\.\.\]\)"):
        prepare(Net(), X, ALL8, save_dir=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is a setter of the older API, not a template"):
        QconfigSetter(get_qconfig(), [ALL8, default_qat_qconfig_setter])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="is no template of QconfigSetter"):
        QconfigSetter(get_qconfig(), [ALL8, HighPrecisionOutputTemplate()])  # type: ignore[list-item]
    assert outputs(prepare(Net(), X, (setter,), save_dir=None))["quant"] == "qint8"


def test_an_order_that_means_nothing_is_explained() -> None:
    conv = ConvDtypeTemplate(qint8, qint8)
    with pytest.raises(ValueError, match=r"put ModuleNameTemplate\(\{'': qint8\}\) first"):
        QconfigSetter(get_qconfig(), [conv])
    with pytest.raises(ValueError, match="at place 1 would override what stands before it: later templates win"):
        QconfigSetter(get_qconfig(), [conv, ALL8])
    with pytest.raises(ValueError, match="at place 2 would override all that stands before it"):
        QconfigSetter(get_qconfig(), [ALL8, conv, ALL16])
    with pytest.raises(TypeError, match="templates takes a list"):
        QconfigSetter(get_qconfig(), ALL8)  # type: ignore[arg-type]


def test_what_a_template_cannot_take_is_named() -> None:
    for float32 in ("float32", torch.float32):
        with pytest.raises(TypeError, match=r"ConvDtypeTemplate's weight_dtype is torch\.float32, but it says how"):
            ConvDtypeTemplate(qint8, float32)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"weight is torch\.float16, but a weight is of integers on every march"):
        ModuleNameTemplate({"head": {"weight": torch.float16}})
    with pytest.raises(
        TypeError, match=r"takes qint8, qint16, torch\.float16 or torch\.float32 \(not quantized\), not"
    ):
        ModuleNameTemplate({"": "int8"})
    with pytest.raises(TypeError, match="takes a dict of module name to dtype, not a list"):
        ModuleNameTemplate([("", qint8)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a module name must be a string, not 3"):
        ModuleNameTemplate({3: qint8})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="takes a dtype, or a dict with 'dtype' and 'threshold'"):
        ModuleNameTemplate({"head": {"dtype": qint8, "output": qint8}})
    for threshold in (0, -1.0, float("nan"), "1"):
        with pytest.raises(ValueError, match="threshold takes a finite number above 0"):
            ModuleNameTemplate({"head": {"threshold": threshold}})
    with pytest.raises(ValueError, match="a threshold is for 'input' or 'output'"):
        ModuleNameTemplate({"head": {"threshold": {"weight": 1.0}}})
    with pytest.raises(ValueError, match=r"one dtype or two, \[left, right\]"):
        MatmulDtypeTemplate([qint8, qint8, qint8])
    with pytest.raises(TypeError, match="reference_qconfig takes a QConfig"):
        QconfigSetter(qint8, [ALL8])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="neither output nor input"):
        QconfigSetter(QConfig(), [ALL8])
    with pytest.raises(ValueError, match=r"a threshold of 1\.0 makes no sense with torch\.float32"):
        made(ALL8, ModuleNameTemplate({"head": {"dtype": torch.float32, "threshold": 1.0}}))


def test_names_must_be_there(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"names what is no op of the model: 'backbon' \(did you mean 'backbone"):
        made(ModuleNameTemplate({"": qint8, "backbon": qint16}))
    with caplog.at_level(logging.WARNING, "nashquant"):
        made(ModuleNameTemplate({"": qint8, "dequant": qint16}))
    assert "ModuleNameTemplate names 'dequant', which has no quantizer of its own" in caplog.text


def test_a_mapping_of_qconfigs_has_the_last_word() -> None:
    own = get_qconfig(observer=MinMaxObserver, out_dtype=qint16)
    prepared = made(ALL8, custom_qconfig_mapping={"backbone.relu": own})
    quantizer = prepared.backbone.relu.activation_post_process
    assert (quantizer.dtype, type(quantizer.activation_post_process)) == (qint16, MinMaxObserver)


def test_a_template_of_the_user_is_as_good_as_ours() -> None:
    class Sigmoids16(DtypeTemplate):
        def write(self, table: Any) -> None:
            for op in table.ops:
                if op.first.entry.name == "sigmoid":
                    table.say(op, "input", inputs=(qint16,))
                    table.say(op, "output", output=qint16)

    prepared = made(ALL8, Sigmoids16())
    assert outputs(prepared)["neck._generated_sigmoid_0"] == "qint16"
    assert outputs(prepared)["neck.conv2"] == "qint16"  # read by the sigmoid alone


def test_a_missing_stub_is_still_an_error() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = QuantStub(), DeQuantStub()

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.dequant(torch.matmul(self.quant(x), y))  # type: ignore[no-any-return]

    setter = QconfigSetter(get_qconfig(), [ALL8, MatmulDtypeTemplate(qint8)])
    with pytest.raises(ValueError, match="operand 1 of '_generated_matmul_0'"):
        prepare(Bare(), (X, X), setter, save_dir=None)


def test_both_apis_give_the_same_model_where_they_say_the_same() -> None:
    def scales(setter: Any) -> dict[str, float]:
        torch.manual_seed(0)
        prepared: Any = prepare(Net().eval(), X, setter, save_dir=None)
        set_fake_quantize(prepared, "calibration")
        prepared(X)
        return {name: float(value.sum()) for name, value in prepared.state_dict().items() if name.endswith("scale")}

    old = scales(
        (
            ModuleNameQconfigSetter({"neck.relu": get_qconfig(observer=MSEObserver, out_dtype=qint16)}),
            default_calibration_qconfig_setter,
        )
    )
    templates = [ALL8, ModuleNameTemplate({"neck.relu": qint16})]
    assert scales(QconfigSetter(get_qconfig(observer=MSEObserver), templates)) == old


def test_a_float_that_an_unknown_op_gives_is_quantized_where_it_is_asked() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant, self.conv = QuantStub(), DeQuantStub(), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.dequant(self.conv(torch.i0(self.quant(x))))  # type: ignore[no-any-return]

    with pytest.warns(UserWarning, match="i0"):
        prepared = made(ALL8, ConvDtypeTemplate(qint8, qint8), net=Odd())
    assert inputs(prepared)["conv"] == ["qint8"]
    assert type(prepared.conv.input_fake_quant.activation_post_process) is HistogramObserver
