"""The figures of the grouping studies with retraining, from the collected results.

python analysis/grouping_figures.py

The script makes docs/results/grouping_accuracy.png and grouping_digits.png. The points are those of `retrainings.parquet`.
The intervals are over images and seeds. The answers to single images were not kept, so `grouping_intervals.csv` has the
intervals of docs/experiments.md.
"""

import json
from pathlib import Path

import pandas as pd

from sensai.analysis.figures import static

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "analysis/results"
METHODS = ["random", "most_similar", "least_similar", "min_flops", "control"]


# The study in the collected retrainings -> its figure in docs/results.
STUDIES = {"cifar10_resnet20": "grouping_accuracy.png", "digits": "grouping_digits.png"}


def main() -> None:
    """Draw the figures."""
    retrainings = pd.read_parquet(RESULTS / "retrainings.parquet")
    intervals = pd.read_csv(RESULTS / "grouping_intervals.csv")
    for study, figure in STUDIES.items():
        cells = cells_of(retrainings, study)
        summary = summary_of(cells, intervals[intervals["study"] == study])
        static.study(cells, summary, "accuracy").savefig(ROOT / "docs/results" / figure)


def cells_of(retrainings: pd.DataFrame, study: str) -> pd.DataFrame:
    """Return the repeats of a study: columns n_groups, ratio, method, seed, accuracy (test split, fraction)."""
    own = retrainings[retrainings["study"] == study]
    rows = [
        {**place, "accuracy": accuracy}
        for cell, accuracy in zip(own["cell"], own["accuracy"], strict=True)
        for place in json.loads(cell)
    ]
    return pd.DataFrame(rows)[["n_groups", "ratio", "method", "seed", "accuracy"]]


def summary_of(cells: pd.DataFrame, intervals: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of every method at every setting with its interval, in the order of `METHODS`."""
    means = cells.groupby(["n_groups", "ratio", "method"], as_index=False).agg(mean=("accuracy", "mean"))
    joined = means.merge(intervals[["n_groups", "method", "low", "high"]], on=["n_groups", "method"], validate="1:1")
    return joined.sort_values("method", key=lambda names: names.map(METHODS.index), kind="stable")


if __name__ == "__main__":
    main()
