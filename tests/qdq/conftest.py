"""Two small models: one that another tool might have made, one that we export."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from nashquant import March, set_march
from nashquant.quantization import (
    DeQuantStub,
    FakeQuantState,
    QuantStub,
    get_qconfig,
    prepare,
    qint8,
    qint16,
    set_fake_quantize,
)
from nashquant.quantization.hbdk4 import ExportedModel, export
from nashquant.quantization.qconfig_setter import ConvDtypeTemplate, ModuleNameTemplate, QconfigSetter

# uint8 with zero points, a weight per channel, a tensor on two grids one after the other, an erf in floating point.
FOREIGN = """
<ir_version: 10, opset_import: ["" : 21], producer_name: "somebody">
net (float[batch, 2] x) => (float[batch, 3] y, float[batch, 3] z)
<
  float x_scale = {0.5}, uint8 x_zero = {3},
  int8[3, 2] w = {1, -2, 3, -4, 5, 127}, float[3] w_scale = {0.5, 0.25, 2.0}, int8[3] w_zero = {0, 0, 0},
  float h_scale = {0.25}, uint8 h_zero = {128}, float k_scale = {0.125}, int16 k_zero = {0},
  float e_scale = {0.0078125}, int8 e_zero = {0}
>
{
  [q_x] x_q = QuantizeLinear(x, x_scale, x_zero)
  [d_x] x_d = DequantizeLinear(x_q, x_scale, x_zero)
  [d_w] w_d = DequantizeLinear<axis = 0>(w, w_scale, w_zero)
  [gemm] h = Gemm<transB = 1>(x_d, w_d)
  [q_h] h_q = QuantizeLinear(h, h_scale, h_zero)
  [d_h] h_d = DequantizeLinear(h_q, h_scale, h_zero)
  [q_k] k_q = QuantizeLinear(h_d, k_scale, k_zero)
  [d_k] k_d = DequantizeLinear(k_q, k_scale, k_zero)
  [relu] y = Relu(k_d)
  [erf] e = Erf(x)
  [sum] s = ReduceSum<keepdims = 1>(e)
  [add] a = Add(h_d, s)
  [q_e] a_q = QuantizeLinear(a, e_scale, e_zero)
  [d_e] z = DequantizeLinear(a_q, e_scale, e_zero)
}
"""


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    model = onnx.parser.parse_model(FOREIGN)
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path / "foreign.onnx"
    onnx.save(model, str(path))
    return path


class Net(nn.Module):
    """A conv in int8 between int16, a shared input, a head in high precision."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.conv, self.relu, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(x).sigmoid()
        y = self.relu(self.conv(x))
        return self.dequant(self.head((y * y.tanh()).mean((2, 3))))


@pytest.fixture(scope="package")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    torch.manual_seed(0)
    set_march(March.NASH_M)
    x = torch.randn(2, 2, 5, 5)
    everything, head = ModuleNameTemplate({"": qint16}), ModuleNameTemplate({"head": {"input": qint16}})
    setter = QconfigSetter(get_qconfig(), [everything, ConvDtypeTemplate(qint8, qint8), head])
    model = prepare(Net().eval(), x, setter, save_dir=None)
    set_fake_quantize(model.eval(), FakeQuantState.CALIBRATION)
    with torch.no_grad():
        model(x)
    set_fake_quantize(model.eval(), FakeQuantState.VALIDATION)
    return export(model, x, path=tmp_path_factory.mktemp("exported") / "net.onnx")
