"""Self-contained HTML pages on an evaluation, a study or a comparison of runs; `page` renders them all."""

from sensai.analysis.report.evaluation_page import differences_table, summary_table

__all__ = ["differences_table", "summary_table"]
