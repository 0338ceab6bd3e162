"""Softmax of scores with a mask: number by number against fractions, and in torch's own attention."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nashquant.nash import compare, convert
from nashquant.quantization import DeQuantStub, QuantStub, get_qconfig, prepare, set_fake_quantize
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.observer import MinMaxObserver
from nashquant.quantization.setter import TemplateQconfigSetter

from .exact import factor, graph, only_integers, saturated

SX, SY = (float(np.float32(scale)) for scale in (0.037, 0.0078))
MASKED = (
    "q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z) {body} y = Softmax(t)"
    " p = QuantizeLinear(y, sy, z) o = DequantizeLinear(p, sy, z)"
)


def integers(body: str, x: Tensor, inputs: dict[str, Tensor], **constants: np.ndarray) -> tuple[Tensor, Tensor]:
    """The scores and the weights, as integers; nothing but the mask is float on the way."""
    names = {torch.float32: "float", torch.bool: "bool"}
    given = {"x": x, **inputs}
    taken = ", ".join(f"{names[tensor.dtype]}{list(tensor.shape)} {name}" for name, tensor in given.items())
    model = convert(graph(MASKED.format(body=body), taken, "float o", sx=SX, sy=SY, z=np.int8(0), **constants))
    assert only_integers(model), model.report
    found = model.integers(*given.values())
    return found["q"], found["p"]


def softmax(steps: list[int]) -> list[int]:
    e = [round(math.exp(-(max(steps) - n) * SX) * 2**20) for n in steps]
    by = factor(1 / (sum(e) * SY))
    return [saturated(round(n * by)) for n in e]


def in_steps(real: float) -> int:
    return -(2**31) if real == -math.inf else max(round(real / SX), -(2**31))


@pytest.mark.parametrize("constant", [False, True])
def test_a_mask_is_added_in_steps_of_the_scores(constant):
    x, mask = torch.randn(20, 9), torch.randn(20, 9)
    mask[torch.rand(20, 9) < 0.3] = -math.inf
    mask[torch.rand(20, 9) < 0.1] = -3.4e38
    inputs, constants = ({}, {"m": mask.numpy()}) if constant else ({"m": mask}, {})
    q, p = integers("t = Add(d, m)", x, inputs, **constants)
    rows = [
        [n + in_steps(m) for n, m in zip(*pair, strict=True)] for pair in zip(q.tolist(), mask.tolist(), strict=True)
    ]
    assert p.tolist() == [softmax(row) for row in rows]
    assert any(n == 0 for n in p.flatten().tolist())


@pytest.mark.parametrize("order", ["h, m, d", "h, d, m"])
def test_a_mask_stands_in_the_place_of_scores(order):
    x, chosen, fill = torch.randn(20, 9), torch.rand(20, 9) < 0.5, np.float32(-math.inf)
    chosen[:, 0] = order == "h, d, m"  # no row is masked throughout
    q, p = integers(f"t = Where({order})", x, {"h": chosen}, m=fill)
    masked = chosen if order == "h, m, d" else ~chosen
    rows = torch.where(masked, -(2**31), q.long()).tolist()
    assert p.tolist() == [softmax(row) for row in rows]


@pytest.mark.parametrize(
    "body", ["t = Where(h, m, d)", "n = Neg(d) t = Where(h, m, n)", "n = Where(h, m, d) t = Neg(n)"]
)
def test_what_stands_in_the_place_of_scores_knows_no_zero_point(body):
    x, chosen = torch.randint(-64, 64, (20, 9)) * SX, torch.rand(20, 9) < 0.5
    given = {"sx": SX, "sy": SY, "m": np.float32(0.5)}
    source = graph(MASKED.format(body=body), "float[20, 9] x, bool[20, 9] h", "float o", z=np.uint8(100), **given)  # type: ignore[arg-type]
    moved = graph(MASKED.format(body=body), "float[20, 9] x, bool[20, 9] h", "float o", z=np.int8(0), **given)  # type: ignore[arg-type]
    model = convert(source)
    assert only_integers(model), model.report
    assert torch.equal(model.integers(x, chosen)["p"] + 28, convert(moved).integers(x, chosen)["p"])


def test_two_masks_and_a_scale():
    x, mask, more = torch.randn(6, 5), torch.randn(5).round(), torch.tensor([[0.0, 0, 0, -math.inf, 0]])
    body = "u = Mul(d, half) v = Add(m, u) n = Identity(k) t = Add(v, n)"
    q, p = integers(body, x, {"m": mask, "k": more}, half=np.float32(0.5))
    half = SX / 2
    for row, found in zip(q.tolist(), p.tolist(), strict=True):
        steps = [n + round(m / half) for n, m in zip(row, mask.tolist(), strict=True)]
        steps[3] -= 2**31
        e = [round(math.exp(-(max(steps) - n) * half) * 2**20) for n in steps]
        assert found == [saturated(round(n * factor(1 / (sum(e) * SY)))) for n in e]


def test_a_row_that_is_masked_throughout_is_the_softmax_of_its_scores():
    x = torch.tensor([[0.37, 0.0, -0.37]])
    q, p = integers("t = Add(d, m)", x, {"m": torch.full((3,), -math.inf)})
    assert q.tolist() == [[10, 0, -10]]
    assert p.tolist() == [softmax([10, 0, -10])]


def test_what_makes_the_mask_is_in_front_and_no_float_step():
    body = "m = Where(h, zero, low) n = Unsqueeze(m, axis) t = Add(d, n)"
    source = graph(
        MASKED.format(body=body),
        "float[2, 4, 4] x, bool[2, 4] h",
        "float o",
        sx=SX,
        sy=SY,
        z=np.int8(0),
        zero=np.float32(0),
        low=np.float32(-math.inf),
        axis=np.array([1], np.int64),
    )
    report = convert(source).report
    assert [row.op for row in report.in_front] == ["Where", "Unsqueeze"]
    assert report.floats == ()
    assert report.summary == "100.0% integer, no float steps between the quantizers; not counted, as float: 2 in front"


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        padding = torch.zeros_like(padding, dtype=x.dtype).masked_fill(padding, -torch.inf)
        y = self.layer(self.quant(x), src_mask=causal, src_key_padding_mask=padding, is_causal=True)
        return self.dequant(y)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:.*high precision.*")
def test_a_transformer_layer_with_both_masks_is_integer_throughout(tmp_path: Path):
    inputs = torch.randn(3, 6, 16), torch.arange(6) >= torch.tensor([[3], [6], [5]])
    setter = TemplateQconfigSetter(get_qconfig(observer=MinMaxObserver))
    prepared = prepare(Masked().eval(), inputs, setter, save_dir=None)
    for state in ("calibration", "validation"):
        set_fake_quantize(prepared.eval(), state)
        with torch.no_grad():
            prepared(*inputs)
    integer = convert(export(prepared, inputs, path=tmp_path / "m.onnx", verify=False))
    assert only_integers(integer), integer.report
    seen = compare(prepared, integer, [inputs])
    assert seen.unmatched == ()
    assert max(layer.largest for layer in seen.layers) <= 2
    assert min(layer.equal for layer in seen.layers) > 0.95
