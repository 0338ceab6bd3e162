"""The command line: `nashquant export`, `nashquant run`, `nashquant inspect`. Needs `nashquant[cli]`."""

from .app import app

__all__ = ["app"]
