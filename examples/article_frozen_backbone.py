"""The article's fragment on training part of a network, completed: a frozen backbone, a head that trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nashquant import March, set_march
from nashquant.quantization import DeQuantStub, FakeQuantState, QuantStub, prepare, set_fake_quantize
from nashquant.quantization.qconfig_template import (
    default_calibration_qconfig_setter,
    default_qat_qconfig_setter,
)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant = QuantStub()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 9, 4))
        self.dequant = DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(self.head(self.backbone(self.quant(x))))


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> list[str]:
    return [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]


torch.manual_seed(0)
set_march(March.NASH_E)
model = Classifier().eval()
x, labels = torch.randn(32, 3, 8, 8), torch.arange(32) % 4

calib_model = prepare(model, example_inputs=x, qconfig_setter=(default_calibration_qconfig_setter,))
calib_model.eval()
set_fake_quantize(calib_model, FakeQuantState.CALIBRATION)
with torch.no_grad():
    calib_model(x)
torch.save(calib_model.state_dict(), "calib-checkpoint.ckpt")

# Prepare the QAT model, and load the calibrated state.
qat_model = prepare(model, example_inputs=x, qconfig_setter=(default_qat_qconfig_setter,))
qat_model.load_state_dict(torch.load("calib-checkpoint.ckpt"))

qat_model.train()
# Freeze the weights of the backbone. requires_grad says nothing to dropout and batch norm: eval() does.
for param in qat_model.backbone.parameters():
    param.requires_grad = False
# Freeze its scales. eval() alone would not stop a backward pass from changing weights: requires_grad does.
qat_model.backbone.eval()
set_fake_quantize(qat_model.backbone, FakeQuantState.VALIDATION)
# The head's quantizers train.
set_fake_quantize(qat_model.head, FakeQuantState.QAT)

backbone, head = state_of(qat_model.backbone), state_of(qat_model.head)
optimizer = torch.optim.Adam((p for p in qat_model.parameters() if p.requires_grad), lr=3e-2)
losses = []
for _ in range(20):
    loss = nn.functional.cross_entropy(qat_model(x), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print("loss:", ", ".join(f"{loss:.4f}" for loss in losses))

print("changed in the backbone:", changed(qat_model.backbone, backbone))
print("changed in the head:", changed(qat_model.head, head))
assert not changed(qat_model.backbone, backbone), "a frozen backbone must not change"
