"""Make every figure and table of the documents from the collected results: `python -m analysis`."""

from analysis import (
    contention_results,
    decomposition_tables,
    drawings,
    grouping_figures,
    idea_picture,
    recorded_tables,
    retraining_tables,
    stop_rules,
)

for script in (
    contention_results,
    decomposition_tables,
    drawings,
    grouping_figures,
    idea_picture,
    retraining_tables,
    stop_rules,
    recorded_tables,
):
    script.main()
