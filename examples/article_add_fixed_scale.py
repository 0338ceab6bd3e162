import torch
from nashquant import set_march, March
set_march(March.NASH_E)
from nashquant.quantization import prepare, set_fake_quantize, FakeQuantState
from nashquant.quantization import QuantStub
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.qconfig_template import calibration_8bit_weight_16bit_act_qconfig_setter, ModuleNameQconfigSetter
from nashquant.quantization.qconfig import get_qconfig, MSEObserver, MinMaxObserver, FixedScaleObserver, QConfig
from nashquant.quantization.fake_quantize import FakeQuantize
from nashquant.dtype import qint8, qint16
from torch.quantization import DeQuantStub
import torch.nn as nn

class AddNet(nn.Module):
    def __init__(self):
        super(AddNet, self).__init__()
        self.quant_x = QuantStub()
        self.quant_y = QuantStub()
        self.dequant = DeQuantStub()

    def forward(self, x, y):
        x = self.quant_x(x)
        y = self.quant_y(y)
        z = torch.add(x, y)
        z = self.dequant(z)
        return z

# 创建模型
model = AddNet()

# 生成两个相同形状的输入张量
torch.manual_seed(42)
x = torch.randn(1, 1, 2, 6)
y = torch.randn(1, 2, 2, 6)
example_input = (x,y)

# 前向传播
output = model(example_input[0], example_input[1])
print("float输出数据:", output)
print("输入形状:", example_input[0].shape)
print("输出形状:", output.shape)

# A global march indicating the target hardware version must be setted before prepare qat.
set_march(March.NASH_E)

add_input_fix_scale_qconfig = QConfig(
    output=FakeQuantize.with_args(
        observer=FixedScaleObserver,
        dtype=qint16,
        scale=0.03125,
    )
)

add_output_fix_scale_qconfig = QConfig(
    output=FakeQuantize.with_args(
        observer=FixedScaleObserver,
        dtype=qint16,
        scale=0.0625,
    )
)

# 节点名称,可以从model_check_result.txt中获取,也可以从敏感度文件中获取
module_name_to_qconfig = {
    "quant_x": add_input_fix_scale_qconfig,
    "quant_y": add_input_fix_scale_qconfig,
    "_generated_add_0": add_output_fix_scale_qconfig,
}

calib_model = prepare(model.eval(), example_input,
                      qconfig_setter=(
                          ModuleNameQconfigSetter(module_name_to_qconfig),
                          calibration_8bit_weight_16bit_act_qconfig_setter,
                          ),
                      )

calib_model.eval()
set_fake_quantize(calib_model, FakeQuantState.CALIBRATION)
calib_model(example_input[0], example_input[1])

calib_model.eval()
set_fake_quantize(calib_model, FakeQuantState.VALIDATION)
calib_out = calib_model(example_input[0], example_input[1])
print("calib输出数据:", calib_out)

qat_bc = export(calib_model, example_input)
