from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from nashquant import March, nash
from nashquant.nash import convert
from nashquant.quantization import hbdk4

from .exact import graph, onnx_runtime


def small(tail: str = "o = DequantizeLinear(p, s, z)") -> onnx.ModelProto:
    return graph(
        f"q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Erf(d) p = QuantizeLinear(y, s, z) {tail}",
        "float[n] x",
        "float o" if "Dequantize" in tail else "int8 o",
        s=0.01,
        z=np.int8(0),
    )


def test_a_file_a_model_and_a_graph_make_the_same(tmp_path: Path):
    model, x = small(), torch.randn(7)
    onnx.save(model, str(tmp_path / "m.onnx"))
    made = [convert(each)(x) for each in (model, tmp_path / "m.onnx", str(tmp_path / "m.onnx"), ir.from_proto(model))]
    assert all(torch.equal(each, made[0]) for each in made)
    assert torch.equal(made[0], onnx_runtime(model, x)[0])


def test_the_model_given_is_not_changed():
    model = small()
    before = model.SerializeToString()
    graph_of = ir.from_proto(model)
    convert(model)
    convert(graph_of)
    assert model.SerializeToString() == before
    assert [node.op_type for node in graph_of.graph] == [node.op_type for node in model.graph.node]


def test_the_vendors_name_leads_to_the_same():
    x = torch.randn(5)
    assert torch.equal(hbdk4.convert(small(), "nash-e")(x), convert(small())(x))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, TypeError, "convert takes an ONNX file, a model or what export gave, not int"),
        ("absent.onnx", FileNotFoundError, "there is no file 'absent.onnx'"),
    ],
)
def test_what_is_no_model_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        convert(given)


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path):
    (tmp_path / "m.onnx").write_text("no model")
    with pytest.raises(ValueError, match=r"m\.onnx' is not an ONNX file"):
        convert(tmp_path / "m.onnx")


def test_an_unknown_march_is_refused_and_a_known_one_is_kept():
    with pytest.raises(ValueError, match="march 'bayes' is unknown; nashquant knows 'nash-e'"):
        convert(small(), "bayes")
    assert convert(small(), March.NASH_P).march is March.NASH_P
    assert convert(small()).march is March.NASH_M  # the one that is set


def test_wrong_inputs_are_refused_in_plain_words():
    model = convert(small())
    with pytest.raises(ValueError, match=r"the model takes \(x\), but 2 arguments were given"):
        model(torch.zeros(1), torch.zeros(1))
    with pytest.raises(TypeError, match=r"input 'x' is list, expected a torch\.Tensor"):
        model([1.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.bfloat16])
def test_an_input_of_another_dtype_is_refused(dtype):
    with pytest.raises(TypeError, match=rf"input 'x' is {dtype}, but the model takes torch\.float32"):
        convert(small())(torch.zeros(1, dtype=dtype))


def test_it_can_be_pickled_and_copied():
    model = convert(small(), "nash-p")
    x = torch.randn(1)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert repr(again) == repr(model)
        assert torch.equal(again(x), model(x))


def test_weights_in_a_file_of_their_own_are_pickled_too(tmp_path: Path):
    body = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(wq, s) o = MatMul(d, w)"
    weight = torch.randint(-128, 128, (64, 32), dtype=torch.int8)
    source = graph(body, "float[2, 64] x", "float o", s=0.1, z=np.int8(0), wq=weight.numpy())
    onnx.save(source, tmp_path / "m.onnx", save_as_external_data=True, location="weights", size_threshold=100)
    content, x = pickle.dumps(model := convert(tmp_path / "m.onnx")), torch.randn(2, 64)
    expected = model(x)
    del model
    (tmp_path / "weights").unlink()
    assert torch.equal(pickle.loads(content)(x), expected)


def test_a_tensor_that_does_not_fit_names_the_layer():
    model = convert(
        graph(
            "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(wq, s) o = MatMul(d, w)",
            "float[n, k] x",
            "float o",
            s=0.1,
            z=np.int8(0),
            wq=np.ones((4, 2), np.int8),
        )
    )
    with pytest.raises(ValueError, match="MatMul of 'MatMul_3' failed"):
        model(torch.zeros(2, 5))


def test_integer_outputs_keep_the_type_of_the_file():
    model, x = small("o = Identity(p)"), torch.randn(9)
    found = convert(model)(x)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.int8
    assert torch.equal(found, onnx_runtime(model, x)[0])


def test_initializers_among_the_inputs_are_constants(tmp_path: Path):
    model, x = small(), torch.randn(7)
    wanted = convert(model)(x)
    for each in model.graph.initializer:  # as files of IR version 3 must have it
        shape = list(each.dims)
        model.graph.input.append(onnx.helper.make_tensor_value_info(each.name, each.data_type, shape))
    onnx.save(model, str(tmp_path / "m.onnx"))
    for source in (model, tmp_path / "m.onnx"):
        integer = convert(source)
        assert integer.inputs == ("x",)
        assert torch.equal(integer(x), wanted)


def test_what_runs_as_float_is_listed_with_its_reason():
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Det(d) v = Erf(y)"
        "p = QuantizeLinear(v, s, z) u = DequantizeLinear(p, s, z) o = Erf(u)",
        "float[2, 3, 3] x",
        "float o",
        s=0.01,
        z=np.int8(0),
    )
    integer, x = convert(model), torch.randn(2, 3, 3)
    assert [(row.op, row.reason) for row in integer.report.floats] == [
        ("Det", "it has no integer form"),
        ("Erf", "a pointwise function without a quantizer behind it, or of several values"),
    ]
    assert torch.equal(integer(x), onnx_runtime(model, x)[0])
    assert [row.op for row in integer.report.behind] == ["Erf"]
    assert integer.report.coverage == 0.0
    assert "0.0% integer, 2 float steps between the quantizers; not counted, as float: 1 behind" in str(integer.report)
    assert json.loads(json.dumps(integer.report.to_dict()))["rows"][2]["reason"] == "it has no integer form"


def test_a_float_model_is_all_float_and_runs():
    model = graph("o = Sigmoid(x)", "float[n] x", "float o")
    integer, x = convert(model), torch.randn(4)
    assert torch.equal(integer(x), onnx_runtime(model, x)[0])
    assert len(integer.report.floats) == 1


def test_shapes_are_computed_as_the_graph_says_for_any_batch():
    model = graph(
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) h = Shape<start = 0, end = 1>(d)"
        "n = Concat<axis = 0>(h, rest) y = Reshape(d, n) p = QuantizeLinear(y, s, z) o = DequantizeLinear(p, s, z)",
        "float[n, 2, 3] x",
        "float[n, 6] o",
        s=0.01,
        z=np.int8(0),
        rest=np.array([-1], np.int64),
    )
    integer = convert(model)
    assert not integer.report.floats
    for n in (1, 5):
        assert integer(torch.zeros(n, 2, 3)).shape == (n, 6)


def test_nothing_of_it_is_loaded_until_it_is_used():
    code = "import sys, nashquant.nash; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"onnx", "onnx_ir", "onnxruntime"} & set(loaded)
    assert nash.__all__
