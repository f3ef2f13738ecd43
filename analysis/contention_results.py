"""The figures and the tables of `contention`, from the collected results.

python analysis/contention_results.py

Each case in analysis/results/contention.csv gets a figure in docs/results and a table in docs/experiments.md, both under its
name.
`python analysis/studies/contention.py` measures the cases anew.
"""

import math
from pathlib import Path

import pandas as pd

from sensai.analysis.contention_summary import summary
from sensai.analysis.figures import static
from sensai.analysis.markdown import write_table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "analysis/results/contention.csv"


def main() -> None:
    """Draw the figures and write the tables."""
    for case, measured in pd.read_csv(RESULTS).groupby("case"):
        table = summary(measured)
        static.contention(table).savefig(ROOT / f"docs/results/{case}.png")
        write_table(ROOT / "docs/experiments.md", str(case), shown(table))


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
