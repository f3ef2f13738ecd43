"""Run tables as DataFrames, plots and the report, from what was logged. Imports neither torch nor sensai."""
