"""The names of the files and folders that runs log. `ARTIFACTS` gives the stages that log each, and its content."""

from typing import NamedTuple

CONFIG = "config.yaml"
MODEL = "model"
STATISTICS = "statistics.safetensors"
SITES = "sites.json"
SIMILARITY = "class_similarity.csv"
SIMILARITY_FIGURE = "class_similarity.png"
GROUPS = "groups.json"
SIZES = "sizes.csv"
COUPLING = "coupling.csv"
COUPLING_FIGURE = "coupling.png"
PLANS = "plans.json"
LAYERS = "layers.csv"
WIDTHS_FIGURE = "widths.png"
VAL_ANSWERS = "val_answers.csv"
MEMBERS = "members"
MEMBERS_TABLE = "members.csv"
MEMBERS_FIGURE = "members.png"
CURVES = "curves.csv"
CURVE_FIGURE = "learning_curve.png"
ANSWERS = "answers.csv"
COMBINATIONS = "combine.csv"
CALIBRATION = "calibration.json"
RELIABILITY_FIGURE = "reliability.png"
RUNTIMES = "runtimes.csv"
RUNTIMES_FIGURE = "runtimes.png"
CONFUSION = "confusion.csv"
CONFUSION_FIGURE = "confusion.png"
GROUP_CONFUSION = "confusion_groups.csv"
GROUP_CONFUSION_FIGURE = "confusion_groups.png"
CONFUSION_IN_GROUPS = "confusion_in_groups.csv"
CONFUSION_IN_GROUPS_FIGURE = "confusion_in_groups.png"
PAGE = "report.html"
VERSION = "version.json"
PROMOTION = "comparison.csv"
SPACE = "space.json"
TRIALS = "trials.csv"
FRONT = "front.csv"
FRONT_FIGURE = "front.png"
HYPERVOLUME = "hypervolume.csv"
HYPERVOLUME_FIGURE = "hypervolume.png"
IMPORTANCES = "importances.csv"
IMPORTANCES_FIGURE = "importances.png"
SLICES_FIGURE = "slices.png"
FIDELITIES = "fidelities.csv"
BEST = "best.json"
CELLS = "cells.csv"
COMPARISONS = "comparisons.csv"
CONTENTION = "contention.csv"
CONTENTION_SUMMARY = "contention_summary.csv"
CONTENTION_FIGURE = "contention.png"
TRACEBACK = "traceback.txt"


def measure_summary(measure: str) -> str:
    """Return the name of the table of a measure that `grouping_study` compares."""
    return f"summary_{measure}.csv"


def measure_figure(measure: str) -> str:
    """Return the name of the figure of a measure that `grouping_study` compares."""
    return f"{measure}.png"


class Artifact(NamedTuple):
    """One entry of `ARTIFACTS`.

    Attributes:
        stages: the stages that log it, in the order of the data flow.
        meaning: its content, in one line.
    """

    stages: tuple[str, ...]
    meaning: str


