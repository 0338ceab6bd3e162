"""Where the files go that a command writes."""

from __future__ import annotations

from pathlib import Path

__all__ = ["check_folders"]


def check_folders(*paths: Path | None) -> None:
    """Says before any work is done that the folder of a file to be written is not there.

    Raises:
        FileNotFoundError: it is not; names the file and the folder.
    """
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}")
