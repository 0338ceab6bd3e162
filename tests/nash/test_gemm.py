from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nashquant import ops
from nashquant.nash import convert

from .exact import graph, int8, landed, only_integers, onnx_runtime

SX, SY, SW = 2.0**-5, 0.07, [0.013, 0.02, 0.0071, 0.0304]


def quantized(x: Tensor, scale: float, zero: int = 0, low: int = -128, high: int = 127) -> Tensor:
    return (torch.round(x.double() / np.float32(scale)) + zero).clamp(low, high).long()


def conv_graph(attributes: str, weight: Tensor, shape: str, bias: Tensor | None, after: str = "") -> object:
    y = "z = Relu(c) y = QuantizeLinear(z, sy, zy)" if after == "relu" else "y = QuantizeLinear(c, sy, zy)"
    last = "o = DequantizeLinear(y, sy, zy)"
    operands = "d, w, bias" if bias is not None else "d, w"
    given = {} if bias is None else {"bias": bias.numpy()}
    return graph(
        "q = QuantizeLinear(x, sx, zx) d = DequantizeLinear(q, sx, zx) w = DequantizeLinear<axis = 0>(wq, sw, zw)"
        f"c = Conv<{attributes}>({operands}) {y} {last}",
        f"float{shape} x",
        "float o",
        wq=weight.numpy(),
        sw=SW[: weight.shape[0]],
        zw=np.zeros(weight.shape[0], np.int8),
        sx=SX,
        sy=SY,
        zx=np.int8(0),
        zy=np.int8(0),
        **given,
    )


@pytest.mark.parametrize(
    ("attributes", "weight", "shape", "arguments"),
    [
        ("pads = [1, 1, 1, 1]", (4, 3, 3, 3), (2, 3, 5, 5), {"padding": 1}),
        ("strides = [2, 2], dilations = [2, 1]", (4, 3, 2, 3), (1, 3, 7, 8), {"stride": 2, "dilation": (2, 1)}),
        ("group = 2", (4, 1, 3, 3), (1, 2, 5, 5), {"groups": 2}),
        ("group = 4, pads = [1, 1]", (4, 1, 3), (2, 4, 9), {"groups": 4, "padding": 1}),
        ('auto_pad = "SAME_UPPER", strides = [2]', (4, 2, 3), (1, 2, 8), {"stride": 2, "uneven": (0, 1)}),
    ],
)
@pytest.mark.parametrize("after", ["", "relu"])
def test_a_convolution_is_an_exact_sum_rounded_once(attributes, weight, shape, arguments, after):
    w, bias = int8(*weight), torch.randn(weight[0])
    model = convert(conv_graph(attributes, w, str(list(shape)), bias, after))
    x = torch.randn(shape)
    q = quantized(x, SX)
    arguments = dict(arguments)
    q = F.pad(q, arguments.pop("uneven", (0, 0)))
    conv = F.conv1d if len(weight) == 3 else F.conv2d
    acc = conv(q.double(), w.double(), **arguments).long()
    for c in range(weight[0]):
        step = np.float32(SX).astype(float) * float(np.float32(SW[c]))
        acc[:, c] += round(float(bias[c]) / step)
    expected = landed(
        acc,
        lambda c: float(np.float32(SX)) * float(np.float32(SW[c])) / float(np.float32(SY)),
        low=0 if after else -128,
    )
    assert torch.equal(model.integers(x)["y"].long(), expected)
    assert only_integers(model)


def test_integers_stay_integers_from_quantize_to_dequantize():
    model = convert(conv_graph("pads = [1, 1, 1, 1]", int8(4, 3, 3, 3), "[1, 3, 5, 5]", torch.randn(4)))
    seen: list[tuple[str, torch.dtype]] = []
    model.watch(lambda step, given, made: seen.append((step.place.value, made[0].dtype)), torch.randn(1, 3, 5, 5))
    assert seen == [("quantize", torch.int8), ("integer", torch.int8), ("dequantize", torch.float32)]


