"""Groups recorded nodes into ops: conv or linear, then batch norm, addition and ReLU, are one op on the chip."""

from __future__ import annotations

from collections import Counter

from torch import nn

from nashquant.march import March

from .graph import Graph, Node, Op, Origin
from .registry import GEMM

__all__ = ["fusable_but_shared", "fuse"]

_BATCH_NORM_OF = {
    "conv1d": nn.BatchNorm1d,
    "conv2d": nn.BatchNorm2d,
    "conv3d": nn.BatchNorm3d,
    "conv_transpose2d": nn.BatchNorm2d,
    "linear": nn.BatchNorm1d,
}


def fuse(nodes: list[Node], model: nn.Module, march: March, apart: frozenset[str] = frozenset()) -> Graph:
    """The nodes as ops of `march`. A GEMM whose path is in `apart` is not fused with an addition.

    Modules that run more than once are never fused: their calls may go different ways.
    """
    calls: dict[str, list[Node]] = {}
    for node in nodes:
        calls.setdefault(node.path if node.spec is not None else f"{node.path}#{id(node)}", []).append(node)
    shared = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    taken: dict[int, Op] = {}
    order = {id(node): index for index, node in enumerate(nodes)}
    # Later GEMMs first: where both sides of an addition are GEMMs, the other side must already be there.
    for node in sorted((n for n in nodes if n.kind == GEMM), key=lambda n: -order[id(n)]):
        if len(calls[node.path]) == 1 and id(node) not in taken:
            chain = _chain(node, calls, model, shared, node.path in apart, taken)
            if len(chain) > 1:
                op = Op(chain, chain)
                taken.update((id(member), op) for member in chain)
    ops: list[Op] = []
    for node in nodes:
        if id(node) in taken:
            if taken[id(node)].chain[-1] is node:  # an op stands where its last member ran
                ops.append(taken[id(node)])
        else:
            group = calls[node.path] if node.spec is not None else [node]
            if group[0] is node:
                ops.append(Op([node], group))
    return Graph(nodes, ops, march)


def _chain(
    gemm: Node, calls: dict[str, list[Node]], model: nn.Module, shared: Counter[int], apart: bool, taken: dict[int, Op]
) -> list[Node]:
    chain = [gemm]

    def follow(*names: str) -> Node | None:
        last = chain[-1]
        if len(last.outputs) != 1 or len(last.outputs[0].consumers) != 1:
            return None
        node = last.outputs[0].consumers[0]
        if node.spec is None or node.spec.name not in names or len(calls[node.path]) != 1 or id(node) in taken:
            return None
        return node

    norm = follow("batch_norm")
    if norm is not None and _folds(gemm, norm, model, shared):
        chain.append(norm)
    add = follow("add", "add_relu")
    if add is not None and not apart and _is_plain_addition(add):
        chain.append(add)
    relu = follow("relu", "relu6")
    if relu is not None and (chain[-1].spec is None or chain[-1].spec.name != "add_relu"):
        chain.append(relu)
    return chain


def _folds(gemm: Node, norm: Node, model: nn.Module, shared: Counter[int]) -> bool:
    """Whether a BatchNorm module is the affine map of a GEMM module's output channels."""
    if gemm.site is not None or gemm.spec is None:
        return False
    module, batch_norm = model.get_submodule(gemm.path), model.get_submodule(norm.path)
    if type(batch_norm) is not _BATCH_NORM_OF[gemm.spec.name] or batch_norm.running_mean is None:
        return False
    if gemm.spec.name == "linear" and len(gemm.outputs[0].shape) != 2:
        return False
    return all(shared[id(p)] == 1 for p in module._parameters.values() if p is not None)


def _is_plain_addition(add: Node) -> bool:
    shapes = {operand.value.shape for operand in add.operands}
    distinct = {id(operand.value) for operand in add.operands}
    in_region = all(operand.value.origin is Origin.REGION for operand in add.operands)
    return len(add.operands) == 2 and len(distinct) == 2 and len(shapes) == 1 and in_region


def fusable_but_shared(nodes: list[Node], graph: Graph) -> list[tuple[str, str]]:
    """`(path, type)` of GEMMs that a neighbour could have joined, had one of them not run more than once."""
    count = Counter(node.path for node in nodes)
    found: dict[str, str] = {}
    for node in nodes:
        if node.kind != GEMM or len(graph.op_of(node).chain) > 1:
            continue
        for consumer in (c for value in node.outputs for c in value.consumers):
            if consumer.spec is None or consumer.spec.name not in ("batch_norm", "add", "relu", "relu6"):
                continue
            if count[node.path] > 1 or count[consumer.path] > 1:
                for member in (node, consumer):
                    found[member.path] = member.label + (" (shared)" if count[member.path] > 1 else "")
    return list(found.items())
