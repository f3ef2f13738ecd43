"""Tables of logged runs as DataFrames, comparisons, figures and the report. They import no torch."""