def test_a_transposed_convolution_is_exact(monkeypatch):
    w = int8(3, 2, 3, 3)
    model = convert(
        graph(
            "q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z) w = DequantizeLinear<axis = 1>(wq, sw)"
            "c = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1], group = 3>(d, w)"
            "y = QuantizeLinear(c, sy, z) o = DequantizeLinear(y, sy, z)",
            "float[1, 3, 4, 4] x",
            "float o",
            wq=w.numpy(),
            sw=[0.02, 0.01],
            sx=SX,
            sy=SY,
            z=np.int8(0),
        )
    )
    monkeypatch.setattr(ops._rust_integer, "linear", None)  # everything was made ready when it was converted
    x = torch.randn(1, 3, 4, 4)
    acc = F.conv_transpose2d(quantized(x, SX).double(), w.double(), None, 2, 1, 1, 3).long()
    scales = [float(np.float32(s)) for s in (0.02, 0.01)] * 3
    expected = landed(acc, lambda c: float(np.float32(SX)) * scales[c] / float(np.float32(SY)))
    assert torch.equal(model.integers(x)["y"].long(), expected)


@pytest.mark.parametrize("zero_points", [(0, 0, 0), (-128, 7, -30), (127, -128, 127)])
def test_two_activations_are_multiplied_with_their_zero_points(zero_points):
    za, zb, zy = zero_points
    model = convert(
        graph(
            "qa = QuantizeLinear(a, s, za) da = DequantizeLinear(qa, s, za)"
            "qb = QuantizeLinear(b, s, zb) db = DequantizeLinear(qb, s, zb)"
            "c = MatMul(da, db) y = QuantizeLinear(c, sy, zy) o = DequantizeLinear(y, sy, zy)",
            "float[2, 3, 5] a, float[2, 5, 4] b",
            "float o",
            s=SX,
            sy=0.05,
            za=np.int8(za),
            zb=np.int8(zb),
            zy=np.int8(zy),
        )
    )
    a, b = torch.randn(2, 3, 5), torch.randn(2, 5, 4)
    acc = (quantized(a, SX, za) - za) @ (quantized(b, SX, zb) - zb)
    expected = landed(acc, lambda c: float(np.float32(SX)) ** 2 / float(np.float32(0.05)), -128 - zy, 127 - zy) + zy
    assert torch.equal(model.integers(a, b)["y"].long(), expected)
    assert only_integers(model)


def unsigned(weight_zero: int) -> object:
    return graph(
        "q = QuantizeLinear(x, sx, zx) d = DequantizeLinear(q, sx, zx) w = DequantizeLinear(wq, sw, zw)"
        "b = DequantizeLinear(bq, sb) c = Conv<pads = [1, 1, 1, 1]>(d, w, b)"
        "y = QuantizeLinear(c, sy, zy) o = DequantizeLinear(y, sy, zy)",
        "float[2, 3, 6, 6] x",
        "float o",
        opset=13,
        wq=torch.randint(0, 256, (4, 3, 3, 3), dtype=torch.uint8).numpy(),
        bq=torch.randint(-900, 900, (4,), dtype=torch.int32).numpy(),
        sx=0.03,
        sw=0.011,
        sb=np.float32(0.03) * np.float32(0.011),
        sy=0.1,
        zx=np.uint8(97),
        zw=np.uint8(weight_zero),
        zy=np.uint8(141),
    )


@pytest.mark.parametrize("weight_zero", [0, 128, 255])
def test_unsigned_integers_of_other_tools_are_what_onnx_runtime_makes_of_them(weight_zero):
    model = unsigned(weight_zero)
    x = torch.randn(2, 3, 6, 6)
    (theirs,) = onnx_runtime(model, x)
    ours = convert(model)
    assert only_integers(ours)
    assert torch.allclose(ours(x), theirs, atol=1e-6)


