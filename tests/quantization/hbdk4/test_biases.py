"""A bias that ONNX Runtime's optimizer would let overflow is int32 with a scale of its own, and the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nashquant import nash, qdq
from nashquant.dtype import QuantDType, qint8, qint16
from nashquant.quantization.hbdk4 import export

from .small_models import initializer, quantizer, run

BIAS = [3.0, -2.9999998, 1e-30, 0.0]


class Layer(nn.Module):
    """One conv, transposed conv or linear between two grids; its weights are hundredths, its biases threes."""

    def __init__(self, layer: Any, x: QuantDType, weight: QuantDType) -> None:
        super().__init__()
        self.layer, self.channels = layer, 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        with torch.no_grad():
            layer.weight.mul_(0.01 / layer.weight.abs().max())
            layer.bias.copy_(torch.tensor(BIAS))
        self.quant, self.weight_fake_quant = quantizer(2.0 / x.qmax, x), quantizer(0.01 / weight.qmax, weight)
        self.activation_post_process = quantizer(4.0 / x.qmax, x)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_fake_quant(self.layer.weight)
        if isinstance(self.layer, nn.Linear):
            y = nn.functional.linear(self.quant(x), weight, self.layer.bias)
        elif self.channels:
            y = nn.functional.conv_transpose2d(self.quant(x), weight, self.layer.bias)
        else:
            y = nn.functional.conv2d(self.quant(x), weight, self.layer.bias)
        return self.activation_post_process(y)


LAYERS = [
    (lambda: nn.Conv2d(4, 4, 3), (2, 4, 5, 5)),
    (lambda: nn.ConvTranspose2d(4, 4, 3), (2, 4, 5, 5)),
    (lambda: nn.Linear(4, 4), (2, 4)),
    (lambda: nn.Linear(4, 4), (2, 3, 4)),
]


def by_default(path: Path, x: Tensor) -> np.ndarray:
    """What ONNX Runtime computes as anyone would call it, all its optimizations on."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_int16_layers_survive_onnx_runtimes_optimizations(make: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Layer(make(), qint16, qint16), torch.rand(shape)
    exported = export(model, x, path=tmp_path / "m.onnx")
    step = model.activation_post_process.scale.item()
    expected = model(x).detach().numpy()
    assert np.abs(by_default(exported.path, x) - expected).max() <= 1.01 * step
    assert run(exported, x, optimized=False)[0].tolist() == model(x).tolist()


def test_the_integers_are_the_same_numbers_to_every_reader(tmp_path: Path) -> None:
    model, x = Layer(nn.Conv2d(4, 4, 1), qint16, qint16), torch.rand(1, 4, 2, 2)
    exported = export(model, x, path=tmp_path / "m.onnx")
    (dtype, q), (_, scale) = (initializer(exported, name) for name in ("layer.bias", "layer.bias.scale"))
    assert dtype == "INT32"
    assert (q.tolist()[:2], scale.tolist()[:2]) == ([3 * 2**22, -12582911], [2.0**-22, 2.0**-22])
    assert (q.astype(np.float32) * scale).tolist() == np.float32(BIAS).tolist()

    read = qdq.read(exported.path)
    assert not [name for name in read.graph.initializers if "floats" in name]
    floats = qdq.plain(read).model.graph.initializers["layer.bias"].const_value
    assert floats is not None
    assert floats.numpy().tolist() == np.float32(BIAS).tolist()
    (node,) = qdq.quant_config(read)["node_config"].values()
    assert node == {"input0": "int16", "input1": "int16"}
    assert [row.dtypes for row in qdq.summary(read).ops] == [{"int16 × int16": 1}]
    step = model.activation_post_process.scale.item()
    assert (nash.convert(exported)(x) - model(x)).abs().max() <= 1.01 * step  # type: ignore[operator]


@pytest.mark.parametrize(("x", "weight"), [(qint8, qint8), (qint16, qint8)])
def test_biases_that_fit_stay_floats(x: QuantDType, weight: QuantDType, tmp_path: Path) -> None:
    exported = export(Layer(nn.Conv2d(4, 4, 3), x, weight), torch.rand(1, 4, 5, 5), path=tmp_path / "m.onnx")
    assert initializer(exported, "layer.bias")[0] == "FLOAT"
