"""Figures of logged tables, each drawn by one function a renderer.

| module | content |
| --- | --- |
| `static`, `static_matrices`, `static_tuning` | matplotlib figures that runs log as images |
| `interactive`, `interactive_matrices`, `interactive_tuning` | Plotly figures for the report's page |
| `interactive_theme` | colours and lines that those of Plotly share |
| `figure_tables` | tables and labels that both renderers share |
"""
