"""The figures of the grouping studies with retraining, from the collected results.

python analysis/grouping_figures.py

The script makes docs/results/grouping_accuracy.png and grouping_digits.png. The points are those of `retrainings.parquet`.
The intervals are over images and seeds. The answers to single images were not kept, so `grouping_intervals.csv` has the
intervals of docs/experiments.md.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sensai.analysis.figures import static

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "analysis/results"
METHODS = ["random", "most_similar", "least_similar", "min_flops", "control"]


class Study(NamedTuple):
    """One grouping study among the collected retrainings.

    Attributes:
        name: in `grouping_intervals.csv`.
        figure: file in docs/results.
        arch: of its networks.
        epochs: of each retraining.
        before: all its retrainings began before this time (UTC).
    """

    name: str
    figure: str
    arch: str
    epochs: int
    before: str


STUDIES = [
    Study("cifar10_resnet20", "grouping_accuracy.png", "resnet20", 1, "2026-11-25T12:00Z"),
    Study("digits", "grouping_digits.png", "small_cnn", 20, "2026-11-25T12:00Z"),
]


def main() -> None:
    """Draw the figures."""
    retrainings = pd.read_parquet(RESULTS / "retrainings.parquet")
    intervals = pd.read_csv(RESULTS / "grouping_intervals.csv")
    for study in STUDIES:
        cells = cells_of(retrainings, study)
        summary = summary_of(cells, intervals[intervals["study"] == study.name])
        static.study(cells, summary, "accuracy").savefig(ROOT / "docs/results" / study.figure)


def cells_of(retrainings: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the repeats of a study: columns n_groups, ratio, method, seed, accuracy (test split, fraction)."""
    own = retrainings[
        (retrainings["arch"] == study.arch)
        & (retrainings["epochs"] == study.epochs)
        & (retrainings["start"] < pd.Timestamp(study.before))
        & (retrainings["method"].isin(METHODS))
        & retrainings["accuracy"].notna()
    ]
    control = own["n_groups"] == 1
    # A control has the FLOPs of the largest member of its groups. Sorted FLOPs match sorted numbers of groups here.
    counts = sorted(own.loc[~control, "n_groups"].unique())
    targets = dict(zip(sorted(own.loc[control, "target_flops"].unique()), counts, strict=True))
    return own.assign(
        method=own["method"].mask(control, "control"),
        n_groups=own["n_groups"].mask(control, own["target_flops"].map(targets)).astype("int64"),
    )[["n_groups", "ratio", "method", "seed", "accuracy"]]


def summary_of(cells: pd.DataFrame, intervals: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of every method at every setting with its interval, in the order of `METHODS`."""
    means = cells.groupby(["n_groups", "ratio", "method"], as_index=False).agg(mean=("accuracy", "mean"))
    joined = means.merge(intervals[["n_groups", "method", "low", "high"]], on=["n_groups", "method"], validate="1:1")
    return joined.sort_values("method", key=lambda names: names.map(METHODS.index), kind="stable")


if __name__ == "__main__":
    main()
