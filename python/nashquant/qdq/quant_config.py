"""Which node computes in which integers, as the vendor's ONNX front end (HMCT) is told."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from .grids import grids

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["quant_config"]

_GEMM = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def quant_config(model: ir.Model) -> dict[str, Any]:
    """What is to be written as JSON beside the float model: the commonest dtype for all, and each node that differs.

    `model_config.all_node_type`, and `node_config` by the name of the node: `{"qtype": "int16"}` where all its inputs
    are the same, else each input, `{"input0": "int16", "input1": "int8"}`. As the public guide does it, int16 for a
    GEMM means int16 activations and int8 weights; where both are int16, both inputs are named. A node none of whose
    inputs is on a grid (a ReLU behind the conv it is fused with) is not mentioned.

    Only what is public is written: the keys above, from the "HMCT Cosine Similarity" tuning guide for the RDK S series
    (D-Robotics, Apache-2.0). No key for scales is public: the front end calibrates anew, with these dtypes.

    Raises:
        ValueError: the model has scales for blocks.
    """
    by_value = {grid.dequantize.outputs[0]: grid for grid in grids(model.graph) if not grid.bias}
    dtypes: dict[str, dict[str, str]] = {}
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") or not node.name:
            continue
        inputs = {i: by_value[value] for i, value in enumerate(node.inputs) if value in by_value}
        if not inputs:
            continue
        each = {f"input{i}": grid.dtype for i, grid in inputs.items()}
        if node.op_type in _GEMM and each == {"input0": "int16", "input1": "int8"} and inputs[1].weight:
            each = {"qtype": "int16"}
        elif len(set(each.values())) == 1 and not (node.op_type in _GEMM and "int16" in each.values()):
            each = {"qtype": inputs[min(inputs)].dtype}
        dtypes[node.name] = each
    counts = Counter(each["qtype"] for each in dtypes.values() if "qtype" in each)
    commonest = counts.most_common(1)[0][0] if counts else "int8"
    differing = {name: each for name, each in dtypes.items() if each != {"qtype": commonest}}
    return {"model_config": {"all_node_type": commonest}, "node_config": differing}
