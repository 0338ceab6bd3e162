"""Batch norms that are folded before training, or kept and trained."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant import set_march
from nashquant.nn import qat
from nashquant.qat_mode import QATMode, get_qat_mode, set_qat_mode
from nashquant.quantization import (
    DeQuantStub,
    QuantStub,
    check_result_of,
    freeze_bn_stats,
    prepare,
    set_fake_quantize,
    update_bn_stats,
)
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.qconfig_template import default_calibration_qconfig_setter, default_qat_qconfig_setter


class Net(nn.Module):
    """conv + bn + relu, conv + bn + add, and a batch norm that has nothing to be folded into."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.alone, self.head = nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(self.quant(x))))
        x = self.bn2(self.conv2(x)) + x
        x = F.relu(self.alone(x * 2))
        return self.dequant(self.head(x.mean((2, 3))))  # type: ignore[no-any-return]


X = torch.linspace(-2, 3, 4 * 3 * 25).reshape(4, 3, 5, 5).sin()


@pytest.fixture(autouse=True)
def _march_and_mode() -> Iterator[None]:
    set_march("nash-m")
    set_qat_mode(QATMode.WithBN)
    yield
    set_qat_mode(QATMode.FuseBN)


def float_net() -> Net:
    torch.manual_seed(1)
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
    for _ in range(3):
        net(X)
    return net.eval()


def prepared_net(net: nn.Module, setter: Any = default_calibration_qconfig_setter) -> Any:
    return prepare(net, X, setter, save_dir=None)


def calibrated(net: nn.Module) -> Any:
    prepared = prepared_net(net)
    set_fake_quantize(prepared.eval(), "calibration")
    with torch.no_grad():
        prepared(X)
    set_fake_quantize(prepared.eval(), "validation")
    return prepared


def test_a_kept_batch_norm_is_part_of_the_same_op_under_the_same_name() -> None:
    prepared = prepared_net(float_net())
    with_bn = [(row.name, row.module_type) for row in check_result_of(prepared).layers]
    assert with_bn[1:3] == [("relu", "ConvBNReLU2d"), ("_generated_add_0", "ConvBNAdd2d")]
    assert type(prepared.bn1) is qat.BatchNorm2d
    assert prepared.bn1.activation_post_process is None
    assert prepared.conv1.bias is None
    assert check_result_of(prepared).qat_mode == "with_bn"
    assert "batch norms kept" in str(check_result_of(prepared))
    set_qat_mode("fuse_bn")
    fused = check_result_of(prepared_net(float_net()))
    assert [row.name for row in fused.layers] == [name for name, _ in with_bn]
    assert "batch norms folded" in str(fused)


def test_a_conv_whose_last_member_is_the_batch_norm_is_named_after_the_conv() -> None:
    class ConvBN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = QuantStub(), DeQuantStub()
            self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.dequant(F.interpolate(self.bn(self.conv(self.quant(x))), scale_factor=2))  # type: ignore

    prepared = prepared_net(ConvBN().eval())
    assert ("conv", "ConvBN2d") in [(row.name, row.module_type) for row in check_result_of(prepared).layers]
    assert prepared.conv.activation_post_process is None
    assert prepared.bn.activation_post_process is not None
    assert prepared._generated_interpolate_0._source[0] is prepared.bn.activation_post_process


@pytest.mark.parametrize("training", [False, True])
def test_in_the_float_state_it_is_the_float_model_bit_for_bit(training: bool) -> None:
    net = float_net()
    prepared = prepared_net(net)
    set_fake_quantize(prepared, "float")
    assert torch.equal(prepared.train(training)(X), net.train(training)(X))
    for name, value in net.state_dict().items():
        assert torch.equal(prepared.state_dict()[name], value), name


def test_the_statistics_follow_the_data_as_in_float_training() -> None:
    net = float_net()
    prepared = calibrated(net)
    set_fake_quantize(prepared.train(), "qat")
    before = prepared.bn1.running_mean.clone()
    for module in (net.train(), prepared):
        for _ in range(5):
            module(X * 0.7)
    assert not torch.allclose(prepared.bn1.running_mean, before, atol=1e-3)
    torch.testing.assert_close(prepared.bn1.running_mean, net.bn1.running_mean, atol=0.02, rtol=0.02)
    torch.testing.assert_close(prepared.bn1.running_var, net.bn1.running_var, atol=0.02, rtol=0.05)
    assert prepared.bn1.num_batches_tracked == net.bn1.num_batches_tracked
    settled = prepared.bn1.running_mean.clone()
    set_fake_quantize(prepared.eval(), "validation")
    prepared(X)
    assert torch.equal(prepared.bn1.running_mean, settled)


