"""The dtypes of the nodes, the integers of the weights, and what a model consists of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper
from tests.nash.exact import graph

from nashquant import qdq
from nashquant.quantization.hbdk4 import ExportedModel


def test_quant_config_names_what_differs_from_the_commonest(exported: ExportedModel, tmp_path: Path) -> None:
    config = json.loads(exported.save_quant_config(tmp_path / "q.json").read_text())
    assert config["model_config"] == {"all_node_type": "int16"}
    # The head has int16 activations and int8 weights, which is what int16 means for a GEMM.
    assert config["node_config"] == {"conv/Conv": {"qtype": "int8"}}
    names = {node.name for node in onnx.load(str(exported.save_plain(tmp_path / "plain.onnx"))).graph.node}
    assert set(config["node_config"]) <= names


def test_quant_config_names_each_input_where_they_differ(tmp_path: Path) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    net (int8[2, 2] a, int16[2, 2] b) => (float[2, 2] y, float[2, 2] z, float[2, 2] v)
    <float s = {0.5}>
    {
      x = DequantizeLinear(a, s)
      w = DequantizeLinear(b, s)
      [mixed] y = MatMul(x, w)
      [both] z = MatMul(w, w)
      [small] v = MatMul(x, x)
    }
    """
    onnx.save(onnx.parser.parse_model(text), str(tmp_path / "m.onnx"))
    assert qdq.quant_config(qdq.read(tmp_path / "m.onnx")) == {
        "model_config": {"all_node_type": "int8"},
        "node_config": {
            "mixed": {"input0": "int8", "input1": "int16"},
            "both": {"input0": "int16", "input1": "int16"},
        },
    }


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_integers_are_those_of_the_file(name: str, exported: ExportedModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    path = exported.save_integers(tmp_path / name)
    found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    stored = {each.name: numpy_helper.to_array(each) for each in exported.model.graph.initializer}
    assert set(found) == {key for key, array in stored.items() if array.dtype != np.int64}
    for key, tensor in found.items():
        assert tensor.shape == stored[key].shape
        assert np.array_equal(tensor.numpy(), stored[key]), key
    assert found["conv.weight"].dtype == torch.int8
    # Integers times scales are the weights that the model computes with.
    conv = exported._origin.model.get_submodule("conv")
    floats = found["conv.weight"] * found["conv.weight_fake_quant.scale"].reshape(-1, 1, 1, 1)
    assert torch.equal(floats, conv.weight_fake_quant(conv.weight))


def test_what_decodes_the_outputs_is_no_high_precision() -> None:
    body = (
        "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) w = DequantizeLinear(wq, s) g = MatMul(d, w)"
        " b = Add(g, c) r = Reshape(b, n) e = Sigmoid(r) o = Reshape(e, n)"
    )
    given = {"s": 0.1, "z": np.int8(0), "wq": np.ones((4, 2), np.int8), "c": [0.5, 1.0], "n": np.array([-1], np.int64)}
    found = qdq.summary(ir.from_proto(graph(body, "float[3, 4] x", "float o", **given)))  # type: ignore[arg-type]
    rows = {row.op_type: (row.quantized, row.high_precision, row.floating) for row in found.ops}
    assert rows == {"MatMul": (0, 1, 0), "Add": (0, 1, 0), "Reshape": (0, 1, 1), "Sigmoid": (0, 0, 1)}
    assert found.coverage == pytest.approx(3 / 5)


def test_a_summary_tells_what_computes_in_what(foreign: Path, exported: ExportedModel) -> None:
    found = qdq.summary(qdq.read(foreign))
    rows = {row.op_type: (row.quantized, row.high_precision, row.floating) for row in found.ops}
    assert rows == {
        "Gemm": (1, 0, 0),
        "Relu": (0, 1, 0),
        "Erf": (0, 0, 1),
        "ReduceSum": (0, 0, 1),
        "Add": (0, 0, 1),  # one of its operands is float
    }
    assert found.floating == ("erf", "sum", "add")
    assert found.coverage == pytest.approx(2 / 5)
    assert [str(grid) for grid in found.grids] == [
        "uint8 · 0.5", "uint8 · 0.25", "int16 · 0.125", "int8 · 0.007812", "int8 · 0.25…2 on axis 0",
    ]  # fmt: skip
    ours = qdq.summary(qdq.read(exported.path))
    assert (ours.coverage, ours.floating) == (1.0, ())
    dtypes = {row.op_type: dict(row.dtypes) for row in ours.ops}
    assert dtypes["Conv"] == {"int8 × int8": 1}
    assert dtypes["Gemm"] == {"int16 × int8": 1}


def test_scales_for_blocks_are_refused(tmp_path: Path) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    net (float[4] x) => (float[4] y)
    <int8[4] w = {1, 2, 3, 4}, float[2] s = {0.5, 0.25}>
    { [d] w_d = DequantizeLinear<axis = 0, block_size = 2>(w, s)  y = Add(x, w_d) }
    """
    onnx.save(onnx.parser.parse_model(text), str(tmp_path / "m.onnx"))
    with pytest.raises(ValueError, match="'d' has a scale for each block, not for the tensor or a channel"):
        qdq.summary(qdq.read(tmp_path / "m.onnx"))
