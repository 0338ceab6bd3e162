import torch
from horizon_plugin_pytorch import set_march, March
set_march(March.NASH_M)
from horizon_plugin_pytorch.quantization import prepare, set_fake_quantize, FakeQuantState
from horizon_plugin_pytorch.quantization import QuantStub
from horizon_plugin_pytorch.quantization.hbdk4 import export
from horizon_plugin_pytorch.quantization.qconfig_template import calibration_8bit_weight_16bit_act_qconfig_setter, ModuleNameQconfigSetter
from horizon_plugin_pytorch.quantization.qconfig import get_qconfig, MSEObserver, MinMaxObserver
from horizon_plugin_pytorch.dtype import qint8, qint16
from torch.quantization import DeQuantStub
import torch.nn as nn

# 定义网络结构
class SmallModel(nn.Module):
    def __init__(self):
        super(SmallModel, self).__init__()
        # 第一个 Linear: 输入 [2, 100, 256] -> 输出 [2, 100, 256]
        self.linear1 = nn.Linear(256, 256)
        self.layernorm = nn.LayerNorm(256)  # 对最后一维进行归一化
        self.relu = nn.ReLU()
        # 第二个 Linear: 输入 [2, 100, 256] -> 输出 [2, 100, 60]
        self.linear2 = nn.Linear(256, 60)
        # 第三个 Linear: 输入 [2, 100, 60] -> 输出 [2, 100, 60]
        self.linear3 = nn.Linear(60, 60)
        self.quant = QuantStub()
        self.dequant = DeQuantStub()

    def forward(self, x):
        x = self.quant(x)
        # 第一个 Linear
        x = self.linear1(x)  # [2, 100, 256]
        x = self.layernorm(x)  # [2, 100, 256]
        x = self.relu(x)  # [2, 100, 256]
        # 第二个 Linear
        x = self.linear2(x)  # [2, 100, 60]
        # 第三个 Linear
        x = self.linear3(x)
        x = self.dequant(x)
        return x

example_input = torch.randn(2, 100, 256)
model = SmallModel()

# 前向传播
output = model(example_input)
print("输出形状:", output.shape)

# A global march indicating the target hardware version must be setted before prepare qat.
set_march(March.NASH_M)

calib_weight_act_both_int16_qconfig = get_qconfig(
    observer=MSEObserver,
    weight_dtype=qint16,
    out_dtype=qint16,
)

# layernorm没有weight,配置了weight_dtype也不会起作用
calib_weight_act_both_int8_qconfig = get_qconfig(
    observer=MSEObserver,
    weight_dtype=qint8,
    out_dtype=qint8,
)

qat_weight_act_both_int16_qconfig = get_qconfig(
    observer=MinMaxObserver,
    weight_dtype=qint16,
    out_dtype=qint16,
    fix_scale=True,
)

# 节点名称,可以从model_check_result.txt中获取,也可以从敏感度文件中获取
module_name_to_qconfig = {
    "layernorm": calib_weight_act_both_int8_qconfig,
    "linear2": calib_weight_act_both_int16_qconfig,
}

calib_model = prepare(model.eval(), example_input,
                      qconfig_setter=(
                          ModuleNameQconfigSetter(module_name_to_qconfig),
                          calibration_8bit_weight_16bit_act_qconfig_setter,
                          ),
                      )

calib_model.eval()
set_fake_quantize(calib_model, FakeQuantState.CALIBRATION)
calib_model(example_input)

calib_model.eval()
set_fake_quantize(calib_model, FakeQuantState.VALIDATION)
calib_out = calib_model(example_input)

qat_bc = export(calib_model, example_input)
