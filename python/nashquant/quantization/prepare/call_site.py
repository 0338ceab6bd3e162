"""Which call in the source is running: the same answer when a model is recorded and whenever it runs again."""

from __future__ import annotations

import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import torch.utils.checkpoint

__all__ = [
    "BORDER",
    "CallSite",
    "Position",
    "call_site",
    "codes_from",
    "entered",
    "frames_from",
    "is_checkpointed",
    "is_deeper",
    "source_line",
]

# One entry per frame between the owner's forward and the call: file, first line and checksum of the function, bytecode
# offset. The offset tells apart two calls on one line; the checksum, two lambdas; the frames, two uses of one helper.
Position = tuple[tuple[str, int, int, int], ...]


class CallSite(NamedTuple):
    """A functional call inside one forward of its owner.

    Attributes:
        op: name of the op, as in the registry.
        position: where in the source, seen from the owner's forward.
        repeat: how often this position was passed before in this forward (a loop).
    """

    op: str
    position: Position
    repeat: int


_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def entered(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs a forward. Its frame is the border up to which `call_site` looks."""
    return forward(*args, **kwargs)


BORDER = entered.__code__
# Between a composite's parts and the composite's own call lie our handlers, one when recording, another when running.
_HANDLERS = tuple(str(Path(__file__).with_name(name)) for name in ("recorder.py", "redirect.py"))


def frames_from(depth: int) -> Iterator[FrameType]:
    """The frame `depth` above the caller and those above it, up to the owner's forward."""
    return _frames(sys._getframe(depth + 1))


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None and frame.f_code is not BORDER:
        yield frame
        frame = frame.f_back


def codes_from(frame: FrameType) -> Iterator[CodeType]:
    """What runs there, and above up to the owner's forward."""
    return (above.f_code for above in _frames(frame))


def call_site(depth: int) -> Position:
    """The position of the call `depth` frames above the caller."""
    frames = frames_from(depth + 1)
    users = (frame for frame in frames if frame.f_code.co_filename not in _HANDLERS)
    return tuple((*_identity(frame.f_code), frame.f_lasti) for frame in users)


def is_deeper(position: Position, recorded: Position) -> bool:
    """Whether a call is the recorded one after further rounds of a recursion: in between, a function runs again."""
    now, before = (Counter(frame[:3] for frame in each) for each in (position, recorded))
    again = any(times > max(1, before[function]) for function, times in now.items())
    return again and before <= now and (position[0], position[-1]) == (recorded[0], recorded[-1])


def _identity(code: CodeType) -> tuple[str, int, int]:
    """What tells a function from all others, in every process: a pickled model must find its calls again."""
    return code.co_filename, code.co_firstlineno, zlib.crc32(code.co_code + code.co_linetable)


def is_checkpointed(depth: int) -> bool:
    """Whether the call runs inside torch.utils.checkpoint, called by the owner's own forward."""
    codes = codes_from(sys._getframe(depth + 1))
    return any(code.co_filename == torch.utils.checkpoint.__file__ for code in codes)


def source_line(depth: int) -> str:
    """`file:line` of the nearest frame that is the user's."""
    frames = list(frames_from(depth + 1))
    for frame in frames:
        if not frame.f_code.co_filename.startswith(_NOT_THE_USERS):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else "an unknown place"
