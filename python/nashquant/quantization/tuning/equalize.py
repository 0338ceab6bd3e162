"""Cross-layer equalization: neighbouring layers share the range of the channel between them."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nashquant.march import require_march
from nashquant.op_kind import OpKind
from nashquant.quantization.prepare.capture import capture
from nashquant.quantization.prepare.fuse import fuse
from nashquant.quantization.prepare.graph import Graph, Node, Op, Value
from nashquant.quantization.prepare.recording import Recording
from nashquant.quantization.prepare.registry import Joins

__all__ = ["equalize"]

_log = logging.getLogger("nashquant")
_ROUNDS = 30
_CLOSE = 1e-3
_DEVIATIONS = 3

# f(s * x) = s * f(x) for every s > 0, and no value leaves its channel.
_HOMOGENEOUS = frozenset(
    {
        *("relu", "leaky_relu", "prelu", "identity", "dropout", "dropout1d", "dropout2d", "dropout3d", "contiguous"),
        *(f"{pool}{n}d" for pool in ("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool") for n in "123"),
        *("flatten", "clone", "detach"),
    }
)


def equalize(
    model: nn.Module,
    example_inputs: Any,
    example_kw_inputs: dict[str, Any] | None = None,
    more_example_inputs: Sequence[Any] = (),
    *,
    absorb_biases: bool = False,
) -> nn.Module:
    """The float model with weights whose channels have like ranges; it computes the same. The model given stays.

    For two layers with nothing between them but what scales with its input (ReLU, LeakyReLU, pooling, dropout), channel
    i is divided by `s_i = sqrt(r1_i / r2_i)` in the first and multiplied by it in the second, where r1 and r2 are the
    greatest magnitudes of the channel in the two weights (the first with its batch norm folded in). Repeated over all
    such pairs until nothing moves. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
    Correction", ICCV 2019, section 4.1. To be called before `prepare`.

    With `absorb_biases` a channel that lies high above 0 is moved down, by `c = max(0, beta - 3 * gamma)` of its batch
    norm, and the second layer's bias up by what its weight makes of c (section 4.1.3): activations then have no range
    without values. That computes the same where a channel is at least c: for all but one in 700 values, if they are
    distributed normally.

    Args:
        model: float, with stubs, as `prepare` takes it.
        example_inputs: as in `prepare`: the model runs once, to see what feeds what.
        example_kw_inputs: likewise.
        more_example_inputs: likewise, for a forward that branches: layers that meet on a way that was not shown would
            no longer fit each other.
        absorb_biases: move high channels down too, where a batch norm tells what they hold and the second layer pads
            with no zeros.

    Raises:
        RuntimeError: no march was set.
        ValueError: the model does not run on the inputs or lacks stubs.
    """
    march = require_march("equalize")
    examples = [
        tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        for inputs in (example_inputs, *more_example_inputs)
    ]
    recording = capture(model, examples, dict(example_kw_inputs or {}))
    graph = fuse(recording, model, march)
    equal = copy.deepcopy(model)
    pairs = list(_pairs(graph, equal, _used_elsewhere(model, recording)))
    _log.info("nashquant: equalize found %d pair(s) of layers", len(pairs))
    with torch.no_grad():
        for _ in range(_ROUNDS):
            moved = [_equalize(pair) for pair in pairs]
            if not moved or max(moved) < _CLOSE:
                break
        for pair in pairs if absorb_biases else ():
            _absorb(pair)
    return equal


@dataclass(frozen=True)
class _Pair:
    """Two layers, and their batch norms; and whether a constant passes from one to the other as it is."""

    first: Any
    norm: Any
    second: Any
    second_norm: Any
    passes_constants: bool


def _used_elsewhere(model: nn.Module, recording: Recording) -> set[str]:
    """The modules that must stay as they are: they run outside the stubs too, or share a parameter."""
    uses = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    uses += Counter(recording.functional_parameters)
    shared = {
        path
        for path, module in model.named_modules()
        if any(uses[id(p)] > 1 for p in module._parameters.values() if p is not None)
    }
    return shared | recording.outside


def _pairs(graph: Graph, model: nn.Module, fixed: set[str]) -> Iterator[_Pair]:
    for op in graph.ops:
        if not _is_layer(op) or not all(node.joins_as(Joins.NORM) or _keeps_channels(node) for node in op.chain[1:]):
            continue
        found = _follower(graph, op)
        if found is None:
            continue
        follower, between = found
        if fixed & {node.path for node in (*op.chain, *follower.chain)}:
            continue
        pair = _Pair(
            model.get_submodule(op.first.path),
            _norm(op, model),
            model.get_submodule(follower.first.path),
            _norm(follower, model),
            all(_passes_constants(node) for node in (*op.chain[1:], *between) if not node.joins_as(Joins.NORM)),
        )
        affine = pair.norm is None or pair.norm.weight is not None
        if affine and _range(pair.first, outputs=True).numel() == _range(pair.second, outputs=False).numel():
            yield pair


def _norm(op: Op, model: nn.Module) -> Any:
    return next((model.get_submodule(node.path) for node in op.chain if node.joins_as(Joins.NORM)), None)


def _is_layer(op: Op) -> bool:
    """A module with a weight of its own that runs once."""
    return op.kind is OpKind.GEMM and op.first.site is None and len(op.calls if len(op.chain) == 1 else [op]) == 1


def _keeps_channels(node: Node) -> bool:
    return node.entry is not None and node.entry.name in _HOMOGENEOUS


def _passes_constants(node: Node) -> bool:
    """Whether `f(x + c) = f(x) + c` for x >= 0: not where an average counts padding."""
    return node.entry is not None and not node.entry.name.startswith("avg_pool")


def _follower(graph: Graph, op: Op) -> tuple[Op, list[Node]] | None:
    """The layer that alone reads what `op` gives, through nothing but what scales with its input; and what that is.

    Its input channels must lie on the axis where the output channels of `op` came to: a linear's are the last.
    """
    values, axis, between = op.outputs, _channel_axis(op.first, op.outputs), list[Node]()
    while axis is not None and len(values) == 1 and len(values[0].consumers) == 1:
        node = values[0].consumers[0]
        reader = graph.op_of(node)
        if _is_layer(reader):
            meets = node is reader.first and node.data is values[0] and axis == _channel_axis(node, values)
            return (reader, between) if meets else None
        if not _keeps_channels(node) or len(reader.calls) != 1 or len(reader.chain) > 1:
            return None
        between.append(node)
        axis = _moved(axis, node, values[0].shape)
        values = node.outputs
    return None


def _spatial(node: Node) -> int:
    """How many axes behind the channels a conv or a pool works on; those of a linear are the last."""
    last = node.entry.name[-2:] if node.entry is not None else ""
    return int(last[0]) if last in ("1d", "2d", "3d") else 0


def _channel_axis(layer: Node, values: Sequence[Value]) -> int | None:
    return len(values[0].shape) - 1 - _spatial(layer) if values else None


def _moved(axis: int, node: Node, before: Sequence[int]) -> int | None:
    """Where the channels on `axis` are behind a node; None where they were mixed with others."""
    assert node.entry is not None
    after = node.outputs[0].shape
    if "pool" in node.entry.name:
        return axis if axis < len(before) - _spatial(node) else None
    if after[: axis + 1] == before[: axis + 1]:  # flatten, of what is behind them
        return axis
    behind = len(before) - axis
    return len(after) - behind if after[-behind:] == before[-behind:] else None


def _equalize(pair: _Pair) -> float:
    """Divides and multiplies; how far from 1 the greatest factor was."""
    r1, r2 = _range(pair.first, outputs=True), _range(pair.second, outputs=False)
    if pair.norm is not None:
        r1 = r1 * (pair.norm.weight * (pair.norm.running_var + pair.norm.eps).rsqrt()).abs()
    s = torch.where((r1 > 0) & (r2 > 0), (r1 / r2).sqrt(), 1.0)
    if pair.norm is not None:
        pair.norm.weight.div_(s)
        pair.norm.bias.div_(s)
    else:
        _multiply(pair.first, 1 / s, outputs=True)
        if pair.first.bias is not None:
            pair.first.bias.div_(s)
    _multiply(pair.second, s, outputs=False)
    return float(s.log().abs().max())


def _absorb(pair: _Pair) -> None:
    """Moves what every value of a channel has at least, three deviations below its mean, into the second bias."""
    if pair.norm is None or not pair.passes_constants or not _sees_no_zeros(pair.second):
        return
    least = (pair.norm.bias - _DEVIATIONS * pair.norm.weight.abs()).clamp(min=0)
    weight = _by_channel(pair.second, outputs=False)
    shift = (weight * least.reshape(len(weight), 1, -1, 1)).sum((2, 3)).flatten()
    pair.norm.bias.sub_(least)
    if pair.second.bias is not None:
        pair.second.bias.add_(shift)
    elif pair.second_norm is not None:
        pair.second_norm.running_mean.sub_(shift)
    else:
        pair.second.bias = nn.Parameter(shift)


def _sees_no_zeros(layer: Any) -> bool:
    """Whether all outputs of a layer see as many inputs: no zeros around, as `padding` and transposed layers have."""
    if isinstance(layer, nn.Linear):
        return True
    padded = layer.padding_mode == "zeros" and layer.padding not in ("valid", (0,) * len(layer.kernel_size))
    return not layer.transposed and not padded


def _by_channel(layer: Any, outputs: bool) -> Tensor:
    """The weight as `[groups, others, channels of a group, rest]`: a view."""
    weight, groups = layer.weight, getattr(layer, "groups", 1)
    if outputs != bool(getattr(layer, "transposed", False)):  # the channels are the first axis, all groups in it
        return weight.reshape(groups, 1, len(weight) // groups, -1)  # type: ignore[no-any-return]
    return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)  # type: ignore[no-any-return]


def _range(layer: Any, outputs: bool) -> Tensor:
    """The greatest magnitude in the weight of each output or input channel."""
    return _by_channel(layer, outputs).detach().abs().amax((1, 3)).flatten()


def _multiply(layer: Any, factors: Tensor, outputs: bool) -> None:
    viewed = _by_channel(layer, outputs)
    scaled = viewed * factors.reshape(len(viewed), 1, -1, 1)
    layer.weight.copy_(scaled.reshape(layer.weight.shape))
