"""Tables and figures of the studies of decomposition, grouping and recipe, from their shards.

python -m analysis.decomposition_tables

The script writes the blocks of the documents that have a study's name, such as `<!-- decomposition_resnet20 -->`, and draws
docs/results/decomposition.png, grouping_differences.png and recipe.png. Rows that have no finished cell yet are left out.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import yaml
from matplotlib.figure import Figure

from analysis.documents import PAGES, RESULTS, ROOT, figure, write
from sensai.analysis.cell_shards import read_shards
from sensai.analysis.contrasts import Planned, planned_contrasts
from sensai.analysis.markdown import markdown_table
from sensai.analysis.rounding import rounded_accuracy


class Study(NamedTuple):
    """A study and its planned contrasts.

    Attributes:
        name: of its YAML file, and of the folder of its shards.
        title: of its panel in the figure.
        figure: file in docs/results, which studies may share.
        contrasts: each of one row less another.
    """

    name: str
    title: str
    figure: str
    contrasts: tuple[tuple[str, str], ...]


# The contrasts were chosen before the studies were run.
_AGAINST_RIVALS = (
    ("five pairs", "control"),
    ("five pairs", "five replicas"),
    ("overlap 2", "control"),
    ("overlap 2", "five replicas"),
    ("overlap 2", "five pairs"),
    ("overlap 3", "five replicas"),
    ("five replicas", "control"),
)
_PARTS = ("EMA", "temperature 4", "CutMix", "TrivialAugment", "standardised logits", "MixUp", "label smoothing", "all")
STUDIES = (
    Study(
        "decomposition_resnet20",
        "ResNet-20",
        "decomposition.png",
        (
            *_AGAINST_RIVALS,
            ("five replicas", "control of equal training FLOPs"),
            ("ten members", "five pairs"),
            ("ten members, overlap 2", "ten members"),
        ),
    ),
    Study("decomposition_vgg11", "VGG-11", "decomposition.png", (*_AGAINST_RIVALS, ("ten members", "five pairs"))),
    Study(
        "grouping_resnet20",
        "ResNet-20, grouping",
        "grouping_differences.png",
        (("most_similar", "random"), ("least_similar", "random"), ("most_similar", "least_similar")),
    ),
    Study(
        "recipe_resnet20",
        "ResNet-20, parts of the recipe",
        "recipe.png",
        tuple(
            (f"{network}, {part}", f"{network}, plain")
            for network in ("control", "five replicas", "overlap 2")
            for part in _PARTS
        ),
    ),
)


def main() -> None:
    """Write the tables and draw the figures."""
    for file, compared in collected_contrasts().items():
        drawn(compared).savefig(PAGES / file, dpi=120)
    write(blocks())


def blocks() -> dict[str, str]:
    """Return the tables and figures of all studies that have finished cells, as the documents show them."""
    found = {}
    for study in STUDIES:
        rows = read_shards(RESULTS / study.name)
        if not rows.empty:
            found[study.name] = markdown_table(accuracies(study, rows))
    for file, compared in collected_contrasts().items():
        for name, table in compared.items():
            found[f"{name} contrasts"] = markdown_table(shown(table))
        found[f"{file.removesuffix('.png')} figure"] = figure("Planned differences with their 95 % intervals", file)
    return found


def collected_contrasts() -> dict[str, dict[str, pd.DataFrame]]:
    """Return figure -> name of a study -> its contrasts, where it has any."""
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for study in STUDIES:
        rows = read_shards(RESULTS / study.name)
        if not rows.empty and not (compared := contrasts(study, rows)).empty:
            found.setdefault(study.figure, {})[study.name] = compared
    return found


def accuracies(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line a row of the study: what it costs, and its accuracies over the seeds."""
    content = yaml.safe_load((ROOT / f"analysis/studies/{study.name}.yaml").read_text())
    lines = []
    for name in [row["row"] for row in content["rows"]]:
        own = rows[rows["row"] == name]
        if own.empty:
            continue
        lines.append(
            {
                "row": name,
                "members": own["members"].iloc[0],
                "epochs": own["epochs"].iloc[0],
                "FLOPs, largest": f"{(own['flops_max'] / own['flops_base']).mean():.3f}",
                "FLOPs, all": f"{(own['flops_total'] / own['flops_base']).mean():.3f}",
                "seeds": len(own),
                "validation accuracy": rounded_accuracy(own["val_accuracy"].mean()),
                "test accuracy": rounded_accuracy(own["accuracy"].mean()),
                "each seed": ", ".join(rounded_accuracy(each, 3) for each in own.sort_values("seed")["accuracy"]),
            }
        )
    return pd.DataFrame(lines)


def contrasts(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the planned contrasts whose rows both have finished cells."""
    there = set(rows["row"])
    planned = [Planned(f"{a} - {b}", {"row": a}, {"row": b}) for a, b in study.contrasts if a in there and b in there]
    return planned_contrasts(rows, planned)


def shown(found: pd.DataFrame) -> pd.DataFrame:
    """Return the contrasts as readers see them, in points."""
    return pd.DataFrame(
        {
            "contrast": found["contrast"],
            "seeds": [f"{a}, {b}" for a, b in zip(found["seeds_a"], found["seeds_b"], strict=True)],
            "points": [f"{100 * each:+.2f}" for each in found["difference"]],
            "95 % interval": [
                f"{100 * low:+.2f} to {100 * high:+.2f}" for low, high in zip(found["low"], found["high"], strict=True)
            ],
            "p, Holm": [f"{each:.3f}" for each in found["p_holm"]],
        }
    )


def drawn(compared: dict[str, pd.DataFrame]) -> Figure:
    """Draw the contrasts of each study with their intervals, one panel a study."""
    titles = {study.name: study.title for study in STUDIES}
    drawing = Figure(
        figsize=(8, 1 + 0.35 * sum(map(len, compared.values())) + 0.6 * len(compared)), layout="constrained"
    )
    ratios = [max(len(found), 1) for found in compared.values()]
    panels = drawing.subplots(len(compared), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    for axes, (name, found) in zip(panels, compared.items(), strict=True):
        for place, row in enumerate(_from_below(found)):
            axes.plot([100 * row.low, 100 * row.high], [place, place], color="tab:blue")
            axes.plot(100 * row.difference, place, "o", color="tab:blue")
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_yticks(range(len(found)), [row.contrast for row in _from_below(found)])
        axes.set_title(titles[name], fontsize=10)
    panels[-1].set_xlabel("difference of test accuracies in points, 95 % interval over seeds and images")
    return drawing


def _from_below(found: pd.DataFrame) -> Iterator[Any]:
    return found.iloc[::-1].itertuples()


if __name__ == "__main__":
    main()
