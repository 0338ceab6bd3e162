"""What leaves nashquant: the quantized model as a file other tools read."""

from ._agree import Agreement, Place
from ._convert_exported import convert
from ._export import export
from ._exported import ExportedModel
from ._pre_export import pre_export
from ._reasons import Reasons
from ._runtime import run_file

__all__ = ["Agreement", "ExportedModel", "Place", "Reasons", "convert", "export", "pre_export", "run_file"]
