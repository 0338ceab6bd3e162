"""One line of the report: a piece of work, who does it, and what we promised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


def same_bits(ours: Any, theirs: Any) -> None:
    """Asserts that two tensors, or tuples of them, are equal in dtype, shape and every value.

    That is every bit but the sign of zero: torch leaves -0.0 where numerics.md asks for 0.0.
    """
    if isinstance(ours, Tensor):
        assert ours.dtype == theirs.dtype, f"ours is {ours.dtype}, theirs {theirs.dtype}"
        assert ours.shape == theirs.shape, f"ours has shape {tuple(ours.shape)}, theirs {tuple(theirs.shape)}"
        differing = int((ours != theirs).sum())
        assert differing == 0, f"{differing} of {ours.numel()} elements differ"
        return
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        same_bits(one, other)


@dataclass(frozen=True)
class Rival:
    """Another way to do the work. `agrees` asserts what the two results must have in common; None: nothing."""

    name: str
    run: Callable[[], Any]
    agrees: Callable[[Any, Any], None] | None = same_bits
    note: str = ""


@dataclass(frozen=True)
class Row:
    """`floors` maps a rival's name to how many times its time ours must fit into; `copy_floor` is a share of it."""

    work: str
    what: str
    size: str
    elements: int
    ours: Callable[[], Any]
    rivals: tuple[Rival, ...]
    floors: Mapping[str, float] = field(default_factory=dict)
    bytes_moved: int | None = None
    pace: Callable[[], Any] | None = None
    pace_bytes: int | None = None
    pace_name: str = "copy"
    pace_floor: float | None = None
    note: str = ""
    at_two_threads: bool = True

    def check(self) -> None:
        """Runs everybody once; asserts that the results agree."""
        ours = self.ours()
        for rival in self.rivals:
            theirs = rival.run()
            if rival.agrees is not None:
                rival.agrees(ours, theirs)
        if self.pace is not None:
            self.pace()
