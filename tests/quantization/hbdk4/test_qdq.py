"""Each fake quantize is a QuantizeLinear and a DequantizeLinear that compute the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.dtype import QuantDType, qint4, qint8, qint16
from nashquant.quantization.fake_quantize import FakeQuantize
from nashquant.quantization.hbdk4 import export

from .small_models import (
    OneQuantizer,
    QuantizedLinear,
    ResidualBlock,
    initializer,
    integer_type,
    nodes,
    operators,
    quantizer,
    run,
)

DTYPES = [(qint4, "INT4"), (qint8, "INT8"), (qint16, "INT16")]


@pytest.mark.parametrize(("dtype", "stored"), DTYPES)
def test_one_scale_for_the_tensor(dtype: QuantDType, stored: str, tmp_path: Path) -> None:
    model = OneQuantizer(quantizer(0.25, dtype))
    # Ties, both ends, infinities and a negative zero.
    x = torch.tensor([0.125, 0.375, -0.125, 0.3, 1e6, -1e6, torch.inf, -torch.inf, -0.0])
    exported = export(model, x, path=tmp_path / "m.onnx")

    assert operators(exported) == ["QuantizeLinear", "DequantizeLinear"]
    assert integer_type(exported, exported.model.graph.node[0]) == stored
    assert initializer(exported, "quant.scale") == ("FLOAT", 0.25)
    high, low = 0.25 * dtype.qmax, 0.25 * dtype.qmin
    (y,) = run(exported, x)
    assert y.tolist() == [0.0, 0.5, 0.0, 0.25, high, low, high, low, 0.0] == model(x).tolist()


@pytest.mark.parametrize(("dtype", "stored"), DTYPES)
def test_one_scale_for_each_channel_of_axis_1(dtype: QuantDType, stored: str, tmp_path: Path) -> None:
    model = OneQuantizer(quantizer([0.25, 0.5, 4.0], dtype, ch_axis=1))
    x = torch.tensor([[[0.3, -9e9], [0.3, 0.9], [1.0, 9e9]]])
    exported = export(model, x, path=tmp_path / "m.onnx")

    assert [(each.name, each.i) for each in exported.model.graph.node[1].attribute] == [("axis", 1)]
    assert integer_type(exported, exported.model.graph.node[0]) == stored
    assert initializer(exported, "quant.scale")[1].tolist() == [0.25, 0.5, 4.0]
    (y,) = run(exported, x)
    expected = [[[0.25, 0.25 * dtype.qmin], [0.5, 1.0], [0.0, 4.0 * dtype.qmax]]]
    assert y.tolist() == expected == model(x).tolist()


def test_the_operator_set_is_21_and_the_maker_signs(tmp_path: Path) -> None:
    proto = export(OneQuantizer(quantizer(1.0)), torch.ones(2), "main", path=tmp_path / "m.onnx").model
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", 21)]
    assert (proto.producer_name, proto.graph.name) == ("nashquant", "main")
    said = {each.key: each.value for each in proto.metadata_props}
    assert said.keys() == {"nashquant.march", "nashquant.forward"}
    assert said["nashquant.march"] == "nash-m"


def test_conv_add_relu_stay_within_a_step(tmp_path: Path) -> None:
    model, x = ResidualBlock().eval(), torch.randn(2, 4, 8, 8)
    exported = export(model, x, path=tmp_path / "m.onnx")

    assert exported.quantizers == ("quant", "weight_fake_quant", "conv_out", "sum_out")
    assert exported.agreement is not None
    assert exported.agreement.worst[1] < 1.01
    # Optimized, ONNX Runtime computes the convolution in integers: still a step of conv_out at most.
    with torch.no_grad():
        assert float((run(exported, x)[0] - model(x)).abs().max()) <= 1.01 / 32


def test_linear_and_layer_norm(tmp_path: Path) -> None:
    weight = torch.randn(8, 16)
    linear = QuantizedLinear(weight, quantizer((weight.abs().amax(1) / 127.5).tolist(), ch_axis=0), quantizer(0.125))
    model = nn.Sequential(
        OneQuantizer(quantizer(0.02)), linear, nn.LayerNorm(8), OneQuantizer(quantizer(2**-12, qint16))
    )
    x = torch.randn(3, 16)
    exported = export(model.eval(), x, path=tmp_path / "m.onnx")

    assert "LayerNormalization" in operators(exported)
    with torch.no_grad():
        steps = (run(exported, x)[0] - model(x)).abs() * 2**12
    # Where the linear's output lies between two of its steps (0.125), the layer norm behind moves by more.
    assert exported.agreement is not None
    assert exported.agreement.steps["1.activation_post_process"] < 1.01
    assert float(steps.median()) <= 1.01


def test_an_output_in_high_precision_has_no_quantizer(tmp_path: Path) -> None:
    model = QuantizedLinear(torch.tensor([[1.0, -1.0]]), quantizer(1 / 64))
    exported = export(model.eval(), torch.tensor([[0.3, 0.7]]), path=tmp_path / "m.onnx")
    assert "QuantizeLinear" not in operators(exported)
    assert exported.model.graph.node[-1].op_type in ("Add", "Gemm")


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant = quantizer(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.quant.requantize(F.max_pool1d(self.quant(x), 2)) + self.quant(x).sum()


@pytest.mark.parametrize("shape", [(2, 3), (2, 5, 3), (1, 2, 5, 3)])
def test_a_linear_is_a_gemm_on_any_number_of_axes(shape: tuple[int, ...], tmp_path: Path) -> None:
    linear = QuantizedLinear(torch.randn(4, 3), quantizer([0.01, 0.02, 0.03, 0.04], ch_axis=0))
    model = nn.Sequential(OneQuantizer(quantizer(0.02)), linear, nn.Sigmoid(), OneQuantizer(quantizer(1 / 128))).eval()
    x = torch.randn(shape)
    exported = export(model, x, path=tmp_path / "m.onnx")
    assert "Gemm" in operators(exported)
    assert "MatMul" not in operators(exported)
    assert (run(exported, x)[0] - model(x)).abs().max() <= 1 / 128


def test_a_linear_takes_any_number_of_rows_where_asked(tmp_path: Path) -> None:
    linear = QuantizedLinear(torch.randn(4, 3), quantizer([0.01, 0.02, 0.03, 0.04], ch_axis=0))
    model = nn.Sequential(OneQuantizer(quantizer(0.02)), linear).eval()
    rows = ({0: torch.export.Dim("rows")},)
    exported = export(model, torch.randn(2, 5, 3), path=tmp_path / "m.onnx", dynamic_shapes=rows)
    x = torch.randn(7, 5, 3)
    torch.testing.assert_close(run(exported, x)[0], model(x))


def test_a_shared_quantizer_has_one_scale_and_is_named_wherever_it_runs(tmp_path: Path) -> None:
    exported = export(Twice().eval(), torch.randn(1, 1, 4), path=tmp_path / "m.onnx")
    assert exported.quantizers == ("quant",)
    pairs = [*nodes(exported, "QuantizeLinear"), *nodes(exported, "DequantizeLinear")]
    assert len(pairs) >= 4
    assert {tuple(node.input[1:]) for node in pairs} == {("quant.scale", "quant.zero_point")}
    assert len({node.name for node in pairs}) == len(pairs)
    assert all(node.name.startswith("quant/") for node in pairs)


def test_half_precision_is_quantized_in_f32(tmp_path: Path) -> None:
    model, x = OneQuantizer(quantizer(2**-15, qint16)), torch.tensor([0.3, -0.7]).half()
    exported = export(model, x, path=tmp_path / "m.onnx")
    assert operators(exported) == ["Cast", "QuantizeLinear", "DequantizeLinear", "Cast"]
    (y,) = run(exported, x)
    assert y.dtype == torch.float16
    assert y.tolist() == model(x).tolist()


def test_an_axis_may_change_where_it_is_said(tmp_path: Path) -> None:
    model, x = OneQuantizer(quantizer(0.5)), torch.ones(2, 3)
    named = export(model, x, path=tmp_path / "named.onnx", dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    listed = export(model, x, path=tmp_path / "listed.onnx", dynamic_shapes=((None, torch.export.Dim("width")),))
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for graph in (named.model.graph, listed.model.graph)
        for value in (graph.input[0], graph.output[0])
    ]
    assert shapes == [["batch", 3], ["batch", 3], [2, "width"], [2, "width"]]
    assert run(named, torch.ones(5, 3))[0].shape == (5, 3)


def test_a_quantizer_after_calibration_is_exported_with_its_scale(tmp_path: Path) -> None:
    made = FakeQuantize(dtype=qint8)
    made(torch.tensor([-1.0, 0.5]))
    made.disable_observer()
    exported = export(OneQuantizer(made).eval(), torch.ones(2), path=tmp_path / "m.onnx")
    assert initializer(exported, "quant.scale")[1] == torch.tensor(1.0) / 127.5
