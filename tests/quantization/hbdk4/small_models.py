"""Small modules with quantizers whose scales are known, and a way to read what was exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.dtype import QuantDType, qint8, qint16
from nashquant.quantization.fake_quantize import FakeQuantize
from nashquant.quantization.hbdk4 import ExportedModel
from nashquant.quantization.observer import FixedScaleObserver


def quantizer(scale: float | Sequence[float], dtype: QuantDType = qint8, ch_axis: int = -1) -> FakeQuantize:
    """A quantizer with a fixed scale, in the VALIDATION state; with a `ch_axis`, per channel."""
    per_channel: dict[str, Any] = {}
    if ch_axis != -1:
        assert isinstance(scale, Sequence)
        per_channel = {"qscheme": torch.per_channel_symmetric, "ch_axis": ch_axis, "channel_len": len(scale)}
    made = FakeQuantize(observer=FixedScaleObserver, dtype=dtype, scale=scale, **per_channel)
    made.disable_observer()
    return made.eval()


class OneQuantizer(nn.Module):
    def __init__(self, made: FakeQuantize) -> None:
        super().__init__()
        self.quant = made
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.quant(x)


class QuantizedLinear(nn.Linear):
    def __init__(self, weight: Tensor, weight_fake_quant: FakeQuantize, out: FakeQuantize | None = None) -> None:
        super().__init__(weight.shape[1], weight.shape[0])
        self.weight = nn.Parameter(weight)
        self.weight_fake_quant = weight_fake_quant
        self.activation_post_process = out

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight_fake_quant(self.weight), self.bias)
        return y if self.activation_post_process is None else self.activation_post_process(y)


class ResidualBlock(nn.Module):
    """conv, then add, then relu: int8, with the sum in int16."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = quantizer(1 / 64)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        scales = (self.conv.weight.detach().abs().amax((1, 2, 3)) / 127.5).tolist()
        self.weight_fake_quant = quantizer(scales, ch_axis=0)
        self.conv_out = quantizer(1 / 32)
        self.sum_out = quantizer(1 / 4096, qint16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(x)
        y = self.conv_out(self.conv._conv_forward(x, self.weight_fake_quant(self.conv.weight), self.conv.bias))
        return F.relu(self.sum_out(x + y))


def initializer(exported: ExportedModel, name: str) -> tuple[str, np.ndarray]:
    """The dtype of an initializer, and its values."""
    (found,) = (each for each in exported.model.graph.initializer if each.name == name)
    return onnx.TensorProto.DataType.Name(found.data_type), np.array(ir.from_proto(found).numpy(), dtype=np.float64)


def integer_type(exported: ExportedModel, quantize: onnx.NodeProto) -> str:
    """What a QuantizeLinear gives: the type of its zero point, which is 0."""
    found, zero_point = initializer(exported, quantize.input[2])
    assert not zero_point.any()
    return found


def operators(exported: ExportedModel) -> list[str]:
    return [node.op_type for node in exported.model.graph.node]


def nodes(exported: ExportedModel, operator: str) -> list[onnx.NodeProto]:
    return [node for node in exported.model.graph.node if node.op_type == operator]


def run(exported: ExportedModel, *inputs: Tensor, optimized: bool = True) -> list[Tensor]:
    """What ONNX Runtime computes from the file: optimized as docs/migrate.md says, or node by node."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(str(exported.path), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return [torch.from_numpy(array) for array in session.run(None, arrays)]
