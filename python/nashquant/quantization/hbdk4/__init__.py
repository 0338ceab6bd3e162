"""What leaves nashquant: the quantized model as a file other tools read."""

from ._agree import Agreement
from ._export import export
from ._exported import ExportedModel

__all__ = ["Agreement", "ExportedModel", "export"]
