"""Runs a script written for `horizon_plugin_pytorch`, unmodified.

    python -m nashquant.compat.horizon script.py [arguments]

or, as the first line of a script:

    import nashquant.compat.horizon

From then on `horizon_plugin_pytorch` and every module below it are the nashquant modules of the same path:
the very same module objects, so a class imported under either name is one class. Nothing is aliased before
this is asked for, and it refuses where the vendor's own package is installed.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import os
import runpy
import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["install"]

_VENDOR = "horizon_plugin_pytorch"
_OURS = "nashquant"
_USAGE = "usage: python -m nashquant.compat.horizon script.py [arguments of the script]"


def install() -> None:
    """Makes `horizon_plugin_pytorch` mean nashquant in this process. Calling it again changes nothing.

    Raises:
        ImportError: the vendor's package is installed here, or already imported.
    """
    _refuse_beside_the_vendor()
    if not any(isinstance(finder, _Alias) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Alias())


class _Alias(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `horizon_plugin_pytorch.*`, when first asked for, as the nashquant module of the same path."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _VENDOR and not name.startswith(_VENDOR + "."):
            return None
        ours = _OURS + name.removeprefix(_VENDOR)
        if importlib.util.find_spec(ours) is None:
            raise ModuleNotFoundError(f"nashquant has no module {ours!r} yet (asked for as {name!r})", name=name)
        return ModuleSpec(name, self)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # The entry in sys.modules is replaced: returning our module from create_module would change its
        # __spec__. Every loaded module gets its second name at once: else a later import of
        # `quantization.prepare` under that name would bind `prepare` in the parent to the module, where the
        # function `prepare` is by then.
        importlib.import_module(_OURS + module.__name__.removeprefix(_VENDOR))
        for name, loaded in list(sys.modules.items()):
            if name == _OURS or name.startswith(_OURS + "."):
                sys.modules[_VENDOR + name.removeprefix(_OURS)] = loaded


def _refuse_beside_the_vendor() -> None:
    place = None
    imported = sys.modules.get(_VENDOR)
    if imported is not None and imported is not sys.modules.get(_OURS):
        place = getattr(imported, "__file__", None) or "already imported"
    for finder in sys.meta_path:
        if not isinstance(finder, _Alias) and (spec := finder.find_spec(_VENDOR, None)) is not None:
            place = spec.origin or ", ".join(spec.submodule_search_locations or ())
    if place is not None:
        raise ImportError(
            f"{_VENDOR} is installed here ({place}), and nashquant will not stand in its way: "
            f"uninstall it, or write {_OURS} instead of {_VENDOR} in the imports of your script"
        )


def _run(arguments: Sequence[str]) -> None:
    """Runs the script `arguments[0]` as Python would: as __main__, its folder first on the path."""
    script = arguments[0]
    sys.argv[:] = arguments
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")


if __name__ != "__main__":
    install()
elif len(sys.argv) < 2 or sys.argv[1].startswith("-"):
    sys.exit(_USAGE)
elif not os.path.isfile(sys.argv[1]):
    sys.exit(f"there is no script {sys.argv[1]!r}\n{_USAGE}")
else:
    # Imported under its own name, which installs it: a script may do so too, and there must be one _Alias.
    try:
        importlib.import_module("nashquant.compat.horizon")
    except ImportError as error:
        sys.exit(str(error))
    _run(sys.argv[1:])
