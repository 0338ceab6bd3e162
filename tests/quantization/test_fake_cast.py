"""Half precision as a quantizer: what it computes, where it is allowed, what it leaves to integers."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant import set_march
from nashquant.quantization import DeQuantStub, QConfig, QconfigSetter, QuantStub, get_qconfig, prepare, qint8
from nashquant.quantization.fake_quantize import FakeCast, FakeQuantize, set_fake_quantize
from nashquant.quantization.prepare import check_result_of
from nashquant.quantization.qconfig_setter import ConvDtypeTemplate, ModuleNameTemplate
from nashquant.quantization.qconfig_template import (
    ModuleNameQconfigSetter,
    TemplateQconfigSetter,
    default_calibration_qconfig_setter,
)

HALF = [ModuleNameTemplate({"": torch.float16}), ConvDtypeTemplate(qint8, qint8)]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.softplus(self.conv(self.quant(x)))
        return self.dequant(torch.sigmoid(self.head((x * x).mean((2, 3)))))


IMAGES = torch.randn(2, 3, 6, 6)


def prepared(march: str = "nash-p", templates: list | None = None) -> nn.Module:
    set_march(march)
    setter = QconfigSetter(get_qconfig(), templates or HALF)
    return prepare(Net().eval(), IMAGES, setter, save_dir=None)


# What it computes


def test_it_rounds_to_float16_and_saturates() -> None:
    x = torch.tensor([0.1, 1.0 + 2**-11, 65519.0, 1e9, -math.inf, math.nan], requires_grad=True)
    y = FakeCast()(x)
    expected = torch.tensor([0.1, 1.0, 65504.0, 65504.0, -65504.0, math.nan]).half().float()
    assert torch.equal(y.nan_to_num(7.0), expected.nan_to_num(7.0))
    y.backward(torch.full((6,), 1e-9))  # far below float16: the gradient is not rounded
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([1e-9, 1e-9, 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_it_keeps_the_dtype(dtype: torch.dtype) -> None:
    x = torch.tensor([1 / 3, 3.0]).to(dtype)
    assert FakeCast()(x).dtype is dtype
    assert torch.equal(FakeCast()(x), x.half().to(dtype))


def test_bfloat16_saturates_at_its_own_value_next_to_the_end() -> None:
    x = torch.tensor([65280.0, 65536.0, 1e30, -math.inf], dtype=torch.bfloat16, requires_grad=True)
    y = FakeCast()(x)
    assert y.tolist() == [65280.0, 65536.0, 65536.0, -65536.0]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_switches_and_states() -> None:
    cast, x = FakeCast(), torch.tensor([0.1])
    for state, rounds in (("calibration", False), ("qat", True), ("validation", True), ("float", False)):
        set_fake_quantize(cast, state)
        assert (cast(x).item() != x.item()) == rounds
        copied = FakeCast()
        copied.load_state_dict(cast.state_dict())
        assert torch.equal(copied(x), cast(x))
    set_fake_quantize(cast, "validation")
    FakeCast.disable()
    try:
        assert torch.equal(cast(x), x)
    finally:
        FakeCast.enable()
    assert not torch.equal(cast(x), x)


def test_what_it_is() -> None:
    assert repr(FakeCast()) == "FakeCast(dtype=torch.float16, min_val=-65504, max_val=65504)"
    spec = FakeCast.with_args(dtype=torch.float16)
    assert repr(spec) == "FakeCast.with_args(dtype=torch.float16)"
    assert spec == get_qconfig(out_dtype=torch.float16).output == QConfig(output=FakeCast).output
    assert hash(spec) == hash(pickle.loads(pickle.dumps(spec)))
    with pytest.raises(TypeError, match=r"FakeCast takes torch\.float16, not torch\.bfloat16"):
        FakeCast.with_args(dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"x is torch\.int64, expected floating point"):
        FakeCast()(torch.ones(1, dtype=torch.int64))


def test_compiled_is_eager() -> None:
    torch._dynamo.reset()
    x = torch.randn(64, requires_grad=True)
    y = torch.compile(FakeCast(), fullgraph=True, backend="aot_eager")(x)
    y.sum().backward()
    assert torch.equal(y, FakeCast()(x))
    assert torch.equal(x.grad, torch.ones(64))


# In a model


def test_a_half_model_casts_everything_but_what_enters_a_gemm() -> None:
    model = prepared()
    assert {type(m.activation_post_process) for m in (model.quant, model._generated_mul_0)} <= {FakeCast, FakeQuantize}
    rows = {row.name: row for row in check_result_of(model).layers}
    assert rows["_generated_mul_0"].output_dtype is torch.float16
    assert rows["_generated_mul_0"].precision == "float16"
    assert rows["conv"].input_dtypes == (qint8,)
    assert rows["head"].input_dtypes == (qint8,)
    assert "FakeCast" in str(check_result_of(model))
    assert isinstance(model.conv.activation_post_process, FakeCast)


def test_what_arrives_in_float16_is_not_cast_again() -> None:
    set_march("nash-p")
    half = get_qconfig(in_dtype=torch.float16, out_dtype=torch.float16)
    model = prepare(Net().eval(), IMAGES, TemplateQconfigSetter(half, ()), save_dir=None)
    assert isinstance(model.quant.activation_post_process, FakeCast)
    assert model.conv.input_fake_quant is None
    assert model._generated_mul_0.operand_fake_quant is None
    integer_doors = get_qconfig(in_dtype=qint8, out_dtype=torch.float16)
    model = prepare(Net().eval(), IMAGES, TemplateQconfigSetter(integer_doors, ()), save_dir=None)
    assert model.conv.input_fake_quant.dtype is qint8
    assert set(model._generated_mul_0.operand_fake_quant) == {"0", "1"}


def test_it_calibrates_trains_and_validates() -> None:
    model = prepared().eval()
    set_fake_quantize(model, "calibration")
    with torch.no_grad():
        model(IMAGES)
    set_fake_quantize(model.train(), "qat")
    model(IMAGES).sum().backward()
    assert model.conv.weight.grad is not None
    set_fake_quantize(model.eval(), "validation")
    with torch.no_grad():
        y = model(IMAGES)
        assert torch.equal(y, y.half().float())
        twin = prepared()
        twin.load_state_dict(model.state_dict())
        assert torch.equal(twin.eval()(IMAGES), y)
        assert torch.equal(copy.deepcopy(model)(IMAGES), y)


@pytest.mark.parametrize("march", ["nash-e", "nash-m"])
def test_a_march_without_it_refuses_it(march: str) -> None:
    with pytest.raises(ValueError, match=f"{march} has no torch.float16 output for .*, it has qint8, qint16"):
        prepared(march)


def test_a_gemm_that_gets_halves_is_reported() -> None:
    model = prepared(templates=HALF[:1])
    messages = {name: message for name, _, message in check_result_of(model).messages}
    assert "[torch.float16]: a float tensor enters a quantized op" in messages["conv"]


def test_what_makes_no_sense_is_an_error() -> None:
    set_march("nash-p")
    net = Net().eval()
    net.quant = QuantStub(scale=0.5)
    with pytest.raises(ValueError, match=r"QuantStub\(scale=0\.5\) has a grid, but torch\.float16 was asked"):
        prepare(net, IMAGES, QconfigSetter(get_qconfig(), HALF[:1]), save_dir=None)
    weight = ModuleNameQconfigSetter({"conv": QConfig(weight=FakeCast.with_args())})
    with pytest.raises(ValueError, match=r"nash-p has no torch\.float16 weight for Conv2d"):
        prepare(Net().eval(), IMAGES, (weight, default_calibration_qconfig_setter), save_dir=None)


def test_it_is_exported_as_a_cast(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from nashquant.quantization.hbdk4 import export

    model = prepared().eval()
    set_fake_quantize(model, "calibration")
    with torch.no_grad():
        model(IMAGES)
        set_fake_quantize(model.eval(), "validation")
        y = model(IMAGES)
    exported = export(model, IMAGES, path=tmp_path / "half.onnx")
    assert "Cast" in [node.op_type for node in exported.model.graph.node]
    session = onnxruntime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    (ran,) = session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})
    assert torch.allclose(torch.from_numpy(ran), y, atol=2e-3)
