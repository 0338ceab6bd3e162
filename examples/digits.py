"""Handwritten digits: train in float, calibrate to int8, train quantized, calibrate to int16, export, compare.

The QAT model is also run as the ONNX file it is exported to, and as the integer model made of that file.

Run it with `make demo`, or `python examples/digits.py [--quick] [--out FOLDER]`. The data ships inside
scikit-learn.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import onnxruntime
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from nashquant import March, set_march
from nashquant.nash import compare, convert
from nashquant.quantization import DeQuantStub, FakeQuantState, QuantStub, prepare, set_fake_quantize
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.qconfig_template import (
    calibration_8bit_weight_16bit_act_qconfig_setter,
    default_calibration_qconfig_setter,
    default_qat_qconfig_setter,
)

BATCH = 64
CALIBRATION_BATCH = 256  # large: the moving average of the observers mostly keeps what the first batch showed


class Residual(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(x + y)


class Digits(nn.Module):
    """8x8 grey pixels in, ten scores out."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = QuantStub()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.block1 = Residual(16)
        self.down = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.block2 = Residual(32)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(32, 10)
        self.dequant = DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(self.stem(self.quant(x)))
        x = self.block2(self.down(x))
        x = self.head(torch.flatten(self.pool(x), 1))
        return self.dequant(x)


class Data(NamedTuple):
    """Images `(n, 1, 8, 8)` in 0..1 and their labels, split once and for all."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def load_data() -> Data:
    digits = load_digits()
    x = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(digits.target)
    train, test = train_test_split(range(len(y)), test_size=0.2, stratify=y, random_state=0)
    return Data(x[train], y[train], x[test], y[test])


def train(model: nn.Module, data: Data, epochs: int, lr: float, progress: Progress, title: str) -> TaskID:
    """AdamW with a learning rate that falls to zero along a cosine."""
    order = torch.Generator().manual_seed(1)
    batches = -(-len(data.train_y) // BATCH)
    step = progress.add_task(title, total=epochs * batches, note="")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(data.train_y), generator=order).split(BATCH):
            loss = nn.functional.cross_entropy(model(data.train_x[rows]), data.train_y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.update(step, advance=1, note=f"loss {loss.item():.3f}")
    return step


def calibrate(model: nn.Module, data: Data, progress: Progress, title: str) -> TaskID:
    """Shows the model the training images, in float, while its observers look on."""
    batches = data.train_x.split(CALIBRATION_BATCH)
    step = progress.add_task(title, total=len(batches), note="")
    model.eval()
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    with torch.no_grad():
        for x in batches:
            model(x)
            progress.advance(step)
    model.eval()
    set_fake_quantize(model, FakeQuantState.VALIDATION)
    return step


def scores(model: nn.Module, data: Data) -> Tensor:
    model.eval()
    with torch.no_grad():
        return model(data.test_x)


def accuracy(scores: Tensor, data: Data) -> str:
    return f"accuracy {(scores.argmax(1) == data.test_y).double().mean().item():.2%}"


def comparison(results: dict[str, Tensor], data: Data) -> Table:
    reference = results["float"]
    table = Table(
        title=f"Handwritten digits: {len(data.test_y)} images the models have not seen",
        caption=f"The float model's scores reach {reference.abs().max().item():.1f}. QAT trains the weights on, "
        "so its scores leave the float model's on purpose. The int16 model has int16 activations and int8 weights.",
    )
    table.add_column("model")
    table.add_column("accuracy", justify="right")
    table.add_column("wrong", justify="right")
    table.add_column("largest output difference\nfrom float", justify="right")
    for name, output in results.items():
        right = output.argmax(1) == data.test_y
        difference = "" if output is reference else f"{(output - reference).abs().max().item():.4f}"
        table.add_row(name, f"{right.double().mean().item():.2%}", str((~right).sum().item()), difference)
    return table


def exported(model: nn.Module, data: Data, folder: Path) -> Path:
    """Writes the model as ONNX for any number of images."""
    return export(model, data.test_x[:2], path=folder / "digits_int8.onnx", dynamic_batch=True).path


def in_onnx_runtime(path: Path, x: Tensor) -> Tensor:
    """The scores that ONNX Runtime computes."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")  # else x86 makes uint8 of int8
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return torch.from_numpy(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one epoch each: shows that it runs, no more")
    parser.add_argument("--out", type=Path, default=Path("build/digits"), help="folder for what it writes")
    arguments = parser.parse_args()
    float_epochs, qat_epochs = (1, 1) if arguments.quick else (12, 4)

    started = time.monotonic()
    console = Console()
    torch.manual_seed(0)
    set_march(March.NASH_E)
    data = load_data()
    results: dict[str, Tensor] = {}

    def prepared(setter: object, name: str) -> nn.Module:
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        return prepare(float_model.eval(), data.train_x[:1], qconfig_setter=(setter,), save_dir=str(folder))

    columns = (
        TextColumn("{task.description:<21}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:

        def note(step: TaskID, name: str, model: nn.Module) -> None:
            results[name] = scores(model, data)
            progress.update(step, note=accuracy(results[name], data))

        float_model = Digits()
        step = train(float_model.train(), data, float_epochs, 1e-2, progress, "train float")
        note(step, "float", float_model)

        calibrated = prepared(default_calibration_qconfig_setter, "calibrated_int8")
        step = calibrate(calibrated, data, progress, "calibrate int8")
        note(step, "calibrated int8", calibrated)

        qat = prepared(default_qat_qconfig_setter, "qat_int8")
        qat.load_state_dict(calibrated.state_dict())
        qat.train()
        set_fake_quantize(qat, FakeQuantState.QAT)
        step = train(qat, data, qat_epochs, 1e-3, progress, "train quantized (QAT)")
        qat.eval()
        set_fake_quantize(qat, FakeQuantState.VALIDATION)
        note(step, "QAT int8", qat)

        wide = prepared(calibration_8bit_weight_16bit_act_qconfig_setter, "calibrated_int16")
        step = calibrate(wide, data, progress, "calibrate int16")
        note(step, "calibrated int16", wide)

        step = progress.add_task("export QAT as ONNX", total=1, note="")
        path = exported(qat, data, arguments.out)
        results["QAT int8 in ONNX Runtime"] = in_onnx_runtime(path, data.test_x)
        progress.update(step, advance=1, note=accuracy(results["QAT int8 in ONNX Runtime"], data))

        step = progress.add_task("convert to integers", total=1, note="")
        integer = convert(path)
        results["QAT int8, integer model"] = integer(data.test_x)
        progress.update(step, advance=1, note=accuracy(results["QAT int8, integer model"], data))

    console.print(comparison(results, data))
    beside = compare(qat, integer, data.test_x)
    worst = min(beside.layers, key=lambda layer: layer.equal)
    console.print(
        f"Integer model and QAT: the same digit on {beside.top1:.2%} of the images, {integer.report.summary}; at "
        f"{worst.layer!r}, where they are furthest apart, {worst.equal:.2%} of the integers are equal and the others "
        f"differ by {worst.largest} at most; {sum(beside.overflows.values())} accumulators left 32 bits."
    )
    console.print(f"{path} and the reports beside it: {time.monotonic() - started:.0f} s in all.", soft_wrap=True)


if __name__ == "__main__":
    main()
