"""One running forward of a module that owns recorded calls, and where each of them goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from sys import _getframe
from types import CodeType
from typing import Any

from torch import nn

from .call_site import BORDER, CallSite, Position, call_site, codes_from, is_deeper
from .dynamic import Passes

__all__ = ["CompiledScope", "Redirection", "Redirections", "Scope", "redirections"]


@dataclass(frozen=True, slots=True)
class Redirection:
    """Where a recorded call goes.

    Attributes:
        module: name of the child of the call's owner; None: the call runs as it is; "": a composite, whose parts go
            to their own modules.
        in_region: whether it met quantized tensors when it was recorded.
        writes_back: whether the call was in place and must change its first operand too.
    """

    module: str | None
    in_region: bool
    writes_back: bool


class _Place:
    """One op at one position. `ways`: where its first, second, ... pass in a forward goes."""

    __slots__ = ("codes", "ways")

    def __init__(self, ways: list[Redirection]) -> None:
        self.ways = ways
        self.codes: list[CodeType] = []  # while a code object lives, its id is its own


_MOST_PLACES = 10_000  # a forward that makes functions as it runs shows a new code object each time


class Redirections(dict[CallSite, Redirection]):
    """The recorded calls of a module's own forward.

    To look up a `CallSite` takes longer than the arithmetic of a small tensor. So what was found is kept in
    `by_frames`, under what is quickly told of the running frames; these are of one process, and not copied or pickled.

    Attributes:
        path: the module's, in the model.
    """

    def __init__(self, calls: Mapping[CallSite, Redirection] | None = None, path: str = "") -> None:
        super().__init__(calls or {})
        self.path = path
        self.by_frames: dict[Any, _Place] = {}
        self._by_position: dict[tuple[str, Position], _Place] = {}

    def __reduce__(self) -> Any:
        return type(self), (dict(self), self.path)

    def __setitem__(self, call: CallSite, to: Redirection) -> None:
        self._forget()
        super().__setitem__(call, to)

    def _forget(self) -> None:
        self.by_frames.clear()
        self._by_position.clear()

    def meet(self, frames: Any, op: str, position: Position, codes: Iterable[CodeType]) -> _Place:
        """The place of `op` at `position`, to be found in `by_frames` from now on."""
        if len(self.by_frames) >= _MOST_PLACES:
            self._forget()
        place = self._by_position.get((op, position))
        if place is None:
            ways: list[Redirection] = []
            while (to := self.get(CallSite(op, position, len(ways)))) is not None:
                ways.append(to)
            place = self._by_position[op, position] = _Place(ways)
        place.codes.extend(codes)
        self.by_frames[frames] = place
        return place


class Scope(Passes):
    """One running forward of a prepared module.

    Attributes:
        owner: the module.
        children: its submodules, by name.
    """

    __slots__ = ("_by_frames", "_passed", "_table", "children", "owner")

    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        self.owner, self.children = owner, owner._modules
        self._table = redirections(owner)
        self._by_frames = self._table.by_frames
        self._passed: dict[_Place, int] = {}

    def find(self, op: str, above: int) -> Redirection | None:
        """Where a call of `op` goes; None if it was not recorded. It is made `above` frames above the caller."""
        frame: Any = _getframe(above + 1)
        frames: Any = op
        while frame is not None and (code := frame.f_code) is not BORDER:
            frames = (frames, id(code), frame.f_lasti)
            frame = frame.f_back
        place = self._by_frames.get(frames)
        if place is None:
            place = self._table.meet(frames, op, call_site(above + 1), codes_from(_getframe(above + 1)))
        passed = self._passed
        repeat = passed.get(place, 0)
        passed[place] = repeat + self.step
        ways = place.ways
        return ways[repeat] if repeat < len(ways) else None

    def times_recorded(self, op: str, above: int) -> int:
        """How often the call of `op`, made `above` frames above the caller, ran in one forward when recorded."""
        position = call_site(above + 1)
        return sum(site.op == op and site.position == position for site in self._table)

    def goes_deeper(self, op: str, above: int) -> bool:
        """Whether a recorded call of `op` is made `above` frames above the caller, but deeper in a recursion."""
        position = call_site(above + 1)
        return any(site.op == op and is_deeper(position, site.position) for site in self._table)

    def files_gone(self, above: int) -> list[str]:
        """The files its calls were recorded in and that are there no more, while a call `above` frames above the caller
        comes from one of that name elsewhere, or is one of theirs but for its file. (The cells of a notebook never were
        files, and each has its own name.)
        """
        position = call_site(above + 1)
        recorded = {Path(file) for site in self._table for file, *_ in site.position}
        names = {Path(file).name for file, *_ in position if Path(file) not in recorded}
        renamed = {
            Path(file)
            for site in self._table
            if [rest for _, *rest in site.position] == [rest for _, *rest in position]
            for file, *_ in site.position
        }
        return sorted(str(f) for f in recorded if (f.name in names or f in renamed) and not f.exists())


class CompiledScope(Passes):
    """One forward as a compiler reads it: there are no frames to look at, so calls are known by their order."""

    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        self.owner, self.children = owner, owner._modules
        self._table = redirections(owner)
        self._passed: dict[str, int] = {}

    def find(self, op: str, above: int) -> Redirection | None:
        """Where the next call of `op` goes; None if fewer were recorded."""
        repeat = self._passed.get(op, 0)
        self._passed[op] = repeat + 1
        sites = [site for site in self._table if site.op == op]
        return self._table[sites[repeat]] if repeat < len(sites) else None

    def times_recorded(self, op: str, above: int) -> int:
        """How often a call of `op` ran in one forward when recorded."""
        return sum(site.op == op for site in self._table)

    def miscounted(self) -> str:
        """How the numbers of calls differ from those recorded; "" if they don't."""
        for op in {site.op for site in self._table} | set(self._passed):
            expected, seen = self.times_recorded(op, 0), self._passed.get(op, 0)
            if expected != seen:
                return f"calls {op} {seen} times, prepare recorded {expected}"
        return ""


def redirections(owner: nn.Module) -> Redirections:
    """The recorded calls of a module's own forward."""
    known: Redirections | None = vars(owner).get("_redirections")
    if known is None:
        known = vars(owner)["_redirections"] = Redirections()
    return known
