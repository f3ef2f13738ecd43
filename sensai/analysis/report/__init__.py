"""One self-contained HTML page: on an `evaluation`, a `study` or a `comparison` of runs; `page` is how they stand there."""

from sensai.analysis.report.evaluation_page import differences_table, summary_table

__all__ = ["differences_table", "summary_table"]
