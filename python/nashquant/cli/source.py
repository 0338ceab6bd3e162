"""Where the prepared model comes from: a function of the user's, named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

__all__ = ["prepared_model"]


def prepared_model(source: str) -> tuple[nn.Module, Any]:
    """What the function `source` gives: a prepared model in VALIDATION, and example inputs.

    Args:
        source: `module:function`, or `path/to/script.py:function`.

    Raises:
        ValueError: `source` names no function, or the function gives something else.
        FileNotFoundError: there is no such script.
        ImportError: there is no such module.
    """
    function = _function(source)
    try:
        given = function()
    except Exception as error:  # not ours: whoever wrote it wants to see where
        traceback.print_exc()
        raise ValueError(f"{source} failed: {type(error).__name__}: {error}") from error
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], nn.Module)):
        raise ValueError(
            f"{source} must give (model, example_inputs): a prepared model and the inputs to export it with; "
            f"it gave {type(given).__name__}"
        )
    return given


def _function(source: str) -> Callable[[], Any]:
    where, colon, name = source.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise ValueError(f"{source!r} names no function: write module:function, or path/to/script.py:function")
    module = _script(Path(where)) if where.endswith(".py") else _module(where)
    function = getattr(module, name, None)
    if not callable(function):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ValueError(f"{where} has no function {name!r}; it has {', '.join(own) or 'none'}")
    return function  # type: ignore[no-any-return]


def _module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"there is no module {name!r} in this folder or installed: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))


def _script(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no script {str(path)!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that classes of the script can be found again
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module
