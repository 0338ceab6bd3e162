"""The float model behind a QDQ model, and the encodings that make the QDQ model of it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from nashquant import qdq
from nashquant.quantization.hbdk4 import ExportedModel


def run(model: onnx.ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


def quantized(model: onnx.ModelProto, encodings: dict[str, Any]) -> onnx.ModelProto:
    """`model` with a pair behind each tensor that `encodings` names: what a reader of such a file does."""
    graph = model.graph
    for entry in encodings["encodings"] if encodings["version"] == "2.0.0" else _renamed(encodings):
        name, dtype = entry["name"], getattr(TensorProto, entry["output_dtype"].upper())
        scale = np.array(entry["y_scale"], np.float32)
        zero = np.broadcast_to(np.array(entry.get("y_zero_point", 0)), scale.shape)
        axis = {"axis": entry["axis"]} if "axis" in entry else {}
        for node in graph.node:
            node.input[:] = [f"{name}/y" if each == name else each for each in node.input]
        at = next((i + 1 for i, node in enumerate(graph.node) if name in node.output), 0)
        own, is_output = name, name in [each.name for each in graph.output]
        if is_output:
            graph.node[at - 1].output[:] = [f"{name}/x" if each == name else each for each in graph.node[at - 1].output]
            own = f"{name}/x"
        given = name if is_output else f"{name}/y"
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}/s"))
        graph.initializer.append(helper.make_tensor(f"{name}/z", dtype, scale.shape, zero.reshape(-1).tolist()))
        inputs = [f"{name}/s", f"{name}/z"]
        pair = [
            helper.make_node("QuantizeLinear", [own, *inputs], [f"{name}/q"], **axis),
            helper.make_node("DequantizeLinear", [f"{name}/q", *inputs], [given], **axis),
        ]
        if is_output:
            for node in graph.node:
                node.input[:] = [given if each == f"{name}/y" else each for each in node.input]
        nodes = [*graph.node[:at], *pair, *graph.node[at:]]
        del graph.node[:]
        graph.node.extend(nodes)
    return model


def _renamed(encodings: dict[str, Any]) -> list[dict[str, Any]]:
    """Version 1.0.0 in the words of 2.0.0: `least value = offset * scale`."""
    found = []
    for entry in [*encodings["activation_encodings"], *encodings["param_encodings"]]:
        # A symmetric one is signed. One that is not may be either, and the offset is read as that of uint8.
        qmin = -(2 ** (entry["bw"] - 1)) if entry["is_sym"] else 0
        one = entry["enc_type"] == "PER_TENSOR"
        zero = [qmin - offset for offset in entry["offset"]]
        found.append(
            {
                "name": entry["name"],
                "output_dtype": f"{'' if entry['is_sym'] else 'u'}int{entry['bw']}",
                "y_scale": entry["scale"][0] if one else entry["scale"],
                "y_zero_point": zero[0] if one else zero,
                **({} if one else {"axis": 0}),
            }
        )
    return found


@pytest.mark.parametrize("version", ["2.0.0", "1.0.0"])
def test_a_foreign_model_is_its_float_model_and_its_encodings(foreign: Path, version: str) -> None:
    plain = qdq.plain(qdq.read(foreign))
    proto = ir.to_proto(plain.model)
    onnx.checker.check_model(proto, full_check=True)
    assert {"QuantizeLinear", "DequantizeLinear"}.isdisjoint(node.op_type for node in proto.graph.node)
    x = np.random.default_rng(0).normal(0, 3, (4, 2)).astype(np.float32)
    again = quantized(proto, json.loads(json.dumps(qdq.encodings(plain, version))))
    for got, wanted in zip(run(again, x), run(onnx.load(str(foreign)), x), strict=True):
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize("version", ["2.0.0", "1.0.0"])
def test_our_model_is_its_float_model_and_its_encodings(exported: ExportedModel, version: str, tmp_path: Path) -> None:
    proto = onnx.load(str(exported.save_plain(tmp_path / "plain.onnx")))
    encodings = json.loads(exported.save_encodings(tmp_path / "e.json", version).read_text())
    x = torch.randn(2, 2, 5, 5)
    (got,) = run(quantized(proto, encodings), x.numpy())
    assert np.array_equal(got, exported.run(x)[0].numpy())


def test_a_tensor_on_two_grids_passes_an_identity(foreign: Path) -> None:
    plain = qdq.plain(qdq.read(foreign))
    assert {name: grid.dtype for name, grid in plain.activations.items()} == {
        "x": "uint8",
        "h": "uint8",
        "h_d.grid": "int16",
        "z": "int8",
    }
    assert [node.name for node in plain.model.graph] == ["gemm", "h_d/Identity", "relu", "erf", "sum", "add"]
    assert plain.weights["w"].axis == 0
    floats = plain.model.graph.initializers["w"].const_value
    assert floats is not None
    assert floats.numpy().tolist() == [[0.5, -1.0], [0.75, -1.0], [10.0, 254.0]]


def test_a_weight_that_is_used_twice_is_there_once(tmp_path: Path) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]> net (float[2, 2] x) => (float[2, 2] y)
    <int8[2, 2] w = {1, 2, 3, 4}, float s = {0.5}>
    { a = DequantizeLinear(w, s)  b = DequantizeLinear(w, s)  h = MatMul(x, a)  y = MatMul(h, b) }
    """
    onnx.save(onnx.parser.parse_model(text), str(tmp_path / "m.onnx"))
    plain = qdq.plain(qdq.read(tmp_path / "m.onnx"))
    assert list(plain.weights) == list(plain.model.graph.initializers) == ["w"]
    x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    (y,) = run(ir.to_proto(plain.model), x)
    w = np.array([[0.5, 1.0], [1.5, 2.0]], np.float32)
    assert np.array_equal(y, x @ w @ w)


