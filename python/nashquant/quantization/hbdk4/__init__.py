"""What leaves nashquant: the quantized model as a file other tools read."""

from ._agree import Agreement
from ._export import export
from ._exported import ExportedModel
from ._runtime import run_file

__all__ = ["Agreement", "ExportedModel", "export", "run_file"]
