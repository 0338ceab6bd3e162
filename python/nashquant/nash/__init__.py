"""The integer model: what the chip computes, in integers only between the first quantizer and the last.

`convert` reads a QDQ ONNX model, ours or anyone's; the result runs on float tensors and says of each layer what is
integer in it. `compare` holds it against the prepared model it comes from.
"""

from .compare import Comparison, LayerComparison, compare
from .convert import convert
from .model import IntegerModel
from .report import Report, ReportRow

__all__ = ["Comparison", "IntegerModel", "LayerComparison", "Report", "ReportRow", "compare", "convert"]
