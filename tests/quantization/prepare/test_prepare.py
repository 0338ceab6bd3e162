"""What prepare promises of the model given and of the model made."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant import march
from nashquant.nn import qat
from nashquant.quantization import (
    CalibrationWarning,
    DeQuantStub,
    FakeQuantize,
    PrepareMethod,
    QuantStub,
    check_result_of,
    prepare,
    set_fake_quantize,
)
from nashquant.quantization.qconfig_template import (
    default_calibration_qconfig_setter,
    default_qat_qconfig_setter,
    sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter,
)

Around = Callable[..., tuple[nn.Module, Any]]


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        return F.relu(y)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.backbone = nn.Sequential(Block(4), Block(4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(self.quant(x)))
        x = self.backbone(x).mean((2, 3))
        return self.dequant(self.head(x))  # type: ignore[no-any-return]


def net_with_statistics() -> Net:
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight)
            nn.init.normal_(module.bias)
    return net.eval()


IMAGES = torch.linspace(-1, 1, 2 * 36).reshape(2, 1, 6, 6)


def prepared_net(net: Net, setter: Any = default_qat_qconfig_setter) -> Any:
    return prepare(net, IMAGES, setter, save_dir=None)


def test_the_model_given_is_not_changed() -> None:
    net = net_with_statistics().train()
    before = copy.deepcopy(net.state_dict())
    classes = [type(module) for module in net.modules()]
    random = torch.get_rng_state()
    prepared_net(net)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert [type(module) for module in net.modules()] == classes
    assert torch.equal(random, torch.get_rng_state())


def test_folding_and_redirecting_keep_the_float_numbers() -> None:
    net = net_with_statistics()
    prepared = prepared_net(net)
    set_fake_quantize(prepared, "float")
    torch.testing.assert_close(prepared(IMAGES), net(IMAGES), rtol=1e-5, atol=1e-5)
    assert type(prepared.backbone[0].bn1) is nn.Identity
    assert prepared.backbone[0].conv1.bias is not None


@pytest.mark.parametrize("groups", [1, 2])
def test_a_batch_norm_folds_into_a_transposed_convolution(groups: int, around: Around, x: Tensor) -> None:
    bn = nn.BatchNorm2d(6)
    nn.init.uniform_(bn.running_var, 0.5, 2)
    nn.init.normal_(bn.running_mean)
    conv = nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=groups)
    model, prepared = around(lambda s, x: s.bn(s.conv(x)), x, conv=conv, bn=bn)
    assert prepared.conv.weight_fake_quant.ch_axis == 1
    set_fake_quantize(prepared, "float")
    torch.testing.assert_close(prepared(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), (2, 3, 8)),
        (nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), (2, 3, 5, 5, 5)),
        (nn.Linear(3, 4), nn.BatchNorm1d(4), (2, 3)),
    ],
)
def test_other_batch_norms_fold_too(layer: nn.Module, norm: Any, shape: tuple[int, ...], around: Around) -> None:
    nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.randn(shape)
    model, prepared = around(lambda s, x: s.norm(s.layer(x)), x, layer=layer, norm=norm)
    assert type(prepared.norm) is nn.Identity
    set_fake_quantize(prepared, "float")
    torch.testing.assert_close(prepared(x), model(x), rtol=1e-4, atol=1e-5)


def test_fused_ops_have_one_quantizer_each() -> None:
    prepared = prepared_net(net_with_statistics())
    rows = [(row.name, row.module_type) for row in check_result_of(prepared).layers]
    assert rows == [
        ("quant", "QuantStub"),
        ("_generated_relu_0", "ConvReLU2d"),
        ("backbone.0.relu", "ConvReLU2d"),
        ("backbone.0._generated_relu_0", "ConvAddReLU2d"),
        ("backbone.1.relu", "ConvReLU2d"),
        ("backbone.1._generated_relu_0", "ConvAddReLU2d"),
        ("_generated_mean_0", "FloatFunctional"),
        ("head", "Linear"),
        ("dequant", "DeQuantStub"),
    ]
    quantizers = [name for name, module in prepared.named_modules() if isinstance(module, FakeQuantize)]
    assert len([name for name in quantizers if not name.endswith("weight_fake_quant")]) == 7
    assert prepared.backbone[0].conv2.activation_post_process is None
    assert prepared.head.activation_post_process is None  # goes only to dequant: high precision


def test_a_prepared_model_trains() -> None:
    prepared = prepared_net(net_with_statistics()).train()
    set_fake_quantize(prepared, "qat")
    optimizer = torch.optim.SGD(prepared.parameters(), 0.05)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(prepared(IMAGES), torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] * 0.8
    assert all(parameter.grad is not None for parameter in prepared.parameters())


def test_copies_and_pickles_are_whole_and_independent() -> None:
    prepared = prepared_net(net_with_statistics(), default_calibration_qconfig_setter)
    set_fake_quantize(prepared, "calibration")
    prepared(IMAGES)
    set_fake_quantize(prepared.eval(), "validation")
    expected = prepared(IMAGES)
    file = io.BytesIO()
    torch.save(prepared, file)
    file.seek(0)
    for twin in (copy.deepcopy(prepared), torch.load(file, weights_only=False)):
        assert torch.equal(twin(IMAGES), expected)
        with torch.no_grad():
            twin.stem.weight.zero_()
        assert not torch.equal(twin(IMAGES), expected)
    assert torch.equal(prepared(IMAGES), expected)
    assert isinstance(prepared, Net)
    assert type(prepared).__name__ == "Net"


def test_a_calibration_state_dict_loads_into_a_model_prepared_to_train() -> None:
    net = net_with_statistics()
    calibrated = prepared_net(net, default_calibration_qconfig_setter)
    set_fake_quantize(calibrated, "calibration")
    calibrated(IMAGES)
    trained = prepared_net(net, default_qat_qconfig_setter)
    trained.load_state_dict(calibrated.state_dict())
    for model in (calibrated, trained):
        set_fake_quantize(model.eval(), "validation")
    assert torch.equal(calibrated(IMAGES), trained(IMAGES))


def test_the_state_dict_of_another_model_changes_nothing() -> None:
    prepared = prepared_net(net_with_statistics())
    before = copy.deepcopy(prepared.state_dict())
    other = copy.deepcopy(before)
    other["stem.weight"] = torch.zeros(7, 1, 3, 3)
    with pytest.raises(RuntimeError, match=r"nothing was loaded: 'stem\.weight' has shape \(7, 1, 3, 3\)"):
        prepared.load_state_dict(other)
    with pytest.raises(RuntimeError, match=r"'stem\.weights' is not in the model"):
        prepared.load_state_dict({**before, "stem.weights": torch.zeros(1), "stem.bias": torch.ones(4)})
    with pytest.raises(RuntimeError, match=r"'stem\.weight' is missing"):
        prepared.load_state_dict({key: value + 1 for key, value in before.items() if key != "stem.weight"})
    assert all(torch.equal(before[key], value) for key, value in prepared.state_dict().items())


def test_what_its_quantizers_have_to_say_is_said_once_for_the_model() -> None:
    prepared = prepared_net(net_with_statistics()).eval()
    for quantizer in prepared.modules():
        if isinstance(quantizer, FakeQuantize):
            quantizer.disable_observer()
            quantizer.enable_fake_quant()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepared(IMAGES)
    said = [str(warning.message) for warning in caught if warning.category is CalibrationWarning]
    assert len(said) == 1
    assert "'quant' quantizes with scale 1, because its scale was never set" in said[0]


def test_hooks_survive_and_see_the_same_calls() -> None:
    net = net_with_statistics()
    seen: list[str] = []
    net.stem.register_forward_pre_hook(lambda module, args: seen.append("pre"))
    net.backbone[0].relu.register_forward_hook(lambda module, args, y: seen.append("relu"))
    net.register_forward_hook(lambda module, args, y: seen.append("net"))
    prepared = prepared_net(net)
    set_fake_quantize(prepared, "float")
    seen.clear()
    prepared(IMAGES)
    assert seen == ["pre", "relu", "net"]


def test_parameter_sharing_survives(around: Around, x: Tensor) -> None:
    first, second = nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 4, 1, bias=False)
    second.weight = first.weight
    model, prepared = around(lambda s, x: s.bn(s.b(s.a(x))), x, a=first, b=second, bn=nn.BatchNorm2d(4))
    assert prepared.a.weight is prepared.b.weight
    assert type(prepared.bn) is qat.BatchNorm2d  # not folded: that would change the shared weight
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0)


def test_a_shared_module_is_not_fused_and_keeps_one_scale(around: Around, x: Tensor) -> None:
    _, prepared = around(lambda s, x: s.relu(s.conv(s.relu(s.conv(x)))), x, conv=nn.Conv2d(4, 4, 1), relu=nn.ReLU())
    result = check_result_of(prepared)
    assert [row.name for row in result.layers][1:-1] == ["conv", "relu", "conv(1)", "relu(1)"]
    assert result.fusable == (("conv", "Conv2d (shared)"), ("relu", "ReLU (shared)"))
    assert result.called_times == (("conv", 2), ("relu", 2))
    shared = [name for name, _, message in result.messages if "its 2 calls share one scale" in message]
    assert shared == ["relu"]  # a conv has a weight to share


def test_train_or_eval_and_dtype_stay_as_they_were() -> None:
    assert prepared_net(net_with_statistics().train()).training
    assert not prepared_net(net_with_statistics()).training
    prepared = prepare(net_with_statistics().double(), IMAGES.double(), default_qat_qconfig_setter, save_dir=None)
    set_fake_quantize(prepared.train(), "qat")
    assert prepared.stem.weight.dtype is torch.float64
    assert prepared(IMAGES.double()).dtype is torch.float64
    assert prepared.quant.activation_post_process.scale.dtype is torch.float32
    half = prepare(net_with_statistics().bfloat16(), IMAGES.bfloat16(), default_qat_qconfig_setter, save_dir=None)
    set_fake_quantize(half.train(), "qat")
    assert half(IMAGES.bfloat16()).dtype is torch.bfloat16


def test_a_frozen_backbone_is_not_touched_by_training_the_head() -> None:
    prepared = prepared_net(net_with_statistics())
    set_fake_quantize(prepared.train(), "qat")
    prepared(IMAGES)
    for parameter in prepared.backbone.parameters():
        parameter.requires_grad = False
    prepared.backbone.eval()
    set_fake_quantize(prepared.backbone, "validation")
    set_fake_quantize(prepared.head, "qat")
    before = copy.deepcopy(prepared.state_dict())
    optimizer = torch.optim.SGD([p for p in prepared.parameters() if p.requires_grad], 0.1)
    F.cross_entropy(prepared(IMAGES * 3), torch.tensor([0, 1])).backward()
    optimizer.step()
    changed = {key for key, value in prepared.state_dict().items() if not torch.equal(before[key], value)}
    assert not any(key.startswith("backbone") for key in changed)
    assert "head.weight" in changed
    assert "_generated_relu_0.activation_post_process.scale" in changed


def test_prepare_without_a_march_says_which_call_is_missing() -> None:
    march._current = None
    with pytest.raises(RuntimeError, match="set_march"):
        prepared_net(net_with_statistics())


def test_wrong_arguments_are_errors_before_anything_runs() -> None:
    net = net_with_statistics()
    with pytest.raises(TypeError, match=r"takes an nn\.Module, not function"):
        prepare(lambda x: x, IMAGES, default_qat_qconfig_setter)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="it must be called with a table first"):
        prepare(net, IMAGES, sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"takes setters, e\.g\. default_qat_qconfig_setter, not 'default'"):
        prepare(net, IMAGES, "default")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="qconfig_setter is empty"):
        prepare(net, IMAGES, ())
    with pytest.raises(
        ValueError, match="method is 'script', expected a PrepareMethod: EAGER, SYMBOLIC, JIT, JIT_STRIP"
    ):
        prepare(net, IMAGES, default_qat_qconfig_setter, method="script")
    with pytest.raises(ValueError, match="prepared already"):
        prepared_net(prepared_net(net))
    with pytest.raises(ValueError, match="not what prepare returned"):
        check_result_of(net)


@pytest.mark.parametrize("method", [*PrepareMethod, "jit-strip", "EAGER"])
def test_all_names_of_methods_mean_the_same(method: PrepareMethod | str) -> None:
    net = net_with_statistics()
    prepared = prepare(net, IMAGES, default_qat_qconfig_setter, method=method, save_dir=None)
    assert check_result_of(prepared) == check_result_of(prepared_net(net))


def test_keyword_inputs_and_nested_ones_reach_forward(x: Tensor) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = QuantStub(), DeQuantStub()

        def forward(self, pair: dict[str, Tensor], *, gain: float) -> dict[str, list[Tensor]]:
            return {"y": [self.dequant(self.quant(pair["x"]) * gain)]}

    prepared = prepare(Pair(), ({"x": x},), default_qat_qconfig_setter, {"gain": 2.0}, save_dir=None)
    set_fake_quantize(prepared, "qat")
    torch.testing.assert_close(prepared({"x": x}, gain=2.0)["y"][0], x * 2, atol=0.1, rtol=0)


def test_the_report_is_written_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = prepare(net_with_statistics(), IMAGES, default_qat_qconfig_setter)
    assert (tmp_path / "model_check_result.txt").read_text() == str(check_result_of(prepared))
    prepare(net_with_statistics(), IMAGES, default_qat_qconfig_setter, save_dir=tmp_path / "there")
    assert (tmp_path / "there" / "model_check_result.txt").exists()


def test_a_file_in_the_place_of_the_reports_folder_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    net = net_with_statistics()
    net.register_forward_pre_hook(lambda *_: pytest.fail("it ran"))
    with pytest.raises(NotADirectoryError, match=r"^save_dir is '.*here', which is a file; expected a"):
        prepare(net, IMAGES, default_qat_qconfig_setter, save_dir=tmp_path / "here")


def test_a_tensor_with_a_history_in_an_attribute_is_named() -> None:
    net = net_with_statistics()
    net.backbone[1].cache = net.stem.weight * 2  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"'backbone\.1\.cache' is a tensor with a gradient history"):
        prepared_net(net)


def test_what_is_no_float_tensor_is_refused_by_name() -> None:
    prepared = prepared_net(net_with_statistics())
    expected = r"QuantStub takes a float32, float64, bfloat16 or float16 tensor, not {} \(in 'quant'\)"
    for dtype in (torch.int64, torch.float8_e4m3fn, torch.complex64):
        with pytest.raises(TypeError, match=expected.format(f"a {dtype} tensor")):
            prepared(torch.ones(1, 1, 6, 6).to(dtype))
    with pytest.raises(TypeError, match=expected.format("a list")):
        prepared([1.0])


def test_a_tensor_on_another_device_is_refused_by_name() -> None:
    prepared = prepared_net(net_with_statistics())
    with pytest.raises(ValueError, match=r"the model is on cpu, but x is on meta \(in 'quant'\)"):
        prepared(IMAGES.to("meta"))


def test_nan_in_calibration_data_is_refused_by_name() -> None:
    prepared = prepared_net(net_with_statistics(), default_calibration_qconfig_setter)
    set_fake_quantize(prepared, "calibration")
    broken = IMAGES.clone()
    broken[0, 0, 0, :2] = float("nan")
    with pytest.raises(ValueError, match="'quant'"):
        prepared(broken)


def test_every_registered_module_has_a_twin_of_its_own_class() -> None:
    from nashquant.quantization.prepare.registry import ENTRIES

    for entry in ENTRIES:
        for module in entry.modules:
            if entry.makes_grid:
                assert issubclass(getattr(qat, module.__name__), module)


def test_torch_s_own_stubs_are_accepted(x: Tensor) -> None:
    stubs = pytest.importorskip("torch.ao.quantization")

    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = stubs.QuantStub(), stubs.DeQuantStub()

        def forward(self, x: Tensor) -> Tensor:
            return self.dequant(F.relu(self.quant(x)))  # type: ignore[no-any-return]

    prepared: Any = prepare(Theirs(), x, default_qat_qconfig_setter, save_dir=None)
    assert type(prepared.quant) is qat.QuantStub
    assert type(prepared.dequant) is qat.DeQuantStub
    set_fake_quantize(prepared, "qat")
    torch.testing.assert_close(prepared(x), F.relu(x), atol=0.05, rtol=0)
