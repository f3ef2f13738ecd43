"""Run tables as DataFrames, comparisons, figures and the report, from what was logged. Imports no torch."""
