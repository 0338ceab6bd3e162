"""The ops of a prepared model, through export, on integers: each call of the op registry's examples."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor

from nashquant.nash import convert
from nashquant.op_kind import OpKind

from .examples import CALLS, Example
from .test_export import NOT_COMPARED, exported

INTEGER = (
    *("conv1d", "conv2d", "conv_transpose2d", "linear", "matmul", "bmm", "add", "sub", "mul", "div", "relu", "relu6"),
    *("clamp", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "mean", "sum", "cat", "split", "getitem", "reshape"),
    *("transpose", "pad", "interpolate", "grid_sample", "softmax", "layer_norm", "sigmoid", "tanh", "gelu", "silu"),
    *("log_softmax", "softmin", "logsumexp", "normalize", "norm", "var", "std", "cosine_similarity"),
    *("pairwise_distance", "einsum", "addmm", "baddbmm", "addbmm", "tril", "triu", "trace"),
    *("exp", "rsqrt", "argmax", "topk", "gather", "embedding", "prelu", "where", "maximum", "setitem"),
    *("stack", "hstack", "vstack", "dstack", "column_stack"),
)
pytestmark = pytest.mark.filterwarnings("ignore:exporting .* quantizers whose scale was never set")


def compared(calls: dict[str, Example], path: Path) -> tuple[list[str], list[float]]:
    """The ops that run as float; for each output, its largest difference from ONNX Runtime in its own int8 steps."""
    model = exported(calls, path).model
    session = onnxruntime.InferenceSession(str(path), options(), providers=["CPUExecutionProvider"])
    inputs = [x for example in calls.values() for x in example.inputs()]
    names = [value.name for value in model.graph.input]
    integer = convert(model)
    given = [x for name, x in zip(names, inputs, strict=True) if name in integer.inputs]
    ours = integer(*given)
    ours = ours if isinstance(ours, (tuple, list)) else (ours,)
    worst = []
    arrays = session.run(None, {name: x.numpy() for name, x in zip(integer.inputs, given, strict=True)})
    for mine, theirs in zip(ours, map(torch.from_numpy, arrays), strict=True):
        assert mine.shape == theirs.shape
        worst.append(_steps(mine, theirs))
    return [row.op for row in integer.report.floats], worst


def options() -> onnxruntime.SessionOptions:
    made = onnxruntime.SessionOptions()
    made.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return made


def _steps(mine: Tensor, theirs: Tensor) -> float:
    if not mine.numel():
        return 0.0
    step = float(theirs.abs().max()) / 127.5 if theirs.is_floating_point() else 1.0
    return float((mine.double() - theirs.double()).abs().max()) / max(step, 2.0**-20)


def test_what_networks_are_made_of_is_integer_throughout(tmp_path: Path):
    floats, worst = compared({name: CALLS[name][1] for name in INTEGER}, tmp_path / "m.onnx")
    assert floats == []
    assert max(worst) <= 1.05  # one step of the quantizer, whose range is that of the output before rounding


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in OpKind if kind not in (OpKind.QUANT, OpKind.DEQUANT)], ids=str)
def test_every_op_of_the_registry_computes_what_onnx_runtime_does(kind, tmp_path: Path):
    calls = {
        name: example
        for name, (entry, example) in CALLS.items()
        if entry.kind is kind and not entry.no_onnx and entry.name not in NOT_COMPARED
    }
    _, worst = compared(calls, tmp_path / "m.onnx")
    assert max(worst) <= 2
