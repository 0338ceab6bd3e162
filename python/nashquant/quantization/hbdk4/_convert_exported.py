"""`convert`, where scripts for the vendor's package look for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nashquant.march import March

if TYPE_CHECKING:
    from nashquant.nash import IntegerModel

    from ._exported import ExportedModel

__all__ = ["convert"]


def convert(m: ExportedModel | str | os.PathLike[str], march: March | str | None = None) -> IntegerModel:
    """The integer model of what `export` gave, or of a QDQ ONNX file: `nashquant.nash.convert` under the vendor's name.

    The vendor's `convert` makes the file its closed compiler reads; ours makes a model that computes the same integers
    here, as far as the chip's arithmetic is public.

    Raises:
        As `nashquant.nash.convert`.
    """
    from nashquant import nash

    return nash.convert(m, march)
