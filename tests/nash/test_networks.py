"""Whole networks: prepared and exported by us, or quantized by ONNX Runtime's own tool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from nashquant.nash import compare, convert
from nashquant.quantization import DeQuantStub, QuantStub, get_qconfig, prepare, set_fake_quantize
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.observer import MinMaxObserver
from nashquant.quantization.setter import TemplateQconfigSetter

from .exact import only_integers, onnx_runtime

SETTER = TemplateQconfigSetter(get_qconfig(observer=MinMaxObserver))


class Convolutional(nn.Module):
    """Stride, depthwise, a residual, an activation in two ops, a resize, a concatenation, a head in high precision."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.SiLU())
        self.mix = nn.Conv2d(8, 8, 1)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.quant(x))
        x = torch.relu(self.mix(self.depthwise(x)) + x)
        wide = nn.functional.interpolate(nn.functional.max_pool2d(x, 2), scale_factor=4, mode="bilinear")
        x = torch.cat((wide, self.up(x)), 1)
        return self.dequant(self.head(x.mean((2, 3))))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.norm, self.attention = nn.LayerNorm(16), nn.MultiheadAttention(16, 4, batch_first=True)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(x)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.dequant(self.down(nn.functional.gelu(self.up(x))))


def ready(model: nn.Module, x: Tensor) -> Any:
    made = prepare(model.eval(), (x,), SETTER, save_dir=None)
    set_fake_quantize(made.eval(), "calibration")
    with torch.no_grad():
        made(x)
    set_fake_quantize(made.eval(), "validation")
    return made


@pytest.mark.parametrize(
    ("net", "shape"), [(Convolutional, (2, 3, 16, 16)), (Attention, (2, 6, 16))], ids=["conv", "attention"]
)
def test_a_prepared_network_is_integer_throughout_and_as_the_prepared_model(net, shape, tmp_path: Path):
    x = torch.randn(shape)
    prepared = ready(net(), x)
    exported = export(prepared, x, path=tmp_path / "m.onnx", verify=False)
    integer = convert(exported)
    assert only_integers(integer), integer.report
    seen = compare(prepared, integer, [x, torch.randn(shape)])
    assert seen.unmatched == ()
    assert max(layer.largest for layer in seen.layers) <= 2  # a step here may be the cause of one behind it
    assert min(layer.equal for layer in seen.layers) > 0.95
    assert seen.overflows == {}
    (theirs,) = onnx_runtime(exported.model, x)
    ours = integer(x)
    assert isinstance(ours, Tensor)
    assert (ours - theirs).abs().max() < 0.02 * theirs.abs().max()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch.onnx's own
@pytest.mark.parametrize("activations", ["QUInt8", "QInt8", "QInt16"])
def test_a_network_that_another_tool_quantized_gives_what_onnx_runtime_gives(activations, tmp_path: Path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    net = Convolutional()
    net.quant, net.dequant = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    program = torch.onnx.export(net.eval(), (torch.randn(2, 3, 16, 16),), dynamo=True, opset_version=21, verbose=False)
    assert program is not None
    program.save(str(tmp_path / "float.onnx"))

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.batches = iter(
                [{"x": np.random.default_rng(i).normal(size=(2, 3, 16, 16)).astype(np.float32)} for i in range(3)]
            )

        def get_next(self) -> Any:
            return next(self.batches, None)

    quantization.quantize_static(
        str(tmp_path / "float.onnx"),
        str(tmp_path / "m.onnx"),
        Reader(),
        per_channel=True,
        activation_type=getattr(quantization.QuantType, activations),
    )
    model, x = onnx.load(str(tmp_path / "m.onnx")), torch.randn(2, 3, 16, 16)
    integer = convert(model)
    assert not integer.report.floats, integer.report
    found = integer(x)
    assert isinstance(found, Tensor)
    step = integer.points[-1].grid.scale
    assert (found - onnx_runtime(model, x)[0]).abs().max() <= 2 * step + 1e-6


def test_any_number_of_threads_gives_the_same(tmp_path: Path):
    x = torch.randn(2, 3, 16, 16)
    integer = convert(export(ready(Convolutional(), x), x, path=tmp_path / "m.onnx", verify=False))
    once = integer(x)
    assert isinstance(once, Tensor)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert torch.equal(integer(x), once)  # type: ignore[arg-type]
