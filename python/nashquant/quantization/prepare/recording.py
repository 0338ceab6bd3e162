"""What the runs of a model showed: plain data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .call_site import CallSite
from .graph import Node

__all__ = ["Recording", "Site"]


@dataclass
class Site:
    """What was seen of one functional call.

    Attributes:
        path: the module that will hold its quantizers; None: it runs as it is; "": in parts, which have sites.
        in_region: whether it met quantized tensors.
        outside: whether it (also) ran without any.
    """

    path: str | None = None
    in_region: bool = False
    outside: bool = False


@dataclass(frozen=True)
class Recording:
    """One run of a model, or several.

    Attributes:
        nodes: the ops between QuantStub and DeQuantStub, in the order they ran; what ran alike in several runs, once.
        calls: how often each registered module ran, wherever it stands, in the run where that was most.
        sites: (owner, call site) -> each call of a function that the registry redirects, quantized or not.
        outside: paths of modules that ran without a quantized tensor.
        functional_parameters: ids of the parameters that functions took as operands.
        lost: DeQuantStubs that got a tensor which was not seen to come from a QuantStub.
    """

    nodes: list[Node]
    calls: Counter[str]
    sites: dict[tuple[str, CallSite], Site]
    outside: frozenset[str]
    functional_parameters: frozenset[int]
    lost: tuple[str, ...]
