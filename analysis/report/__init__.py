"""One self-contained HTML page on an evaluation: `evaluation` is what stands on it, `page` how."""

from analysis.report.evaluation import differences_table, render, summary_table

__all__ = ["differences_table", "render", "summary_table"]
