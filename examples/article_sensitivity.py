"""The article's fragments on sensitivity and custom templates, completed until they run.

Every table here is measured: one op at a time is quantized, the rest of the model stays float, and the L1
distance between each output and the float model's tells how much that op matters to that output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nashquant import March, set_march
from nashquant.dtype import qint8, qint16
from nashquant.quantization import DeQuantStub, FakeQuantState, QuantStub, prepare, set_fake_quantize
from nashquant.quantization.fake_quantize import FakeQuantize
from nashquant.quantization.qconfig import (
    FixedScaleObserver,
    MinMaxObserver,
    MSEObserver,
    QConfig,
    get_qconfig,
)
from nashquant.quantization.qconfig_template import (
    ModuleNameQconfigSetter,
    default_calibration_qconfig_setter,
    default_qat_qconfig_setter,
    sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter,
    sensitive_op_qat_8bit_weight_16bit_fixed_act_qconfig_setter,
)


class TwoHeads(nn.Module):
    """A residual trunk with two outputs, as a detector has boxes and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = QuantStub()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(8, 8, 3, padding=1)
        self.boxes = nn.Conv2d(8, 4, 1)
        self.classes = nn.Conv2d(8, 5, 1)
        self.dequant_boxes = DeQuantStub()
        self.dequant_classes = DeQuantStub()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.relu1(self.conv1(self.quant(x)))
        y = self.relu2(self.conv2(x))
        y = torch.sigmoid(self.conv3(y)) + x
        return self.dequant_boxes(self.boxes(y)), self.dequant_classes(self.classes(y))


def measure_sensitivity(float_model: nn.Module, model: nn.Module, x: Tensor) -> list[list[list[object]]]:
    """For each output: rows `[op_name, sensitive_type, op_type, L1, quant_dtype, flops]`, the worst first."""
    with torch.no_grad():
        expected = float_model(x)
        set_fake_quantize(model, FakeQuantState._FLOAT)
        tables: list[list[list[object]]] = [[] for _ in expected]
        for name, op in model.named_modules():
            quantizer = getattr(op, "activation_post_process", None)
            if not isinstance(quantizer, FakeQuantize):
                continue
            quantizer.enable_fake_quant()
            for table, output, reference in zip(tables, model(x), expected, strict=True):
                l1 = (output - reference).abs().mean().item()
                table.append([name, "activation", type(op).__name__, l1, str(quantizer.dtype), "0(0%)"])
            quantizer.disable_fake_quant()
    for table in tables:
        table.sort(key=lambda row: -row[3])
    return tables


torch.manual_seed(0)
set_march(March.NASH_E)
float_model = TwoHeads().eval()
example_input = torch.randn(4, 3, 16, 16)


def calibrated(qconfig_setter: tuple[object, ...]) -> nn.Module:
    model = prepare(float_model, example_inputs=example_input, qconfig_setter=qconfig_setter)
    model.eval()
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    with torch.no_grad():
        model(example_input)
    model.eval()
    set_fake_quantize(model, FakeQuantState.VALIDATION)
    return model


def out_dtypes(model: nn.Module) -> dict[str, str]:
    quantizers = {name: getattr(op, "activation_post_process", None) for name, op in model.named_modules()}
    return {name: str(q.dtype) for name, q in quantizers.items() if isinstance(q, FakeQuantize)}


# One table for each output, saved to disk as the debug tool would.
all_int8 = calibrated((default_calibration_qconfig_setter,))
for i, table in enumerate(measure_sensitivity(float_model, all_int8, example_input)):
    torch.save(table, f"output_0-{i}_L1_sensitive_ops.pt")
    print(f"output 0-{i}:", ", ".join(f"{row[0]} {row[3]:.2e}" for row in table))

# Calibration: for each output, the most sensitive fifth of the ops in int16, the rest int8.
table1 = torch.load("output_0-0_L1_sensitive_ops.pt")
table2 = torch.load("output_0-1_L1_sensitive_ops.pt")
calibration_model = calibrated(
    (
        sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(table1, ratio=0.2),
        sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(table2, ratio=0.2),
        default_calibration_qconfig_setter,
    )
)
print("calibration:", out_dtypes(calibration_model))

# The output scale of one op, set by hand.
op_name_output_fix_scale_qconfig = QConfig(
    output=FakeQuantize.with_args(
        observer=FixedScaleObserver,
        dtype=qint16,
        scale=0.0625,
    )
)
# The types of one op's weight and output: MSEObserver to calibrate, MinMaxObserver to train.
# An op without a weight ignores weight_dtype.
calib_weight_act_both_int16_qconfig = get_qconfig(observer=MSEObserver, weight_dtype=qint16, out_dtype=qint16)
calib_weight_act_both_int8_qconfig = get_qconfig(observer=MSEObserver, weight_dtype=qint8, out_dtype=qint8)
qat_weight_act_both_int16_qconfig = get_qconfig(
    observer=MinMaxObserver,
    weight_dtype=qint16,
    out_dtype=qint16,
    fix_scale=True,  # train with the scale that calibration found
)
mixed = calibrated(
    (
        ModuleNameQconfigSetter(
            {"conv1": calib_weight_act_both_int16_qconfig, "relu2": calib_weight_act_both_int8_qconfig}
        ),
        default_calibration_qconfig_setter,
    )
)
print("custom:", out_dtypes(mixed))

# QAT: all three kinds of setter together. An op that prepare made from a function call is named
# _generated_..., and only ModuleNameQconfigSetter gives it a qconfig of its own.
module_name_to_qconfig = {"_generated_add_0": op_name_output_fix_scale_qconfig}
qat_model = prepare(
    float_model,
    example_inputs=example_input,
    qconfig_setter=(
        ModuleNameQconfigSetter(module_name_to_qconfig),
        sensitive_op_qat_8bit_weight_16bit_fixed_act_qconfig_setter(table1, ratio=0.2),
        default_qat_qconfig_setter,
    ),
)
calibrated_alike = calibrated(
    (
        ModuleNameQconfigSetter(module_name_to_qconfig),
        sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter(table1, ratio=0.2),
        default_calibration_qconfig_setter,
    )
)
qat_model.load_state_dict(calibrated_alike.state_dict())
qat_model.train()
set_fake_quantize(qat_model, FakeQuantState.QAT)
optimizer = torch.optim.SGD(qat_model.parameters(), lr=0.05)
with torch.no_grad():
    target = [torch.randn_like(output) for output in float_model(example_input)]
for _ in range(5):
    loss = sum(nn.functional.mse_loss(output, t) for output, t in zip(qat_model(example_input), target, strict=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"loss {loss.item():.4f}")
print("QAT:", out_dtypes(qat_model))
print("fixed scale:", qat_model.get_submodule("_generated_add_0.activation_post_process").scale.item())
