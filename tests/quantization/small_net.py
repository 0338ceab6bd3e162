"""A net with one of each: convolution, batch norm, a way around, attention's matmul, softmax, a linear head."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from nashquant import set_march
from nashquant.quantization import DeQuantStub, FakeQuantize, QuantStub, prepare, set_fake_quantize
from nashquant.quantization.qconfig_template import default_calibration_qconfig_setter, default_qat_qconfig_setter


class SmallNet(nn.Module):
    """6x6 pixels in, three scores out."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.quant(x))
        x = F.relu(self.conv(x) + x)
        rows = x.flatten(2).transpose(1, 2)
        weights = torch.softmax(torch.matmul(rows, rows.transpose(1, 2)), -1)
        return self.dequant(self.head(torch.matmul(weights, rows).mean(1)))


def images(seed: int = 0, n: int = 8) -> Tensor:
    """`(n, 1, 6, 6)`."""
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


def prepared(setter: Any = default_qat_qconfig_setter) -> Any:
    """A prepared model, always with the same weights; nothing is observed yet."""
    torch.manual_seed(0)
    set_march("nash-e")
    return prepare(SmallNet().eval(), images(), qconfig_setter=(setter,), save_dir=None)


def in_training() -> Any:
    """Calibrated, and in QAT."""
    calibrated = prepared(default_calibration_qconfig_setter).eval()
    set_fake_quantize(calibrated, "calibration")
    with torch.no_grad():
        calibrated(images())
    model = prepared()
    model.load_state_dict(calibrated.state_dict())
    set_fake_quantize(model.train(), "qat")
    return model


def in_validation() -> Any:
    """Calibrated, and in VALIDATION."""
    model = in_training().eval()
    set_fake_quantize(model, "validation")
    return model


def scales(model: nn.Module) -> dict[str, Tensor]:
    """The scale of each quantizer, by its name."""
    return {name: m.scale.clone() for name, m in model.named_modules() if isinstance(m, FakeQuantize)}


class QuantizedRows(Dataset[Tensor]):
    """Rows of a tensor, quantized where they are loaded."""

    def __init__(self, quantizer: FakeQuantize, x: Tensor) -> None:
        self.quantizer, self.x = quantizer, x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> Tensor:
        return self.quantizer(self.x[row])  # type: ignore[no-any-return]
