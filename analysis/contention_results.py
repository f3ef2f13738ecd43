"""The figures and the tables of `contention`, from the collected results.

python -m analysis.contention_results

Each case in analysis/results/contention.csv gets a figure in docs/results, and a table in the documents, both under its name.
`python analysis/studies/contention.py` measures the cases anew.
"""

import math

import pandas as pd

from analysis.documents import PAGES, RESULTS, figure, write
from sensai.analysis.contention_summary import summary
from sensai.analysis.figures import static
from sensai.analysis.markdown import markdown_table

COLLECTED = RESULTS / "contention.csv"


def main() -> None:
    """Draw the figures and write the tables."""
    for case, table in tables().items():
        static.contention(table).savefig(PAGES / f"{case}.png")
    write(blocks())


def tables() -> dict[str, pd.DataFrame]:
    """Return case -> means and intervals over its repeats."""
    return {str(case): summary(measured) for case, measured in pd.read_csv(COLLECTED).groupby("case")}


def blocks() -> dict[str, str]:
    """Return the table and the figure of each case, as the documents show them."""
    found = {}
    for case, table in tables().items():
        found[case] = markdown_table(shown(table))
        found[f"{case} figure"] = figure(
            "Images a second of trainings and scorings at once, one line a way", f"{case}.png"
        )
    return found


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `summary` as readers see it: 95 % intervals in brackets where there are several repeats."""
    return pd.DataFrame(
        {
            "task": table["task"],
            "way": table["way"].str.replace("_", " "),
            "n": table["n"],
            "images/s, all together": _with_bounds(table, "images_per_s", "low", "high"),
            "/ in turn": _with_bounds(table, "vs_in_turn", "vs_in_turn_low", "vs_in_turn_high"),
            "start, s": table["start_s"].map(_rounded),
            "ms a step": table["step_ms"].map(_rounded),
            "time for data": table["data_share"].map("{:.0%}".format).str.replace("%", " %"),
            "MiB": table["peak_mib"].map(_rounded),
            "threads": table["threads"],
        }
    )


def _with_bounds(table: pd.DataFrame, name: str, low: str, high: str) -> list[str]:
    return [
        _rounded(value) if math.isnan(lower) else f"{_rounded(value)} ({_rounded(lower)} to {_rounded(upper)})"
        for value, lower, upper in table[[name, low, high]].itertuples(index=False)
    ]


def _rounded(value: float) -> str:
    """Return three digits, and zeros in place of the others before the point."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{round(value, digits):,.{max(digits, 0)}f}"


if __name__ == "__main__":
    main()
