"""Where the boxes of a picture go: layers from top to bottom, as few crossings as a few sweeps give."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Layout", "layout"]

SWEEPS = 8


@dataclass(frozen=True)
class Layout:
    """Positions in a plane whose unit is a box and its gap.

    Attributes:
        boxes: where each box is: x, and its layer.
        ways: for each edge the points it passes, from its first box to its second.
    """

    boxes: Mapping[Hashable, tuple[float, int]]
    ways: Mapping[tuple[Hashable, Hashable], tuple[tuple[float, int], ...]]


def layout(boxes: Sequence[Hashable], edges: Sequence[tuple[Hashable, Hashable]]) -> Layout:
    """Lays out `boxes`, which come in the order they run; `edges` lead from earlier to later ones.

    A box lies one layer below the lowest it reads from. An edge over several layers gets a place in each of them, so
    that it passes beside the boxes there.

    >>> layout("abc", [("a", "b"), ("b", "c"), ("a", "c")]).boxes["c"]
    (0.0, 2)
    """
    depth: dict[Hashable, int] = {}
    for box in boxes:
        depth[box] = max((depth[first] + 1 for first, second in edges if second == box), default=0)
    ways = {edge: _places(edge, depth) for edge in edges}
    links = [link for way in ways.values() for link in pairwise(way)]
    layers: list[list[Hashable]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for box in boxes:
        layers[depth[box]].append(box)
    for (first, _), way in ways.items():
        for i, place in enumerate(way[1:-1]):
            layers[depth[first] + 1 + i].append(place)
    x = _ordered(layers, links)
    layer_of = {place: i for i, layer in enumerate(layers) for place in layer}
    return Layout(
        {box: (x[box], depth[box]) for box in boxes},
        {edge: tuple((x[place], layer_of[place]) for place in way) for edge, way in ways.items()},
    )


def _places(edge: tuple[Hashable, Hashable], depth: Mapping[Hashable, int]) -> list[Hashable]:
    first, second = edge
    between = range(depth[first] + 1, depth[second])
    return [first, *((edge, layer) for layer in between), second]


def _ordered(layers: list[list[Hashable]], links: Sequence[tuple[Hashable, Hashable]]) -> dict[Hashable, float]:
    """An x for each place: in each layer at least 1 apart, as near to the mean of its neighbours as that allows."""
    above: dict[Hashable, list[Hashable]] = {}
    below: dict[Hashable, list[Hashable]] = {}
    for first, second in links:
        above.setdefault(second, []).append(first)
        below.setdefault(first, []).append(second)
    x = {place: i - (len(layer) - 1) / 2 for layer in layers for i, place in enumerate(layer)}
    for sweep in range(SWEEPS):
        near, order = (above, layers) if sweep % 2 == 0 else (below, layers[::-1])
        for layer in order:
            wanted = {place: _mean([x[other] for other in near.get(place, [])], x[place]) for place in layer}
            layer.sort(key=wanted.__getitem__)
            spread = _apart([wanted[place] for place in layer])
            x.update(zip(layer, spread, strict=True))
    return x


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _apart(wanted: Sequence[float]) -> list[float]:
    """Ascending `wanted` moved to be at least 1 apart, by as little as two passes find."""
    right = list(wanted)
    for i in range(1, len(right)):
        right[i] = max(right[i], right[i - 1] + 1)
    shift = _mean([w - r for w, r in zip(wanted, right, strict=True)], 0.0)
    return [r + shift for r in right]
