"""Groups recorded nodes into ops: conv or linear, then batch norm, addition and ReLU, are one op on the chip."""

from __future__ import annotations

from collections import Counter

from torch import nn

from nashquant.march import March
from nashquant.op_kind import OpKind
from nashquant.qat_mode import QATMode

from .graph import Graph, Node, Op, Origin
from .recording import Recording
from .registry import Joins

__all__ = ["fusable_but_shared", "fuse"]

_PARTS = (Joins.NORM, Joins.SUM, Joins.ACTIVATION)


def fuse(
    recording: Recording,
    model: nn.Module,
    march: March,
    apart: frozenset[str] = frozenset(),
    mode: QATMode = QATMode.FuseBN,
) -> Graph:
    """The recorded nodes as ops of `march`. A GEMM whose path is in `apart` is not fused with an addition.

    Modules that run more than once, or outside the stubs too, are never fused: their calls may go different ways.
    """
    nodes = recording.nodes
    calls: dict[str, list[Node]] = {}
    for node in nodes:
        calls.setdefault(_key(node), []).append(node)
    chains = _Chains(recording, model, calls, mode)
    # Later GEMMs first: where both sides of an addition are GEMMs, the other side must already be there.
    for node in reversed(nodes):
        if node.kind is OpKind.GEMM:
            chains.add(chains.from_gemm(node, node.path in apart))
        elif not all(value.finite for value in node.outputs):
            chains.add(chains.from_mask(node))
    ops: list[Op] = []
    for node in nodes:
        if id(node) in chains.taken:
            op = chains.taken[id(node)]
            if op.chain[-1] is node:  # an op stands where its last member ran
                ops.append(op)
        else:
            group = calls[_key(node)]
            if group[0] is node:
                ops.append(Op([node], group))
    return Graph(nodes, ops, march)


def _key(node: Node) -> str:
    """Calls of the same key are calls of one op; a function that needs no module, or is not known, is one by itself."""
    stands_alone = node.entry is None or node.path == node.owner
    return f"{node.path}#{id(node)}" if stands_alone else node.path


class _Chains:
    """Nodes that become one op."""

    def __init__(self, recording: Recording, model: nn.Module, calls: dict[str, list[Node]], mode: QATMode) -> None:
        self._recording, self._model, self._calls, self._mode = recording, model, calls, mode
        # Folding into a weight that something else uses would change that too.
        parameters = [p for module in model.modules() for p in module._parameters.values() if p is not None]
        self._uses = Counter(map(id, parameters)) + Counter(recording.functional_parameters)
        self.taken: dict[int, Op] = {}

    def add(self, chain: list[Node]) -> None:
        if len(chain) > 1:
            op = Op(chain, chain, keeps_norm=self._mode is QATMode.WithBN)
            self.taken.update((id(member), op) for member in chain)

    def from_gemm(self, gemm: Node, apart: bool) -> list[Node]:
        """conv or linear, batch norm, addition, ReLU, as far as they follow each other."""
        if not self._is_free(gemm):
            return [gemm]
        chain = [gemm]
        norm = self._follow(chain, Joins.NORM)
        if norm is not None and self._folds(gemm, norm):
            chain.append(norm)
        add = self._follow(chain, Joins.SUM)
        if add is not None and not apart and _is_plain_addition(add):
            chain.append(add)
        relu = self._follow(chain, Joins.ACTIVATION)
        if relu is not None and not chain[-1].joins_as(Joins.ACTIVATION):
            chain.append(relu)
        return chain

    def from_mask(self, mask: Node) -> list[Node]:
        """What puts -inf into attention scores, and the softmax behind it: no grid holds an infinity."""
        softmax = self._follow([mask], Joins.MASKED) if self._is_free(mask) else None
        return [mask] if softmax is None else [mask, softmax]

    def _is_free(self, node: Node) -> bool:
        alone = len(self._calls.get(node.path, ())) == 1 and self._recording.calls[node.path] <= 1
        return alone and node.path not in self._recording.outside and id(node) not in self.taken

    def _follow(self, chain: list[Node], part: Joins) -> Node | None:
        """The only consumer of a chain's output, if it can be this part of a fused op."""
        last = chain[-1]
        if len(last.outputs) != 1 or len(last.outputs[0].consumers) != 1:
            return None
        node = last.outputs[0].consumers[0]
        return node if node.joins_as(part) and self._is_free(node) else None

    def _folds(self, gemm: Node, norm: Node) -> bool:
        """Whether a BatchNorm module is the affine map of a GEMM module's output channels."""
        if gemm.site is not None or norm.site is not None or gemm.entry is None:
            return False
        module, batch_norm = self._model.get_submodule(gemm.path), self._model.get_submodule(norm.path)
        if type(batch_norm) not in (gemm.entry.norm, nn.SyncBatchNorm) or batch_norm.running_mean is None:
            return False
        if gemm.entry.name == "linear" and len(gemm.outputs[0].shape) != 2:
            return False
        return all(self._uses[id(p)] == 1 for p in module._parameters.values() if p is not None)


def _is_plain_addition(add: Node) -> bool:
    shapes = {operand.value.shape for operand in add.operands}
    distinct = {id(operand.value) for operand in add.operands}
    in_region = all(operand.value.origin is Origin.REGION for operand in add.operands)
    plain = add.keywords.get("alpha", 1) == 1
    return plain and len(add.operands) == 2 and len(distinct) == 2 and len(shapes) == 1 and in_region


def fusable_but_shared(nodes: list[Node], graph: Graph) -> list[tuple[str, str]]:
    """`(path, type)` of GEMMs that a neighbour could have joined, had one of them not run more than once."""
    count = Counter(node.path for node in nodes)
    found: dict[str, str] = {}
    for node in nodes:
        if node.kind is not OpKind.GEMM or len(graph.op_of(node).chain) > 1:
            continue
        for consumer in (c for value in node.outputs for c in value.consumers):
            if not any(map(consumer.joins_as, _PARTS)):
                continue
            if count[node.path] > 1 or count[consumer.path] > 1:
                for member in (node, consumer):
                    found[member.path] = member.label + (" (shared)" if count[member.path] > 1 else "")
    return list(found.items())