def head(bias: bool = True) -> object:
    extra = {"bias": torch.randn(5).numpy()} if bias else {}
    return graph(
        "q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z) w = DequantizeLinear<axis = 0>(wq, sw)"
        f"o = Gemm<transB = 1, alpha = 0.5>(d, w{', bias' if bias else ''})",
        "float[n, 8] x",
        "float[n, 5] o",
        wq=int8(5, 8).numpy(),
        sw=[0.01, 0.02, 0.03, 0.04, 0.05],
        sx=SX,
        z=np.int8(0),
        **extra,
    )


def test_an_output_without_a_quantizer_is_the_accumulator_times_its_scale():
    model = head()
    x = torch.randn(3, 8)
    ours = convert(model)
    assert ours(x).dtype == torch.float32
    assert torch.allclose(ours(x), onnx_runtime(model, x)[0], atol=1e-3)  # the bias is rounded to the accumulator
    assert [step.place.value for step in ours.steps] == ["quantize", "integer", "dequantize"]


def big() -> object:
    return graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(wq, s) c = MatMul(d, w)"
        "y = QuantizeLinear(c, sy, z) o = DequantizeLinear(y, sy, z)",
        "float[n, 4] x",
        "float o",
        wq=np.full((4, 2), 32767, np.int16),
        s=1.0,
        sy=2.0**20,
        z=np.int16(0),
    )


def test_accumulators_that_leave_32_bits_are_counted_and_not_wrapped():
    model = convert(big())
    x = torch.tensor([[32767.0] * 4, [1.0] * 4])
    assert model.integers(x)["y"].tolist() == [[round(4 * 32767**2 / 2**20)] * 2, [0, 0]]
    (layer,) = model.overflows(x)
    assert model.overflows(x)[layer] == 2
    assert model.overflows(torch.ones(5, 4)) == {}


def test_a_high_precision_output_is_clamped_to_the_chips_accumulator():
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(wq, s) o = MatMul(d, w)",
        "float[n, 4] x",
        "float o",
        wq=np.full((4, 2), 32767, np.int16),
        s=1.0,
        z=np.int16(0),
    )
    assert convert(model)(torch.full((1, 4), 32767.0)).tolist() == [[2.0**31] * 2]  # 2**31 - 1 in f32; not 2**32


def test_conv_and_add_share_one_accumulator():
    w = int8(4, 4, 1, 1)
    model = convert(
        graph(
            "q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z) w = DequantizeLinear<axis = 0>(wq, sw)"
            "c = Conv(d, w) a = Add(d, c) r = Relu(a) y = QuantizeLinear(r, sy, z) o = DequantizeLinear(y, sy, z)",
            "float[1, 4, 3, 3] x",
            "float o",
            wq=w.numpy(),
            sw=SW,
            sx=SX,
            sy=SY,
            z=np.int8(0),
        )
    )
    x = torch.randn(1, 4, 3, 3)
    q = quantized(x, SX)
    acc = F.conv2d(q.double(), w.double()).long()
    scales = [float(np.float32(SX)) * float(np.float32(s)) for s in SW]
    for c in range(4):  # first to the steps of the accumulator, exactly rounded there
        acc[:, c] += landed(q[:, c], lambda _, c=c: float(np.float32(SX)) / scales[c], -(2**31), 2**31)
    expected = landed(acc, lambda c: scales[c] / float(np.float32(SY)), low=0)
    assert torch.equal(model.integers(x)["y"].long(), expected)
    assert only_integers(model)


SUMS = (
    "q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z) w = DequantizeLinear(wq, sw) a = MatMul(d, w)"
    " r = QuantizeLinear(v, sv, z) e = DequantizeLinear(r, sv, z) {body} y = QuantizeLinear(t, sy, z)"
    " o = DequantizeLinear(y, sy, z)"
)


def test_the_sum_of_two_sums_of_more_than_32_bits_does_not_wrap():
    given = {"wq": np.full((64, 2), 30_000, np.int16), "sw": 1 / 30_000, "sx": 1 / 30_000, "sv": 1 / 32_000, "sy": 0.01}
    text, x, v = SUMS.format(body="b = MatMul(e, w) t = Add(a, b)"), torch.full((1, 64), 1.0), torch.full((1, 64), 0.7)
    model = convert(graph(text, "float[1, 64] x, float[1, 64] v", "float o", z=np.int16(0), **given))  # type: ignore[arg-type]
    assert only_integers(model), model.report
    assert model.integers(x, v)["y"].tolist() == [[10_880] * 2]  # 64 · 1.7 / 0.01


