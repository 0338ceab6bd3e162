"""Every op of the registry in a small graph: on integers throughout, and within one step of ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from nashquant.nash import convert
from nashquant.nash._registry import REGISTRY
from nashquant.nash._step import Place

from .exact import graph, only_integers, onnx_runtime

S, Z = 2.0**-6, np.int8(0)  # exact quotients: what ONNX Runtime sums in f32 is exact too
IMAGE = "[2, 4, 6, 6]"
ONE = (
    "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) {body}"
    " p = QuantizeLinear(y, sy, z) o = DequantizeLinear(p, sy, z)"
)
TWO = (
    "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) r = QuantizeLinear(v, sv, z)"
    "e = DequantizeLinear(r, sv, z) {body} p = QuantizeLinear(y, sy, z) o = DequantizeLinear(p, sy, z)"
)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


W = torch.randint(-128, 128, (4, 4, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.int8).numpy()
DENSE = W[:, :, 0, 0]
CASES: dict[str, tuple[str, str, dict[str, object]]] = {
    "Conv": ("w = DequantizeLinear(wq, s) y = Conv<pads = [1, 1, 1, 1]>(d, w)", IMAGE, {"wq": W, "sy": 1.0}),
    "ConvTranspose": ("w = DequantizeLinear(wq, s) y = ConvTranspose<strides = [2, 2]>(d, w)", IMAGE, {"wq": W}),
    "Gemm": ("w = DequantizeLinear(wq, s) y = Gemm<transB = 1>(d, w, b)", "[3, 4]", {"wq": DENSE, "b": [0.5] * 4}),
    "MatMul": ("w = DequantizeLinear(wq, s) y = MatMul(d, w)", "[2, 3, 4]", {"wq": DENSE}),
    "BatchNormalization": (
        "y = BatchNormalization(d, g, b, m, va)",
        IMAGE,
        {"g": [1.0, -1, 2, 0], "b": [0.5] * 4, "m": [0.25] * 4, "va": [1.0] * 4},
    ),
    "Relu": ("f = Relu(d) m = Reshape(f, n) y = Identity(m)", IMAGE, {"n": i64(2, -1)}),
    "Clip": ("y = Clip(d, lo, hi)", IMAGE, {"lo": np.float32(-0.4), "hi": np.float32(0.7)}),
    "AveragePool": ("y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(d)", IMAGE, {}),
    "AveragePool of edges": ("y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(d)", IMAGE, {}),
    "AveragePool with padding": (
        "y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>(d)",
        IMAGE,
        {},
    ),
    "AveragePool ceil": ("y = AveragePool<kernel_shape = [3], strides = [2], ceil_mode = 1>(d)", "[1, 2, 8]", {}),
    "GlobalAveragePool": ("y = GlobalAveragePool(d)", IMAGE, {}),
    "ReduceMean": ("y = ReduceMean<keepdims = 0>(d, n)", IMAGE, {"n": i64(1, 3)}),
    "ReduceSum": ("y = ReduceSum(d, n)", IMAGE, {"n": i64(2), "sy": 1.0}),
    "CumSum": ("y = CumSum<reverse = 1, exclusive = 1>(d, n)", IMAGE, {"n": np.int64(3), "sy": 1.0}),
    "Pad": ("y = Pad(d, n, f)", IMAGE, {"n": i64(0, 0, 1, -1, 0, 0, 2, 1), "f": np.float32(0.3)}),
    "Pad reflect": ('y = Pad<mode = "reflect">(d, n)', IMAGE, {"n": i64(0, 0, 2, 1, 0, 0, 0, 3)}),
    "Pad edge": ('y = Pad<mode = "edge">(d, n)', IMAGE, {"n": i64(0, 0, 2, 1, 0, 0, 0, 3)}),
    "Pad wrap": ('y = Pad<mode = "wrap">(d, n)', IMAGE, {"n": i64(0, 0, 2, 1, 0, 0, 0, 3)}),
    "Resize": ('y = Resize<mode = "linear">(d, , n)', IMAGE, {"n": np.array([1, 1, 2, 1.5], np.float32)}),
    "Resize nearest": (
        'y = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(d, , n)',
        IMAGE,
        {"n": np.array([1, 1, 2, 3], np.float32)},
    ),
    "Resize corners": (
        'y = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(d, , , n)',
        IMAGE,
        {"n": i64(2, 4, 11, 4)},
    ),
    "Resize cubic": (
        'y = Resize<mode = "cubic", coordinate_transformation_mode = "pytorch_half_pixel">(d, , n)',
        IMAGE,
        {"n": np.array([1, 1, 2, 2], np.float32)},
    ),
    "Einsum": ('y = Einsum<equation = "bcij,bkij->bkc">(d, e)', IMAGE, {"sy": 0.25}),
    "Einsum of a sum": ('y = Einsum<equation = "bcij->jc">(d)', IMAGE, {"sy": 0.25}),
    "Sqrt": ("a = Mul(d, d) b = ReduceSum(a, n) y = Sqrt(b)", IMAGE, {"n": i64(2)}),
    "Pow": ("a = ReduceSum(d, n) b = Pow(a, two) y = ReduceMean(b, n)", IMAGE, {"n": i64(2), "two": np.float32(2)}),
    "Pow of a half": (
        "a = Mul(d, d) b = ReduceSum(a, n) y = Pow(b, h)",
        IMAGE,
        {"n": i64(2), "h": np.float32(0.5)},
    ),
    "Reciprocal": ("a = ReduceL2(d, n) b = Reciprocal(a) y = Mul(b, d)", IMAGE, {"n": i64(2), "sy": 2.0**-7}),
    "ReduceL2": ("y = ReduceL2(d, n)", IMAGE, {"n": i64(1), "sy": 2.0**-4}),
    "ReduceL2 of a difference": ("a = Sub(d, e) y = ReduceL2(a, n)", IMAGE, {"n": i64(1), "sy": 2.0**-4}),
    "Trilu": ("y = Trilu<upper = 0>(d, n)", IMAGE, {"n": np.int64(1)}),
    "LogSoftmax": ("y = LogSoftmax<axis = 1>(d)", IMAGE, {}),
    "ReduceLogSumExp": ("y = ReduceLogSumExp<keepdims = 0>(d, n)", IMAGE, {"n": i64(1, 2)}),
    "Softmax of negatives": ("a = Neg(d) y = Softmax<axis = 1>(a)", IMAGE, {"sy": 1 / 128}),
    "Mul by constants": ("y = Mul(d, f)", "[3, 4]", {"f": np.linspace(-1, 2, 12).reshape(3, 4)}),
    "Softmax": ("y = Softmax<axis = 1>(d)", IMAGE, {"sy": 1 / 128}),
    "LayerNormalization": (
        "y = LayerNormalization<axis = -2>(d, g, b)",
        IMAGE,
        {"g": np.linspace(-1, 1, 36).reshape(6, 6), "b": np.linspace(0, 1, 36).reshape(6, 6)},
    ),
    "InstanceNormalization": (
        "y = InstanceNormalization(d, g, b)",
        IMAGE,
        {"g": [1.0, -1, 0.5, 2], "b": [0.1, 0.2, 0.3, 0.4]},
    ),
    "GroupNormalization": (
        "y = GroupNormalization<num_groups = 2>(d, g, b)",
        IMAGE,
        {"g": [1.0, -1, 0.5, 2], "b": [0.1, 0.2, 0.3, 0.4]},
    ),
    "Identity": ("y = Identity(d)", IMAGE, {}),
    "Dropout": ("y = Dropout(d)", IMAGE, {}),
    "Reshape": ("y = Reshape(d, n)", IMAGE, {"n": i64(0, -1, 3)}),
    "Flatten": ("y = Flatten<axis = 2>(d)", IMAGE, {}),
    "Squeeze": ("m = Squeeze(d, n) y = Identity(m)", "[1, 3, 1]", {"n": i64(0)}),
    "Unsqueeze": ("y = Unsqueeze(d, n)", IMAGE, {"n": i64(0, -1)}),
    "Transpose": ("y = Transpose<perm = [0, 2, 3, 1]>(d)", IMAGE, {}),
    "Slice": (
        "y = Slice(d, st, en, ax, sp)",
        IMAGE,
        {"st": i64(4, 1), "en": i64(-99, 99), "ax": i64(3, 2), "sp": i64(-2, 2)},
    ),
    "Split": (
        "y, k = Split<axis = 1>(d, n) kp = QuantizeLinear(k, s, z) ko = DequantizeLinear(kp, s, z)",
        IMAGE,
        {"n": i64(1, 3)},
    ),
    "Gather": ("y = Gather<axis = 1>(d, n)", IMAGE, {"n": np.array([[0, -1], [2, 2]])}),
    "GatherElements": ("y = GatherElements<axis = 1>(d, n)", "[2, 4]", {"n": np.array([[0, -1], [2, 2]])}),
    "GatherND": ("y = GatherND(d, n)", IMAGE, {"n": np.array([[0, 3], [1, 2]])}),
    "Expand": ("y = Expand(d, n)", "[4, 1, 6]", {"n": i64(2, 4, 3, 6)}),
    "Tile": ("y = Tile(d, n)", IMAGE, {"n": i64(1, 2, 1, 3)}),
    "DepthToSpace": ("y = DepthToSpace<blocksize = 2>(d)", IMAGE, {}),
    "DepthToSpace CRD": ('y = DepthToSpace<blocksize = 2, mode = "CRD">(d)', IMAGE, {}),
    "SpaceToDepth": ("y = SpaceToDepth<blocksize = 2>(d)", IMAGE, {}),
    "MaxPool": (
        "y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1>(d)",
        IMAGE,
        {},
    ),
    "MaxPool dilated": ("y = MaxPool<kernel_shape = [2], dilations = [3]>(d)", "[1, 2, 8]", {}),
    "GlobalMaxPool": ("y = GlobalMaxPool(d)", IMAGE, {}),
    "ReduceMax": ("y = ReduceMax<keepdims = 0>(d, n)", IMAGE, {"n": i64(1)}),
    "ReduceMin": ("y = ReduceMin(d, n)", IMAGE, {"n": i64(-1)}),
    "ScatterElements": (
        "y = ScatterElements<axis = 1>(d, n, f)",
        "[2, 4]",
        {"n": np.array([[0], [-1]]), "f": [[0.5], [-0.5]]},
    ),
    "ScatterND": ("y = ScatterND(d, n, f)", "[4, 3]", {"n": np.array([[1], [3]]), "f": [[0.5] * 3, [0.1] * 3]}),
    "Add": ("y = Add(d, e)", IMAGE, {}),
    "Sub": ("y = Sub(d, e)", IMAGE, {}),
    "Mul": ("y = Mul(d, e)", IMAGE, {}),
    "Div": ("y = Div(d, e)", IMAGE, {"sy": 1.0}),
    "Max": ("y = Max(d, e)", IMAGE, {}),
    "Min": ("y = Min(d, e)", IMAGE, {}),
    "Concat": ("y = Concat<axis = 1>(d, e)", IMAGE, {}),
    "Where": ("c = Greater(d, e) y = Where(c, e, d)", IMAGE, {}),
    "Less": ("c = Less(d, e) y = Where(c, e, d)", IMAGE, {}),
    "GreaterOrEqual": ("c = GreaterOrEqual(d, e) y = Where(c, e, d)", IMAGE, {}),
    "LessOrEqual": ("c = LessOrEqual(d, e) y = Where(c, e, d)", IMAGE, {}),
    "Equal": ("c = Equal(d, e) y = Where(c, e, d)", IMAGE, {}),
}
ELSEWHERE = {
    "ConvInteger",
    "MatMulInteger",
    "ArgMax",
    "ArgMin",
    "TopK",
    "GridSample",
    "RMSNormalization",
    "Greater",
    "Shape",
    "Size",
}


def built(name: str, zero: np.generic = Z) -> tuple[onnx.ModelProto, tuple[Tensor, ...]]:
    body, shape, given = CASES[name]
    two = "(d, e)" in body
    sizes = [int(size) for size in shape[1:-1].split(",")]
    initializers = {"s": S, "z": zero, "sy": 2.0**-5, **({"sv": 2.0**-7} if two else {}), **given}
    outputs = "float o, float ko" if "ko" in body else "float o"
    if "GroupNormalization" in body:  # ONNX does not infer its shape
        outputs = f"float{shape} o"
    inputs = f"float{shape} x, float{shape} v" if two else f"float{shape} x"
    model = graph((TWO if two else ONE).format(body=body), inputs, outputs, **initializers)  # type: ignore[arg-type]
    return model, tuple(torch.randn(sizes) for _ in range(1 + two))


def test_every_op_of_the_registry_has_a_case():
    assert {name.split()[0] for name in CASES} | ELSEWHERE == set(REGISTRY)


@pytest.mark.parametrize("zero", [Z, np.int16(0), np.uint8(128), np.uint8(77)], ids=["int8", "int16", "uint8", "77"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_integer_throughout_and_onnx_runtime_agrees(name, zero):
    model, inputs = built(name, zero)
    ours, theirs = convert(model), onnx_runtime(model, *inputs)
    assert only_integers(ours), ours.report
    outputs = ours(*inputs)
    for mine, other in zip(outputs if isinstance(outputs, tuple) else (outputs,), theirs, strict=True):
        assert mine.shape == other.shape
        steps = (mine - other).abs() / CASES[name][2].get("sy", 2.0**-5)
        assert steps.max() <= 1
        # A ninth is no number of 31 bits: a sum halfway between two steps, one in 18, is then not quite halfway.
        assert (steps == 0).float().mean() > (0.9 if name.startswith("AveragePool") else 0.97)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("mode", "antialias"), [("nearest", 0), ("linear", 0), ("cubic", 0), ("linear", 1)])
def test_a_resize_to_computed_sizes_leaves_the_batch_free(mode, antialias, batch):
    resize = f'Resize<mode = "{mode}", antialias = {antialias}>'
    sizes = "b = Shape<start = 0, end = 2>(d) m = Concat<axis = 0>(b, n)"
    given = {"s": S, "z": Z, "sy": 2.0**-5, "n": i64(15, 17)}
    free = graph(ONE.format(body=f"{sizes} y = {resize}(d, , , m)"), "float[b, 3, 10, 10] x", "float o", **given)
    given["n"] = i64(batch, 3, 15, 17)
    fixed = graph(ONE.format(body=f"y = {resize}(d, , , n)"), f"float[{batch}, 3, 10, 10] x", "float o", **given)
    x = torch.randn(batch, 3, 10, 10)
    model = convert(free)
    assert any(step.op.startswith("Resize") and step.place is Place.INTEGER for step in model.steps) is (not antialias)
    assert torch.equal(model(x), convert(fixed)(x))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_resize_by_computed_scales_is_one_by_constant_ones(mode):
    scales = "t = Cast<to = 1>(k) m = Div(f, t)"
    body = f'k = Shape(x) {scales} y = Resize<mode = "{mode}">(d, , m)'
    given = {"s": S, "z": Z, "sy": 2.0**-5}
    free = graph(ONE.format(body=body), "float[b, 3, 8, 8] x", "float o", **given, f=[2.0, 3, 16, 12])  # type: ignore[arg-type]
    body = f'y = Resize<mode = "{mode}">(d, , m)'
    fixed = graph(ONE.format(body=body), "float[2, 3, 8, 8] x", "float o", **given, m=[1.0, 1, 2, 1.5])  # type: ignore[arg-type]
    x = torch.randn(2, 3, 8, 8)
    model = convert(free)
    assert only_integers(model), model.report
    assert torch.equal(model(x), convert(fixed)(x))  # type: ignore[arg-type]


def test_a_resize_is_as_large_as_onnx_runtime_makes_it():
    given = {"s": S, "z": Z, "sy": 2.0**-5, "m": [1.0, 1, 5 / 3, 5 / 3]}  # below 5 / 3 in f32
    body = 'y = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(d, , m)'
    source, x = graph(ONE.format(body=body), "float[1, 2, 3, 3] x", "float o", **given), torch.randn(1, 2, 3, 3)  # type: ignore[arg-type]
    ours, (theirs,) = convert(source)(x), onnx_runtime(source, x)
    assert theirs.shape == (1, 2, 5, 5)
    assert torch.equal(ours, theirs)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_grid_sample_looks_where_integer_coordinates_say(mode, padding, corners):
    mode = "linear" if mode == "bilinear" else mode
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) r = QuantizeLinear(v, sv, zv)"
        "e = DequantizeLinear(r, sv, zv)"
        f'y = GridSample<mode = "{mode}", padding_mode = "{padding}", align_corners = {corners}>(d, e)'
        "p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)",
        "float[2, 3, 5, 7] x, float[2, 4, 6, 2] v",
        "float o",
        s=S,
        z=Z,
        sv=1.4 / 32768,
        zv=np.int16(0),
    )
    ours = convert(model)
    inputs = torch.randn(2, 3, 5, 7), torch.rand(2, 4, 6, 2) * 2.8 - 1.4
    assert only_integers(ours)
    steps = (ours(*inputs) - onnx_runtime(model, *inputs)[0]).abs() / S
    assert steps.max() <= 1
    assert (steps == 0).float().mean() > 0.97


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin", "TopK"])
def test_the_first_of_equals_is_chosen(op):
    body = "o = {op}<axis = 1>(d)" if op != "TopK" else "k, o = TopK<axis = 1>(d, n) l = Identity(k)"
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) " + body.format(op=op),
        "float[8, 9] x",
        "int64 o" if op != "TopK" else "int64 o, float l",
        s=0.5,
        z=Z,
        **({"n": i64(4)} if op == "TopK" else {}),
    )
    x = torch.randn(8, 9)
    found = convert(model)(x)
    found = found if isinstance(found, tuple) else (found,)
    for mine, theirs in zip(found, onnx_runtime(model, x), strict=True):
        assert torch.equal(mine, theirs)


def test_an_rms_norm_is_a_layer_norm_around_zero():
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = RMSNormalization(d, g)"
        "p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)",
        "float[3, 4, 16] x",
        "float o",
        opset=23,
        s=S,
        z=Z,
        g=np.linspace(-1, 1, 16),
    )
    ours, x = convert(model), torch.randn(3, 4, 16)
    q = (torch.round(x / S).clamp(-128, 127) * S).double()
    expected = q / (q.square().mean(-1, keepdim=True) + 1e-5).sqrt() * torch.linspace(-1, 1, 16).double()
    assert only_integers(ours)
    assert (ours(x) - torch.round(expected / S).clamp(-128, 127) * S).abs().max() <= S


@pytest.mark.parametrize("op", ["ConvInteger", "MatMulInteger"])
def test_what_takes_integers_gives_its_accumulator(op):
    shape, weight = ("[1, 2, 5, 5]", (3, 2, 3, 3)) if op == "ConvInteger" else ("[4, 6]", (6, 3))
    model = graph(
        f"o = {op}(x, w, zx, zw)",
        f"uint8{shape} x",
        "int32 o",
        w=torch.randint(0, 256, weight, dtype=torch.uint8).numpy(),
        zx=np.uint8(100),
        zw=np.uint8(3),
    )
    x = torch.randint(0, 256, [int(size) for size in shape[1:-1].split(",")], dtype=torch.uint8)
    found = convert(model)(x)
    assert isinstance(found, Tensor)
    assert found.dtype == torch.int32
    assert torch.equal(found, onnx_runtime(model, x)[0])


def test_one_constant_on_two_grids_is_two_constants():
    body = (
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
        " a = Concat<axis = 0>(d, c) b = Concat<axis = 0>(d, c)"
        " p = QuantizeLinear(a, s, z) o = DequantizeLinear(p, s, z)"
        " r = QuantizeLinear(b, sv, z) u = DequantizeLinear(r, sv, z)"
    )
    model = graph(body, "float[6] x", "float o, float u", s=S, sv=S / 4, z=Z, c=[0.25])
    ours, x = convert(model), torch.linspace(-0.25, 0.25, 6)
    assert only_integers(ours)
    assert [y[6].item() for y in ours(x)] == [0.25, 0.25]


def test_what_is_gathered_from_constant_floats_lies_on_the_grid_behind():
    body = "g = Gather(w, i) y = Reshape(g, n) p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)"
    w = np.linspace(-3, 3, 12).reshape(4, 3)
    model = graph(body, "int64[2] i", "float o", s=S, z=Z, w=w, n=i64(3, 2))
    ours, index = convert(model), torch.tensor([3, 0])
    assert only_integers(ours)
    assert ours.report.in_front == ()
    assert torch.equal(ours(index), onnx_runtime(model, index)[0])  # type: ignore[arg-type]


def test_a_constant_on_a_grid_stays_on_it_when_it_is_moved():
    body = (
        "w = DequantizeLinear(wq, s) a, b = Split<axis = 0, num_outputs = 2>(w) c = Transpose(b)"
        " q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Add(d, c)"
        " p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)"
    )
    model = graph(body, "float[4, 2] x", "float o", s=S, z=Z, wq=W[:, :, 0, 0])
    ours, x = convert(model), torch.randn(4, 2)
    assert only_integers(ours), ours.report
    assert torch.equal(ours(x), onnx_runtime(model, x)[0])  # type: ignore[arg-type]


def test_the_average_of_a_window_wholly_in_the_padding_is_zero():
    body = "y = AveragePool<kernel_shape = [1], pads = [1, 1]>(d)"
    model = convert(graph(ONE.format(body=body), "float[1, 1, 3] x", "float o", s=S, z=Z, sy=2.0**-5))
    assert torch.equal(model(torch.full((1, 1, 3), 0.5)), torch.tensor([[[0, 0.5, 0.5, 0.5, 0]]]))  # type: ignore[arg-type]