ENTRY_POINTS = (
    *("main", "baseline", "activations", "group", "prune", "retrain", "evaluate", "register", "promote", "predict"),
    *("serve", "report", "tune", "contention", "grouping_study"),
)
ARTIFACTS = {
    CONFIG: Artifact(
        ENTRY_POINTS, "the parameters with which the run can be repeated: `sensai <entry point> --config config.yaml`"
    ),
    MODEL: Artifact(("baseline",), "folder of the base model: weights (safetensors) and architecture (JSON)"),
    STATISTICS: Artifact(("activations",), "sums of every channel by class: zeros, magnitude, elements"),
    SITES: Artifact(
        ("activations",), "the removable channels of the network, and the layers that stay whole with reasons"
    ),
    SIMILARITY: Artifact(("activations",), "correlation of the classes' APoZ, a row and a column a class"),
    SIMILARITY_FIGURE: Artifact(("activations",), f"{SIMILARITY} as a heatmap"),
    GROUPS: Artifact(("group",), "groups of class indices, names of the classes, their order in the dendrogram"),
    SIZES: Artifact(("group",), "predicted params and FLOPs of each group's member, at `ratio`"),
    COUPLING: Artifact(("group",), "channels that the plans of both classes remove, a row and a column a class"),
    COUPLING_FIGURE: Artifact(("group",), f"{COUPLING} as a heatmap with the groups beside it"),
    PLANS: Artifact(("prune",), "the classes of each member, and the channels that it lacks, by site"),
    LAYERS: Artifact(("prune",), "channels of every site, and those that each member keeps"),
    WIDTHS_FIGURE: Artifact(("prune",), f"{LAYERS} as kept shares by depth"),
    VAL_ANSWERS: Artifact(
        ("prune", "retrain", "evaluate"),
        "a row a validation image: label, answer, right within its group; of `evaluate` the answer of the base model",
    ),
    MEMBERS: Artifact(("retrain",), "folder of the ensemble: weights and description of each member"),
    MEMBERS_TABLE: Artifact(("prune", "evaluate"), "a row a member: sizes; of `evaluate` also accuracies and latency"),
    MEMBERS_FIGURE: Artifact(("evaluate",), f"{MEMBERS_TABLE} as accuracy against FLOPs"),
    CURVES: Artifact(("retrain",), "a row an epoch of every member: losses and validation metrics"),
    CURVE_FIGURE: Artifact(("baseline", "member"), "losses and validation metrics by epoch"),
    ANSWERS: Artifact(("evaluate",), "a row a test image: label, answer of the ensemble, answer of the base model"),
    COMBINATIONS: Artifact(("evaluate",), "a row a way to combine outputs: accuracy, ECE and NLL on both splits"),
    CALIBRATION: Artifact(("evaluate",), "the chosen way to combine outputs, with its weights"),
    RELIABILITY_FIGURE: Artifact(("evaluate",), "accuracy by largest probability, a panel a way to combine outputs"),
    RUNTIMES: Artifact(("evaluate",), "milliseconds of base model, ensemble and largest member in every runtime"),
    RUNTIMES_FIGURE: Artifact(("evaluate",), f"{RUNTIMES} as bars"),
    CONFUSION: Artifact(("evaluate",), "test images by class (row) and answer (column)"),
    CONFUSION_FIGURE: Artifact(("evaluate",), f"{CONFUSION} as a heatmap"),
    GROUP_CONFUSION: Artifact(("evaluate",), "test images by group of the class (row) and of the answer (column)"),
    GROUP_CONFUSION_FIGURE: Artifact(("evaluate",), f"{GROUP_CONFUSION} as a heatmap"),
    CONFUSION_IN_GROUPS: Artifact(("evaluate",), "test images answered in their group, by class and answer"),
    CONFUSION_IN_GROUPS_FIGURE: Artifact(("evaluate",), f"{CONFUSION_IN_GROUPS} as heatmaps"),
    VERSION: Artifact(("register",), "parameters, runs and metrics of the registered version"),
    PAGE: Artifact(("report",), "the page, which needs no other file"),
    PROMOTION: Artifact(("promote",), "the candidate beside its base model and the champion: accuracies and costs"),
    SPACE: Artifact(("tune",), "the search space"),
    TRIALS: Artifact(("tune",), "a row a result that the study knows"),
    FRONT: Artifact(("tune",), f"the rows of {TRIALS} that no other dominates"),
    FRONT_FIGURE: Artifact(("tune",), f"{TRIALS} and {FRONT} as accuracy against cost"),
    HYPERVOLUME: Artifact(("tune",), "hypervolume of the front after each trial"),
    HYPERVOLUME_FIGURE: Artifact(("tune",), f"{HYPERVOLUME} as a line"),
    IMPORTANCES: Artifact(("tune",), "share of each parameter in accuracy and cost (PED-ANOVA)"),
    IMPORTANCES_FIGURE: Artifact(("tune",), f"{IMPORTANCES} as bars"),
    SLICES_FIGURE: Artifact(("tune",), "accuracy against each parameter"),
    FIDELITIES: Artifact(("tune",), "rank correlation of accuracies after few and after more epochs"),
    BEST: Artifact(("tune",), "the recommended trial, the rule that chose it, its parameters"),
    CELLS: Artifact(("grouping_study",), "a row a cell: method, groups, ratio, seed, measures"),
    COMPARISONS: Artifact(
        ("grouping_study",), "a row a pair of methods and measure: difference, interval, p-values, verdict"
    ),
    measure_summary("<measure>"): Artifact(("grouping_study",), "a row a method and setting: mean, interval, spread"),
    measure_figure("<measure>"): Artifact(("grouping_study",), f"{measure_summary('<measure>')} with every repeat"),
    CONTENTION: Artifact(
        ("contention",), "a row a repeat, task, way and count: images a second, start, memory, threads"
    ),
    CONTENTION_SUMMARY: Artifact(("contention",), "a row a task, way and count: means over repeats, with intervals"),
    CONTENTION_FIGURE: Artifact(("contention",), f"{CONTENTION_SUMMARY} as images a second"),
    TRACEBACK: Artifact(("any",), "the traceback of an unexpected error"),
}
