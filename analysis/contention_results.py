"""The figure and the table of `contention`, from the collected results.

python analysis/contention_results.py

The script makes docs/results/contention.png and the table in docs/experiments.md. `contention.csv` of the run was not kept, so
the collected table has the rounded numbers of the document.
"""

from pathlib import Path

import pandas as pd

from sensai.analysis.figures import static
from sensai.analysis.markdown import write_table

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Draw the figure and write the table."""
    measured = pd.read_csv(ROOT / "analysis/results/contention.csv")
    static.contention(measured).savefig(ROOT / "docs/results/contention.png")
    write_table(ROOT / "docs/experiments.md", "contention", shown(measured))


def shown(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the table as readers see it."""
    return pd.DataFrame(
        {
            "task": measured["task"],
            "way": measured["way"].str.replace("_", " "),
            "n": measured["n"],
            "images/s, all together": measured["images_per_s"],
            "start, s": measured["start_s"],
            "ms a step": measured["step_ms"],
            "waiting for data": measured["data_share"].map("{:.0%}".format).str.replace("%", " %"),
            "MiB": measured["peak_mib"],
            "threads": measured["threads"],
        }
    )


if __name__ == "__main__":
    main()
