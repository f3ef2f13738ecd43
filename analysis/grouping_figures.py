"""The figures and tables of the grouping studies with retraining, from the collected results.

python -m analysis.grouping_figures

The script makes docs/results/grouping_accuracy.png, grouping_digits.png and the tables below them. The points are those of
`retrainings.parquet`. The intervals are over images and seeds. The answers to single images were not kept, so
`grouping_intervals.csv` has the intervals of docs/experiments.md.
"""

import json

import pandas as pd

from analysis.documents import PAGES, RESULTS, write
from sensai.analysis.figures import static
from sensai.analysis.markdown import markdown_table
from sensai.analysis.rounding import rounded_accuracy

METHODS = ["random", "most_similar", "least_similar", "min_flops", "control"]


# The study in the collected retrainings -> its figure in docs/results.
STUDIES = {"cifar10_resnet20": "grouping_accuracy.png", "digits": "grouping_digits.png"}


def main() -> None:
    """Draw the figures and write the tables."""
    for study, figure in STUDIES.items():
        cells, summary = collected(study)
        static.study(cells, summary, "accuracy").savefig(PAGES / figure)
    write(blocks())


def blocks() -> dict[str, str]:
    """Return the table of each study."""
    return {f"grouping {study}": markdown_table(shown(*collected(study))) for study in STUDIES}


def collected(study: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the repeats of a study, and the means of its methods with their intervals."""
    cells = cells_of(pd.read_parquet(RESULTS / "retrainings.parquet"), study)
    intervals = pd.read_csv(RESULTS / "grouping_intervals.csv")
    return cells, summary_of(cells, intervals[intervals["study"] == study])


def cells_of(retrainings: pd.DataFrame, study: str) -> pd.DataFrame:
    """Return the repeats of a study: columns n_groups, ratio, method, seed, accuracy and flops (fractions: of the test images,
    and of the base model's FLOPs in the largest member).
    """
    own = retrainings[retrainings["study"] == study]
    shares = own["flops_max"] / own["flops_base"]
    rows = [
        {**place, "accuracy": accuracy, "flops": share}
        for cell, accuracy, share in zip(own["cell"], own["accuracy"], shares, strict=True)
        for place in json.loads(cell)
    ]
    return pd.DataFrame(rows)[["n_groups", "ratio", "method", "seed", "accuracy", "flops"]]


def summary_of(cells: pd.DataFrame, intervals: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of every method at every setting with its interval, in the order of `METHODS`."""
    means = cells.groupby(["n_groups", "ratio", "method"], as_index=False).agg(mean=("accuracy", "mean"))
    joined = means.merge(intervals[["n_groups", "method", "low", "high"]], on=["n_groups", "method"], validate="1:1")
    return joined.sort_values("method", key=lambda names: names.map(METHODS.index), kind="stable")


def shown(cells: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Return the means of a study as readers see them."""
    flops = cells.groupby(["n_groups", "method"])["flops"].mean()
    seeds = cells.groupby(["n_groups", "method"]).size()
    ordered = summary.sort_values("n_groups", kind="stable")
    rows = [
        {
            "groups": count,
            "method": method if method == "control" else f"`{method}`",
            "seeds": seeds[count, method],
            "FLOPs of the largest member": f"{flops[count, method]:.3f}",
            "test accuracy": f"{rounded_accuracy(mean, 3)} ({rounded_accuracy(low, 3)} to {rounded_accuracy(high, 3)})",
        }
        for count, method, mean, low, high in ordered[["n_groups", "method", "mean", "low", "high"]].itertuples(
            index=False
        )
    ]
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
