"""Logged runs as DataFrames: typed columns, one query a page of runs, no artifact read per row.

Parameters come with their types from the tag `sensai.config`. Every function returns the same fixed columns for no run
and for many. Further columns hold the parameters and metrics of the runs.
"""

from sensai.analysis.runs.compared import compare
from sensai.analysis.runs.ensembles import ensembles
from sensai.analysis.runs.overviews import overview
from sensai.analysis.runs.pruned import layers, members, sizes
from sensai.analysis.runs.staged import lineage, stage_runs
from sensai.analysis.runs.studied import studies
from sensai.analysis.runs.tables import read_table, table

__all__ = [
    "compare",
    "ensembles",
    "layers",
    "lineage",
    "members",
    "overview",
    "read_table",
    "sizes",
    "stage_runs",
    "studies",
    "table",
]
