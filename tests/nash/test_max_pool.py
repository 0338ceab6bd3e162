"""A max pool of integers, whatever their layout and number."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F

from nashquant import nash

POOL = """
<ir_version: 10, opset_import: ["" : 21]> net (float[n, 4, h, w] x) => (float[n, 4, i, j] y)
<float s = {0.0625}, %s z = {0}>
{
  q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
  p = MaxPool<kernel_shape = [3, 2], strides = [2, 1], dilations = [1, 2], pads = [1, 0, 1, 1], ceil_mode = 1>(d)
  r = QuantizeLinear(p, s, z)  y = DequantizeLinear(r, s, z)
}
"""


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_more_pixels_than_the_integer_type_can_count(dtype: str, layout: torch.memory_format, tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(POOL % dtype), str(tmp_path / "m.onnx"))
    model = nash.convert(tmp_path / "m.onnx")
    assert model.report.floats == ()
    x = torch.randint(-128, 128, (1, 4, 182, 183)).mul(0.0625).contiguous(memory_format=layout)
    padded = F.pad(x, (0, 1, 1, 1), value=-torch.inf)
    assert torch.equal(model(x), F.max_pool2d(padded, (3, 2), (2, 1), 0, (1, 2), ceil_mode=True))