@pytest.mark.parametrize("other", ["e", "c"])
def test_steps_that_are_too_fine_for_what_is_added_run_as_float(other):
    given = {"wq": np.full((4, 2), 100, np.int8), "sw": 1e-25, "sx": 0.5, "sv": 0.5, "sy": 0.25, "c": np.float32(1.5)}
    source = graph(
        SUMS.format(body=f"t = Add(a, {other})"), "float[1, 4] x, float[1, 2] v", "float o", z=np.int8(0), **given
    )  # type: ignore[arg-type]
    model, inputs = convert(source), (torch.ones(1, 4), torch.full((1, 2), 1.5))
    assert [row.op for row in model.report.floats] == ["Add"]
    assert model(*inputs).tolist() == [[1.5, 1.5]]  # type: ignore[union-attr]


def test_a_batch_norm_is_a_scale_for_each_channel_and_a_negative_gain_turns_it():
    model = graph(
        "q = QuantizeLinear(x, sx, z) d = DequantizeLinear(q, sx, z) w = DequantizeLinear<axis = 0>(wq, sw)"
        "c = Conv(d, w) n = BatchNormalization(c, gain, bias, mean, variance)"
        "y = QuantizeLinear(n, sy, z) o = DequantizeLinear(y, sy, z)",
        "float[1, 4, 3, 3] x",
        "float o",
        wq=int8(4, 4, 1, 1).numpy(),
        sw=SW,
        sx=SX,
        sy=SY,
        z=np.int8(0),
        gain=[1.0, -0.5, 0.0, 2.0],
        bias=[0.1, 0.2, 0.3, -0.4],
        mean=[0.5, 0.1, 0.0, 0.0],
        variance=[1.0, 2.0, 3.0, 0.5],
    )
    x = torch.randn(1, 4, 3, 3)
    ours = convert(model)
    assert only_integers(ours)
    difference = (ours(x) - onnx_runtime(model, x)[0]).abs() / np.float32(SY)
    assert difference.max() < 1e-3


@pytest.mark.parametrize("axis", [0, 1])
def test_a_weight_with_scales_along_the_wrong_axis_runs_as_float_and_says_so(axis):
    model = graph(
        f"q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear<axis = {axis}>(wq, sw)"
        "c = MatMul(d, w) y = QuantizeLinear(c, s, z) o = DequantizeLinear(y, s, z)",
        "float[n, 4] x",
        "float[n, 4] o",
        wq=int8(4, 4).numpy(),
        sw=[0.01, 0.02, 0.03, 0.04],
        s=0.05,
        z=np.int8(0),
    )
    ours, x = convert(model), torch.randn(3, 4)
    assert torch.allclose(ours(x), onnx_runtime(model, x)[0], atol=1e-6)
    reasons = [row.reason for row in ours.report.floats]
    assert reasons == ([] if axis == 1 else ["its weight 'w' has a scale for each index of axis 0, not 1"])


@pytest.mark.parametrize("many", [False, True])
def test_a_weight_may_be_transposed_behind_its_scales(many):
    body = (
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) v = DequantizeLinear<axis = 0>(wq, sw)"
        " w = Transpose<perm = [1, 0]>(v) y = MatMul(d, w) p = QuantizeLinear(y, sy, z) o = DequantizeLinear(p, sy, z)"
    )
    weight, scales = int8(5, 3).numpy(), np.array([0.5, 0.25, 1.0, 2.0, 0.125]) if many else 0.5
    model = graph(body, "float[4, 3] x", "float o", s=2.0**-6, z=np.int8(0), sy=4.0, wq=weight, sw=scales)
    ours, x = convert(model), torch.randn(4, 3)
    assert only_integers(ours), ours.report
    assert torch.equal(ours(x), onnx_runtime(model, x)[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("bias", [[0.5], [[0.5]], [0.5, -1, 2, 0, 3]])
def test_a_product_of_two_activations_has_a_bias_of_any_size(bias: list[float]):
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) r = QuantizeLinear(v, s, z)"
        "e = DequantizeLinear(r, s, z) y = Gemm(d, e, b) p = QuantizeLinear(y, sy, z) o = DequantizeLinear(p, sy, z)",
        "float[3, 4] x, float[4, 5] v",
        "float[3, 5] o",
        s=2.0**-6,
        sy=2.0**-4,
        z=np.int8(0),
        b=bias,
    )
    x, v = torch.randn(3, 4), torch.randn(4, 5)
    assert torch.equal(convert(model)(x, v), onnx_runtime(model, x, v)[0])