def test_the_model_given_is_not_changed(foreign: Path) -> None:
    model = qdq.read(foreign)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    qdq.plain(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_an_entry_of_each_kind_as_the_specification_writes_it(foreign: Path) -> None:
    plain = qdq.plain(qdq.read(foreign))
    second = {entry.pop("name"): entry for entry in qdq.encodings(plain)["encodings"]}
    assert second["x"] == {"output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 3}
    assert second["w"] == {"output_dtype": "int8", "y_scale": [0.5, 0.25, 2.0], "axis": 0}
    first = qdq.encodings(plain, "1.0.0")
    assert first["activation_encodings"][0] == {
        "name": "x", "enc_type": "PER_TENSOR", "dtype": "INT", "bw": 8, "is_sym": False, "scale": [0.5], "offset": [-3],
    }  # fmt: skip
    assert first["param_encodings"] == [
        {
            "name": "w", "enc_type": "PER_CHANNEL", "dtype": "INT", "bw": 8, "is_sym": True,
            "scale": [0.5, 0.25, 2.0], "offset": [-128, -128, -128],
        }
    ]  # fmt: skip
    assert (first["version"], first["excluded_layers"], first["quantizer_args"]["activation_bitwidth"]) == (
        "1.0.0",
        [],
        16,
    )


def test_what_cannot_be_written_is_refused(foreign: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encodings of version '0\.6\.1' are not known, only 2\.0\.0 and 1\.0\.0"):
        qdq.encodings(qdq.plain(qdq.read(foreign)), "0.6.1")
    text = '<ir_version: 10, opset_import: ["" : 21]> net (float[2] x) => (float[2] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), str(tmp_path / "float.onnx"))
    with pytest.raises(ValueError, match="so nothing in it is quantized"):
        qdq.plain(qdq.read(tmp_path / "float.onnx"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        qdq.read(tmp_path / "no.onnx")
    with pytest.raises(ValueError, match="is not an ONNX file"):
        qdq.read(Path(__file__))
