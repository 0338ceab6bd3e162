"""Scales of a Resize, such that f32 gives the sizes that the model has.

torch multiplies in f64: 3 · 5/3 is 5. The file has 5/3 in f32, which is less, and by ONNX's rule 3
pixels become 4.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes


def keep_sizes(model: ir.Model) -> None:
    """Takes the next f32 for each constant scale of a Resize that would leave out the last element."""
    graph, changed = model.graph, False
    for node in graph:
        if node.op_type != "Resize" or len(node.inputs) < 3 or node.inputs[2] is None:
            continue
        x, scales, y = node.inputs[0], node.inputs[2].const_value, node.outputs[0]
        if scales is None or x is None or x.shape is None or y.shape is None or len(x.shape) != scales.size:
            continue
        given = scales.numpy()
        kept = np.array([_kept(*each) for each in zip(x.shape, y.shape, given, strict=True)], np.float32)
        if not np.array_equal(kept, given):
            tensor = ir.Tensor(kept, name=f"{y.name}:scales")
            value = ir.Value(name=tensor.name, type=node.inputs[2].type, shape=tensor.shape, const_value=tensor)
            graph.register_initializer(value)
            node.replace_input_with(2, value)
            changed = True
    if changed:
        passes.RemoveUnusedNodesPass()(model)


def _kept(size: object, length: object, scale: np.float32) -> np.float32:
    short = isinstance(size, int) and isinstance(length, int) and int(size * float(scale)) == length - 1
    return np.nextafter(scale, np.float32(np.inf)) if short else scale