def test_frozen_statistics_stay_through_train_and_the_rest_trains_on() -> None:
    prepared = calibrated(float_net())
    prepared.apply(freeze_bn_stats)
    set_fake_quantize(prepared.train(), "qat")
    twin = copy.deepcopy(prepared)
    before = copy.deepcopy(prepared.state_dict())
    optimizer = torch.optim.SGD(prepared.parameters(), 0.1)
    F.cross_entropy(prepared(X * 2), torch.tensor([0, 1, 0, 1])).backward()
    optimizer.step()
    after = prepared.state_dict()
    for name in ("bn1", "bn2", "alone"):
        assert torch.equal(after[f"{name}.running_mean"], before[f"{name}.running_mean"])
        assert torch.equal(after[f"{name}.num_batches_tracked"], before[f"{name}.num_batches_tracked"])
        assert not torch.equal(after[f"{name}.weight"], before[f"{name}.weight"])
    # Frozen is not eval: its own quantizer goes on observing.
    key = "alone.activation_post_process.scale"
    assert not torch.equal(after[key], before[key])
    assert not twin.train().bn1.training  # a copy is as frozen
    prepared.apply(update_bn_stats)
    prepared.train()(X * 2)
    assert not torch.equal(prepared.state_dict()["bn1.running_mean"], before["bn1.running_mean"])


def test_a_frozen_model_gives_the_same_in_train_and_eval_mode() -> None:
    prepared = calibrated(float_net())
    prepared.apply(freeze_bn_stats)
    expected = prepared.eval()(X)
    set_fake_quantize(prepared.train(), "validation")  # no warning: no batch norm is in train mode
    assert torch.equal(prepared(X), expected)


def test_frozen_statistics_save_a_qat_whose_batches_are_unlike_the_data() -> None:
    net = float_net()
    generator = torch.Generator().manual_seed(0)
    examples = [torch.randn(4, 3, 5, 5, generator=generator) + offset for offset in torch.linspace(-2, 2, 20)]
    with torch.no_grad():
        for _ in range(50):
            net.train()(torch.cat(examples))  # statistics of all of it
        targets = [net.eval()(x) for x in examples]
    errors = {}
    for frozen in (False, True):
        prepared = prepared_net(net)
        set_fake_quantize(prepared.eval(), "calibration")
        with torch.no_grad():
            prepared(torch.cat(examples))
        if frozen:
            prepared.apply(freeze_bn_stats)
        set_fake_quantize(prepared.train(), "qat")
        optimizer = torch.optim.SGD(prepared.parameters(), 0.001)
        for x, target in zip(examples, targets, strict=True):
            optimizer.zero_grad()
            F.mse_loss(prepared(x), target).backward()
            optimizer.step()
        set_fake_quantize(prepared.eval(), "validation")
        with torch.no_grad():
            pairs = zip(examples, targets, strict=True)
            errors[frozen] = sum(F.mse_loss(prepared(x), target).item() for x, target in pairs)
    assert errors[True] < errors[False] / 2


def test_quantizing_the_weight_before_the_norm_is_as_near_as_folding() -> None:
    net = float_net()
    expected = net(X)
    errors = {}
    for mode in QATMode:
        set_qat_mode(mode)
        errors[mode] = ((calibrated(net)(X) - expected).abs().max() / expected.abs().max()).item()
    assert errors[QATMode.WithBN] < 0.05
    assert errors[QATMode.FuseBN] < 0.05


def test_folding_later_gives_the_same_integers_up_to_a_turned_end() -> None:
    prepared = calibrated(float_net())
    norm, conv = prepared.bn1, prepared.conv1
    gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
    quantizer = conv.weight_fake_quant
    steps = quantizer(conv.weight) / quantizer.scale.reshape(-1, 1, 1, 1)
    folded = conv.weight * gain.reshape(-1, 1, 1, 1)
    folded_steps = (folded / (quantizer.scale * gain.abs()).reshape(-1, 1, 1, 1)).round().clamp(-128, 127)
    turned = gain.sign().reshape(-1, 1, 1, 1) * steps
    assert (gain < 0).any()
    assert (folded_steps - turned).abs().max() <= 1.01
    assert (folded_steps - turned).abs().round().sum() <= 4  # one value of each channel at most


def test_a_model_with_kept_norms_trains_saves_and_is_exported(tmp_path: Path) -> None:
    trained = prepared_net(float_net(), default_qat_qconfig_setter)
    trained.load_state_dict(calibrated(float_net()).state_dict())
    set_fake_quantize(trained.train(), "qat")
    optimizer = torch.optim.SGD(trained.parameters(), 0.5)
    losses = []
    x = torch.randn(4, 3, 5, 5)
    for _ in range(60):
        loss = F.cross_entropy(trained(x), torch.tensor([0, 1, 0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] * 0.8
    set_fake_quantize(trained.eval(), "validation")
    file = io.BytesIO()
    torch.save(trained, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(X), trained(X))
    exported = export(trained, X, path=tmp_path / "net.onnx")
    assert exported.agreement is not None


def test_modes_go_by_their_values_too_and_others_are_refused() -> None:
    set_qat_mode("fuse_bn")
    assert get_qat_mode() is QATMode.FuseBN
    with pytest.raises(ValueError, match=r"QAT mode 'reverse' is unknown; nashquant knows QATMode\.FuseBN"):
        set_qat_mode("reverse")
    assert get_qat_mode() is QATMode.FuseBN
