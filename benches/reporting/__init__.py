"""From measured rows to a table, a JSON and plots."""

from .markdown import table, write_markdown
from .record import record, record_steps
from .verdict import AVX2_SHARE
from .write import write_report

__all__ = ["AVX2_SHARE", "record", "record_steps", "table", "write_markdown", "write_report"]
