"""QDQ ONNX files, ours and others': what is on which grid, drawn, counted, and written down for other tools."""

from .draw import check_picture, draw
from .encodings import encodings
from .file import read
from .forward import Forward
from .grids import Grid, grids
from .integers import integers
from .plain import Plain, plain
from .quant_config import quant_config
from .summary import Summary, summary
from .tree import Slot

__all__ = [
    "Forward",
    "Grid",
    "Plain",
    "Slot",
    "Summary",
    "check_picture",
    "draw",
    "encodings",
    "grids",
    "integers",
    "plain",
    "quant_config",
    "read",
    "summary",
]
