"""Every kind of quantizer goes the whole way of a model: prepare, calibrate, train, validate, save, export."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nashquant import set_march
from nashquant.dtype import qint4, qint8, qint16
from nashquant.quantization import DeQuantStub, QConfig, QuantStub, check_result_of, prepare
from nashquant.quantization.fake_quantize import (
    DynamicFakeQuantize,
    FakeQuantize,
    FakeQuantizeSpec,
    PACTFakeQuantize,
    _LearnableFakeQuantize,
    set_fake_quantize,
)
from nashquant.quantization.observer import (
    ClipObserver,
    ClipStdObserver,
    HistogramObserver,
    KLObserver,
    MinMaxObserver,
    MixObserver,
    MSEObserver,
    PercentileObserver,
    power_of_two,
)
from nashquant.quantization.qconfig import (
    default_calib_8bit_fake_quant_qconfig,
    default_calib_8bit_weight_16bit_act_fake_quant_qconfig,
    default_calib_8bit_weight_32bit_out_fake_quant_qconfig,
    default_qat_8bit_fake_quant_qconfig,
    default_qat_8bit_lsq_quant_qconfig,
    default_qat_8bit_weight_16bit_act_fake_quant_qconfig,
    default_qat_8bit_weight_32bit_out_fake_quant_qconfig,
    get_default_qconfig,
    weight_spec,
)
from nashquant.quantization.qconfig_template import TemplateQconfigSetter

POWERS = QConfig(output=FakeQuantize.with_args(pow_quantization=True), weight=weight_spec(qint8, pow_quantization=True))
QCONFIGS = {
    "plain": default_qat_8bit_fake_quant_qconfig,
    "lsq": default_qat_8bit_lsq_quant_qconfig,
    "pact": get_default_qconfig("pact"),
    "pact weights": get_default_qconfig("lsq", "pact"),
    "int16": default_qat_8bit_weight_16bit_act_fake_quant_qconfig,
    "powers of two": POWERS,
    "dynamic": QConfig(output=DynamicFakeQuantize, weight=weight_spec(qint8)),
}
EXPORTED = {name: QCONFIGS[name] for name in ("lsq", "pact", "powers of two")}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(self.quant(x))))
        return self.dequant(self.head((x * x).mean((2, 3))))


@pytest.fixture(autouse=True)
def _a_march() -> None:
    set_march("nash-m")


IMAGES = torch.randn(4, 3, 8, 8)


def prepared(qconfig: QConfig) -> nn.Module:
    torch.manual_seed(0)
    return prepare(Net().eval(), IMAGES, TemplateQconfigSetter(qconfig, ()), save_dir=None)


def trained(qconfig: QConfig) -> nn.Module:
    """Calibrated, trained for a few steps, in VALIDATION."""
    model = prepared(qconfig)
    set_fake_quantize(model.eval(), "calibration")
    with torch.no_grad():
        model(IMAGES)
    set_fake_quantize(model.train(), "qat")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (model(IMAGES) ** 2).mean().backward()
        optimizer.step()
    set_fake_quantize(model.eval(), "validation")
    return model


@pytest.mark.parametrize("qconfig", QCONFIGS.values(), ids=QCONFIGS)
def test_it_trains_and_its_state_says_all_of_it(qconfig: QConfig) -> None:
    model = trained(qconfig)
    assert type(model.quant.activation_post_process) is qconfig.output.fake_quantize
    with torch.no_grad():
        y = model(IMAGES)
        buffer = io.BytesIO()
        torch.save(model.state_dict(), buffer)
        buffer.seek(0)
        loaded = prepared(qconfig)
        loaded.load_state_dict(torch.load(buffer, weights_only=True))
        for twin in (loaded.eval(), copy.deepcopy(model)):
            assert torch.equal(twin(IMAGES), y)
    assert qconfig.output.fake_quantize.__name__ in repr(model)


@pytest.mark.parametrize("qconfig", EXPORTED.values(), ids=EXPORTED)
def test_it_is_exported_with_the_scales_it_has(qconfig: QConfig, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from nashquant.quantization.hbdk4 import export

    model = trained(qconfig)
    exported = export(model, IMAGES, path=tmp_path / "model.onnx", verify=True)
    operators = [node.op_type for node in exported.model.graph.node]
    quantizers = [m for m in model.modules() if isinstance(m, FakeQuantize)]
    assert operators.count("DequantizeLinear") == len(quantizers)


@pytest.mark.parametrize("name", ["lsq", "pact", "dynamic", "powers of two"])
def test_compiled_it_computes_what_eager_does(name: str) -> None:
    torch._dynamo.reset()
    spec = QCONFIGS[name].output
    eager = spec()
    eager(torch.randn(40))
    compiled = copy.deepcopy(eager)
    run = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    results = []
    for quantizer, call in ((eager, eager), (compiled, run)):
        x = torch.linspace(-3, 3, 50, requires_grad=True)
        y = call(x)
        (y * y).sum().backward()
        results.append([y, x.grad, quantizer.scale, *(p.grad for p in quantizer.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-5)
    frozen = copy.deepcopy(eager).eval()
    x = torch.randn(30)
    with torch.no_grad():
        assert torch.equal(torch.compile(frozen, fullgraph=True, backend="aot_eager")(x), frozen(x))


@pytest.mark.parametrize("qconfig", QCONFIGS.values(), ids=QCONFIGS)
def test_a_quantizer_is_pickled_with_its_state(qconfig: QConfig) -> None:
    for spec in (qconfig.output, qconfig.weight.replace(ch_axis=0)):
        quantizer = spec(**({"channel_len": 3} if spec.kwargs.get("ch_axis") == 0 else {}))
        x = torch.randn(3, 7)
        quantizer(x)
        assert torch.equal(pickle.loads(pickle.dumps(quantizer))(x), quantizer(x))
        assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize("name", ["lsq", "pact"])
def test_a_plain_calibration_is_where_learning_begins(name: str) -> None:
    calibrated = prepared(default_calib_8bit_fake_quant_qconfig)
    set_fake_quantize(calibrated.eval(), "calibration")
    with torch.no_grad():
        calibrated(IMAGES)
    learner = prepared(QCONFIGS[name])
    learner.load_state_dict(calibrated.state_dict())
    for model in (calibrated, learner):
        set_fake_quantize(model.eval(), "validation")
    with torch.no_grad():
        assert torch.equal(learner(IMAGES), calibrated(IMAGES))
    set_fake_quantize(learner.train(), "qat")
    before = learner.quant.activation_post_process.scale.detach().clone()
    (learner(IMAGES) ** 2).mean().backward()
    assert torch.equal(learner.quant.activation_post_process.scale, before)
    assert all(p.grad is not None for p in learner.parameters())


@pytest.mark.parametrize("name", ["lsq", "pact"])
def test_a_prepared_model_compiles_in_one_graph(name: str) -> None:
    torch._dynamo.reset()
    model = trained(QCONFIGS[name])
    set_fake_quantize(model.train(), "qat")
    model.zero_grad()
    compiled = copy.deepcopy(model)
    losses = [
        (run(IMAGES) ** 2).mean() for run in (model, torch.compile(compiled, fullgraph=True, backend="aot_eager"))
    ]
    for loss in losses:
        loss.backward()
    assert torch.allclose(*losses, rtol=1e-5)
    for one, other in zip(model.parameters(), compiled.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_the_report_says_what_quantizes() -> None:
    rows = {row.name: row.observer for row in check_result_of(prepared(QCONFIGS["lsq"])).layers}
    observer = "MinMaxObserver(averaging_constant=1.0)"
    assert rows["quant"] == f"_LearnableFakeQuantize({observer}, use_grad_scaling=True)"
    rows = {row.name: row.observer for row in check_result_of(prepared(QCONFIGS["dynamic"])).layers}
    assert rows["quant"] == "DynamicFakeQuantize(MinMaxObserver(averaging_constant=0.01))"


OBSERVERS = (
    MinMaxObserver, MSEObserver, HistogramObserver, PercentileObserver, KLObserver, MixObserver, ClipObserver,
    ClipStdObserver,
)  # fmt: skip


@pytest.mark.parametrize("observer", OBSERVERS)
def test_every_observer_can_be_held_to_powers_of_two(observer: type) -> None:
    quantizer, plain = FakeQuantize(observer, pow_quantization=True), FakeQuantize(observer)
    for _ in range(3):
        x = torch.randn(200)
        quantizer(x), plain(x)
    assert torch.equal(quantizer.scale, power_of_two(plain.scale))
    assert torch.equal(power_of_two(quantizer.scale), quantizer.scale)
    assert "pow_quantization=True" in repr(quantizer)
    if observer is HistogramObserver:
        HistogramObserver.reset_scale(nn.Sequential(quantizer), "percentile", {"percentile": 0.9})
        assert torch.equal(power_of_two(quantizer.scale), quantizer.scale)


# The older API


def test_names_give_quantizers_and_observers() -> None:
    qconfig = get_default_qconfig(
        "pact", "lsq", "percentile", "mse", {"dtype": qint16, "percentile": 99.0}, {"dtype": qint4, "stride": 5}
    )
    assert qconfig.output == PACTFakeQuantize.with_args(observer=PercentileObserver, dtype=qint16, percentile=99.0)
    expected = FakeQuantizeSpec.of(
        _LearnableFakeQuantize,
        MSEObserver,
        {**weight_spec(qint4).kwargs, "stride": 5},
    )
    assert qconfig.weight == expected
    fixed = get_default_qconfig(activation_observer="fixed_scale", activation_qkwargs={"scale": 0.5})
    assert fixed.output().scale.item() == 0.5
    assert get_default_qconfig(weight_fake_quant=None).weight is None
    for name, observer in (("clip", ClipObserver), ("clip_std", ClipStdObserver), ("kl", KLObserver)):
        assert get_default_qconfig(activation_observer=name).output.observer is observer
    assert get_default_qconfig(activation_observer="mix").output.observer is MixObserver


def test_the_ready_made_ones_are_what_their_names_say() -> None:
    assert default_qat_8bit_fake_quant_qconfig == get_default_qconfig()
    assert default_qat_8bit_fake_quant_qconfig.weight == weight_spec(qint8)
    assert default_qat_8bit_weight_16bit_act_fake_quant_qconfig.output.dtype is qint16
    assert default_calib_8bit_weight_16bit_act_fake_quant_qconfig.output.observer is MSEObserver
    for qconfig in (
        default_qat_8bit_weight_32bit_out_fake_quant_qconfig,
        default_calib_8bit_weight_32bit_out_fake_quant_qconfig,
    ):
        assert qconfig.output is None
        assert qconfig.weight.dtype is qint8
    lsq = default_qat_8bit_lsq_quant_qconfig
    assert lsq.output.fake_quantize is lsq.weight.fake_quantize is _LearnableFakeQuantize
    assert lsq.output.kwargs["use_grad_scaling"] is True
    assert lsq.output.kwargs["averaging_constant"] == 1.0


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match="activation_fake_quant is 'lsqq', expected one of 'fake_quant', 'lsq', 'pact'"
    ):
        get_default_qconfig("lsqq")
    with pytest.raises(ValueError, match="weight_observer is 'max', expected one of 'min_max', 'fixed_scale', 'clip'"):
        get_default_qconfig(weight_observer="max")
    with pytest.raises(TypeError, match="MinMaxObserver does not take 'stride'"):
        get_default_qconfig(activation_qkwargs={"stride": 3})


def test_clipping_observers() -> None:
    clip = ClipObserver(xmin=-2.0, xmax=3.0)
    clip(torch.tensor([-9.0, 1.0]))
    assert (clip.min_val.item(), clip.max_val.item()) == (-2.0, 1.0)
    x = torch.cat([torch.tensor([-1.0, 1.0]).repeat(500), torch.tensor([50.0])])
    std = ClipStdObserver(std_scale=2.0)
    std(x)
    assert std.min_val.item() == -1.0
    assert std.max_val.item() == pytest.approx((x.double().mean() + 2 * x.double().std(correction=0)).item())
    rows = ClipStdObserver(std_scale=1.0, qscheme=torch.per_channel_symmetric, ch_axis=0, channel_len=2)
    rows(torch.tensor([[-1.0, 1.0], [-2.0, 2.0]]))
    assert rows.max_val.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="xmin is 1 and xmax is 0, expected finite numbers, xmin below xmax"):
        ClipObserver(xmin=1, xmax=0)
    with pytest.raises(ValueError, match="std_scale is 0, expected a finite number above 0"):
        ClipStdObserver(std_scale=0)