@pytest.mark.parametrize("op", ["Add(a, k)", "Sub(a, m)", "Add(e, a)"])
def test_a_sum_that_needs_more_bits_than_its_accumulator_does_not_wrap(op: str):
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(wq, s) a = Conv(d, w)"
        f"r = QuantizeLinear(v, sv, z) e = DequantizeLinear(r, sv, z) y = {op}"
        " p = QuantizeLinear(y, sy, z) o = DequantizeLinear(p, sy, z)",
        "float[1, 512, 1, 1] x, float[1, 1, 1, 1] v",
        "float o",
        wq=np.full((1, 512, 1, 1), 127, np.int8),
        s=1.0,
        sv=2.0**15,
        sy=2.0**17,
        k=[2.0**30],
        m=[-(2.0**30)],
        z=np.int16(0),
    )
    given = torch.full((1, 512, 1, 1), 32767.0), torch.full((1, 1, 1, 1), 2.0**29)
    steps = 512 * 127 * 32767 + (2**29 if "e" in op else 2**30)  # more than 2**31
    assert convert(model)(*given).item() == round(steps / 2**17) * 2**17


@pytest.mark.parametrize("op", ["Gemm<transB = 1>(d, w, b)", "Conv(d, w, b)"])
@pytest.mark.parametrize(("beyond", "dtype"), [(0, torch.int32), (1, torch.int64)])
def test_sums_are_as_narrow_as_weight_and_bias_prove(op: str, beyond: int, dtype: torch.dtype):
    weight, size = np.full((1, 3), -100, np.int8), [1, 3]
    if "Conv" in op:
        weight, size = weight.reshape(1, 3, 1, 1), [1, 3, 1, 1]
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(wq, s)"
        f"b = DequantizeLinear(bq, s) o = {op}",
        f"float{size} x",
        "float o",
        wq=weight,
        bq=np.array([2**31 - 1 - 3 * 100 * 128 + beyond], np.int32),
        s=1.0,
        z=np.int8(0),
    )
    ours, x = convert(model), torch.full(size, -128.0)
    sums: list[Tensor] = []
    ours.watch(lambda step, _, results: sums.extend(results if step.accumulators else ()), x)
    (acc,) = sums
    assert acc.dtype == dtype
    assert acc.item() == 2**31 - 1 + beyond
    assert len(ours.overflows(x)) == beyond


@pytest.mark.parametrize(
    ("power", "reasons"), [(62, []), (63, ["its bias 'b' has more than 2**62 steps of the accumulator"])]
)
def test_a_bias_that_the_sums_have_no_room_for_is_added_in_float(power: int, reasons: list[str]):
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(wq, s)"
        "y = Gemm(d, w, b) p = QuantizeLinear(y, sy, z) o = DequantizeLinear(p, sy, z)",
        "float[3, 4] x",
        "float o",
        wq=int8(4, 2).numpy(),
        b=[-(2.0**power), 2.0**power],
        s=1.0,
        sy=2.0 ** (power - 6),
        z=np.int8(0),
    )
    ours, x = convert(model), torch.randn(3, 4)
    assert [row.reason for row in ours.report.floats] == reasons
    assert ours(x).tolist() == [[-(2.0**power), 2.0**power]] * 3
