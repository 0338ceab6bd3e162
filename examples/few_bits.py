"""Handwritten digits with weights of four bits: what helps, without training and with it.

Run it with `python examples/few_bits.py [--epochs N]`; docs/training.md shows what it prints. No march has weights of
four bits: they are kept in qint8, on the integers -8 to 7.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from nashquant import March, set_march
from nashquant.dtype import qint8
from nashquant.quantization import (
    DeQuantStub,
    FakeQuantState,
    QConfig,
    QuantStub,
    auto_calibrate,
    correct_bias,
    equalize,
    prepare,
    set_fake_quantize,
    weight_reconstruction,
)
from nashquant.quantization.fake_quantize import FakeQuantize, _LearnableFakeQuantize
from nashquant.quantization.observer import MinMaxObserver
from nashquant.quantization.qconfig import weight_spec
from nashquant.quantization.qconfig_template import TemplateQconfigSetter

FOUR_BITS = weight_spec(qint8, quant_min=-8, quant_max=7)
PLAIN = QConfig(output=FakeQuantize.with_args(observer=MinMaxObserver, averaging_constant=0.1), weight=FOUR_BITS)
LEARNED = QConfig(
    output=_LearnableFakeQuantize.with_args(observer=MinMaxObserver, use_grad_scaling=True),
    weight=_LearnableFakeQuantize.with_args(observer=FOUR_BITS.observer, use_grad_scaling=True, **FOUR_BITS.kwargs),
)


class Separable(nn.Module):
    """Depthwise separable convolutions on 8x8 grey pixels; ten scores out."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        widths = [1, 16, 16, 32, 32, 48]
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            depthwise = i % 2 == 1
            conv = nn.Conv2d(inputs, outputs, 3, padding=1, groups=inputs if depthwise else 1, bias=False)
            layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(self.head(self.pool(self.features(self.quant(x))).flatten(1)))


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int, lr: float) -> None:
    """Adam, with a learning rate that falls to zero."""
    optimizer = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        schedule.step()


def calibrated(model: nn.Module, batches: list[Tensor], qconfig: QConfig = PLAIN) -> nn.Module:
    """Prepared, calibrated, in VALIDATION."""
    made = prepare(model, batches[0], (TemplateQconfigSetter(qconfig, ()),), save_dir=None).eval()
    set_fake_quantize(made, FakeQuantState.CALIBRATION)
    with torch.no_grad():
        for x in batches:
            made(x)
    set_fake_quantize(made.eval(), FakeQuantState.VALIDATION)
    return made


def main(epochs: int) -> dict[str, tuple[float, float]]:
    """Way -> accuracy in percent, and the mean squared distance of the scores from the float model's."""
    torch.manual_seed(0)
    set_march(March.NASH_M)
    digits = load_digits()
    x, y = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1), torch.tensor(digits.target)
    order = torch.randperm(len(y))
    train_x, train_y, test_x, test_y = x[order[:1437]], y[order[:1437]], x[order[1437:]], y[order[1437:]]
    batches = list(train_x[:640].split(64))

    float_model = Separable()
    train(float_model, train_x, train_y, epochs, 3e-3)
    with torch.no_grad():
        scores = float_model.eval()(test_x)
    found: dict[str, tuple[float, float]] = {}

    def note(way: str, model: nn.Module) -> None:
        with torch.no_grad():
            given = model(test_x)
        accuracy = (given.argmax(1) == test_y).float().mean().item() * 100
        found[way] = accuracy, nn.functional.mse_loss(given, scores).item()
        print(f"| {way} | {accuracy:.1f} % | {found[way][1]:.3g} |", flush=True)

    note("float", float_model)
    note("rounded to the nearest", calibrated(float_model, batches))
    equal = equalize(float_model, batches[0])
    note("equalized", calibrated(equal, batches))
    model = calibrated(equal, batches)
    correct_bias(model, batches, show_progress=False)
    note("equalized, biases corrected", model)
    model = calibrated(equal, batches)
    weight_reconstruction(model, batches, custom_config_dict={"num_steps": 10 * epochs}, show_progress=False)
    note("equalized, AdaRound", model)
    correct_bias(model, batches, show_progress=False)
    note("equalized, AdaRound, biases corrected", model)
    auto_calibrate(model, batches, show_progress=False)
    note("and observers by trial", model)
    model = calibrated(equal, batches, LEARNED)
    set_fake_quantize(model.train(), FakeQuantState.QAT)
    train(model, train_x, train_y, epochs, 1e-3)
    set_fake_quantize(model.eval(), FakeQuantState.VALIDATION)
    note("QAT with learned scales", model)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    main(parser.parse_args().epochs)
