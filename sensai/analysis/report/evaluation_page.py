"""The page on an evaluation, from what its runs have logged."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from mlflow.entities import Run

from sensai.analysis.curves import curves
from sensai.analysis.figures import interactive, interactive_matrices
from sensai.analysis.figures.figure_tables import label_of
from sensai.analysis.grouped import Grouped
from sensai.analysis.report.opening import opening, title
from sensai.analysis.report.page import Image, Part, Plot, Table, render_page
from sensai.analysis.report.page_inputs import Logged, table_of
from sensai.analysis.report.yardstick_comparison import Comparison
from sensai.evaluation.accuracy_difference import Difference
from sensai.evaluation.roles import BASE_MODEL, ENSEMBLE, EXPLANATIONS, TITLES
from sensai.runtimes.implementations import RUNTIMES as RUNTIME_PARTS
from sensai.tracking import tags
from sensai.tracking.artifact_names import (
    CALIBRATION,
    COMBINATIONS,
    CONFUSION,
    CONFUSION_IN_GROUPS_FIGURE,
    COUPLING,
    GROUP_CONFUSION,
    GROUPS,
    LAYERS,
    MEMBERS_TABLE,
    RELIABILITY_FIGURE,
    RUNTIMES,
    SIMILARITY,
)
from sensai.tracking.tracking_store import tracking_client

# The shape of figures of matrices.
_SQUARE = "square"


@dataclass(frozen=True)
class _Evaluation:
    """An evaluate run and all runs that it stands on.

    Attributes:
        logged: the artifacts of the store.
        run: the evaluation.
        runs: stage -> run id, of all these runs.
    """

    logged: Logged
    run: Run
    runs: Mapping[str, str]

    @classmethod
    def of(cls, evaluate_run: str, tracking_uri: str) -> "_Evaluation":
        logged = Logged(tracking_client(tracking_uri))
        run = logged.client.get_run(evaluate_run)
        upstream = {
            key.removeprefix(tags.UPSTREAM): value
            for key, value in run.data.tags.items()
            if key.startswith(tags.UPSTREAM)
        }
        return cls(logged, run, upstream | {"evaluate": evaluate_run})

    def artifacts(self, stage: str) -> set[str]:
        """Return the names of the artifacts of a stage's run."""
        return self.logged.artifacts(self.runs[stage])

    def reading(self, stage: str, name: str) -> AbstractContextManager[bytes]:
        """Open an artifact of a stage's run; its content is read within the block."""
        return self.logged.reading(self.runs[stage], name)


def render(
    evaluate_run: str,
    tracking_uri: str,
    yardstick_runs: Mapping[str, str],
    commands: Mapping[str, str],
    parameters: Mapping[str, str],
) -> str:
    """Return the page on one evaluate run, as HTML without references to other files or hosts.

    Args:
        evaluate_run: what the page is about.
        tracking_uri: of the store that holds it.
        yardstick_runs: name of a yardstick -> its evaluate run.
        commands: the next command after the verdict (see `Comparison.verdict`).
        parameters: name of a parameter -> its meaning.

    Raises:
        IncomparableError: a run has no answers, or a yardstick is on other data.
        DamagedError: an artifact of a run cannot be read.
    """
    evaluation = _Evaluation.of(evaluate_run, tracking_uri)
    comparison = Comparison.of(evaluate_run, yardstick_runs, tracking_uri)
    parts: list[Part] = [*_comparisons(comparison), *_tables(evaluation), *_figures(evaluation)]
    links = [evaluation.logged.link(stage, run_id) for stage, run_id in evaluation.runs.items()]
    for name, run_id in yardstick_runs.items():
        links.append(evaluation.logged.link(f"evaluate of the {TITLES[name]}", run_id))
    config = json.loads(evaluation.run.data.tags.get(tags.CONFIG, "{}"))
    return render_page(
        title(evaluation.run, comparison.role),
        [
            f"evaluated {pd.Timestamp(evaluation.run.info.start_time, unit='ms'):%Y-%m-%d %H:%M} UTC",
            f"run {evaluate_run}",
        ],
        opening(comparison, commands),
        parts,
        links,
        config,
        parameters,
    )


def _comparisons(comparison: Comparison) -> Iterator[Table]:
    networks = (
        "One row per network. An ensemble on one machine costs what its own row says; with a machine for each member an answer "
        "takes as long as the slowest member. The largest member's row has the most parameters, FLOPs and time of any."
    )
    hovers = {TITLES.get(name, name): meaning for name, meaning in EXPLANATIONS.items()}
    hovers["largest member"] = "the most parameters, FLOPs and time of any member, not always of the same one"
    summary = comparison.summary().reset_index()
    accuracies = ["accuracy", "top5_accuracy"]
    summary[accuracies] = summary[accuracies].apply(pd.to_numeric)
    yield Table("Base model and ensemble", networks, summary, hovers=hovers)
    differences = (
        "One row per comparison on the same test images. Above zero the first network is more accurate; an interval that "
        "includes zero leaves open which one is."
    )
    rows = [
        (f"{TITLES[ENSEMBLE]} - {TITLES[name]}", f"{100 * each.difference:+.2f}", _interval(each))
        for name, each in comparison.differences.items()
    ]
    frame = pd.DataFrame(rows, columns=["compared", "difference", "95 % interval"])
    yield Table(
        "Differences in accuracy", differences, frame, full=comparison.gains().rename_axis("compared").reset_index()
    )


def _interval(difference: Difference) -> str:
    return f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"


def _tables(evaluation: _Evaluation) -> Iterator[Table]:
    there = evaluation.artifacts("evaluate")
    # Earlier versions did not log all of them.
    if COMBINATIONS in there:
        yield _combinations(evaluation)
    if RUNTIMES in there:
        yield _runtimes(evaluation)
    if MEMBERS_TABLE in there:
        reading = (
            "One row per member, judged on test images by how well it tells its own classes from all others. Sort by balanced "
            "accuracy to find the weakest."
        )
        yield Table("Members", reading, evaluation.logged.table(evaluation.runs["evaluate"], MEMBERS_TABLE))


def _combinations(evaluation: _Evaluation) -> Table:
    """Return the ways to combine outputs, the one in use marked where it was logged."""
    table = evaluation.logged.table(evaluation.runs["evaluate"], COMBINATIONS)
    shown = table.copy()
    if CALIBRATION in evaluation.artifacts("evaluate"):
        with evaluation.reading("evaluate", CALIBRATION) as content:
            used = json.loads(content)["method"]
        shown["combine"] = table["combine"].where(table["combine"] != used, f"{used} (in use)")
    asked = json.loads(evaluation.run.data.tags.get(tags.CONFIG, "{}")).get("combine")
    why = (
        "The one in use was asked for."
        if asked
        else "The one in use has the lowest validation log-likelihood loss: it was chosen without the test images, so another "
        "may be more accurate on them."
    )
    reading = (
        f"One row per way to make one answer of the members' outputs. {why} Validation numbers are cross-fitted: each image is "
        "judged by a fit without it."
    )
    return Table("Combination of outputs", reading, shown, full=table)


def _runtimes(evaluation: _Evaluation) -> Table:
    table = evaluation.logged.table(evaluation.runs["evaluate"], RUNTIMES)
    reading = (
        "One row per network, runtime and number of threads, in the evaluation of this ensemble; yardsticks were timed in "
        "their own. The fastest row of each network was then timed anew: those are the times on the first screen. A runtime is "
        "a way to run the networks; point at its name for its meaning."
    )
    hovers = {name: RUNTIME_PARTS[name].help for name in table["runtime"].unique() if name in RUNTIME_PARTS}
    return Table("Runtimes", reading, table.replace({"network": _TIMED}), hovers=hovers, full=table)


def _figures(evaluation: _Evaluation) -> Iterator[Plot | Image]:
    """Yield the figures that were logged, in the order of `_PLOTS` and `_IMAGES`."""
    there = {stage: evaluation.artifacts(stage) for stage in ("activations", "prune", "evaluate")}
    for stage, name, heading, reading, draw, shape in _PLOTS:
        if name in there[stage]:
            with evaluation.reading(stage, name) as content:
                figure = draw(content)
            yield Plot(heading, reading, [figure], content, shape)
    yield _coupling(evaluation)
    yield from _learning_curves(evaluation)
    for name, heading, reading in _IMAGES:
        if name in there["evaluate"]:
            yield Image(heading, reading, evaluation.logged.content(evaluation.runs["evaluate"], name))


def _coupling(evaluation: _Evaluation) -> Plot:
    with evaluation.reading("group", GROUPS) as text:
        grouped = Grouped.from_json(text)
    with evaluation.reading("group", COUPLING) as content:
        matrix, _ = _matrix(content)
        figure = interactive_matrices.coupling_heatmap(matrix, grouped.class_names, grouped.groups, grouped.order)
    reading = (
        "The stronger a colour, the more channels both of its classes can do without, and the better they fit into one group. "
        "Similar classes stand beside each other; the strips have one colour per group. The diagonal, each class with itself, "
        "is above the scale of colours."
    )
    return Plot("Coupling", reading, [figure], content, _SQUARE)


def _learning_curves(evaluation: _Evaluation) -> Iterator[Plot]:
    """Yield the learning curves if members were retrained."""
    if (retrain_run := evaluation.runs.get("retrain")) is None:
        return
    uri = evaluation.logged.client.tracking_uri
    table = curves([retrain_run], tracking_uri=uri)
    if table.empty:
        return
    # With a joint loss there is one accuracy of all classes together; without validation data there is only the loss.
    measure = next(name for name in ("balanced_accuracy", "accuracy", "train_loss") if name in table)
    figure = interactive.learning_curves(table, measure)
    where = "training" if measure == "train_loss" else "validation"
    reading = (
        f"One line per member: its {label_of(measure)} on {where} images after each epoch. Members with a joint loss are "
        "measured together and share a line. A cross marks the last epoch."
    )
    yield Plot("Learning curves", reading, [figure], table.to_csv(index=False).encode())


def _matrix(content: bytes) -> tuple[np.ndarray, list[str]]:
    """Return a matrix and the names of its columns; two names may be the same."""
    text = io.StringIO(content.decode())
    names = next(csv.reader(text))
    return pd.read_csv(text, header=None).to_numpy(), names


def _confusion(content: bytes) -> go.Figure:
    return interactive_matrices.confusion(*_matrix(content))


def _similarity(content: bytes) -> go.Figure:
    return interactive_matrices.heatmap(*_matrix(content), "%{z:.3f}")


def _of_table(draw: Callable[[pd.DataFrame], go.Figure]) -> Callable[[bytes], go.Figure]:
    return lambda content: draw(table_of(content))


# Networks in the table of runtimes -> what the page calls them.
_TIMED = {"base": TITLES[BASE_MODEL], "ensemble": TITLES[ENSEMBLE], "member": "largest member"}
# An entry is stage, artifact, title, how to read it, the function that draws the figure, and its shape.
_PLOTS = (
    (
        *("evaluate", MEMBERS_TABLE, "Accuracy and size"),
        "Two marks per member: up is more accurate, left is smaller. With one machine for each member an ensemble is as slow "
        "as its largest member.",
        *(_of_table(interactive.members), ""),
    ),
    (
        *("prune", LAYERS, "Widths"),
        "One row per member, one column per site: a layer that can lose channels, from input to output. The number is that of "
        "the channels that the member keeps; the stronger the colour, the larger their share.",
        *(_of_table(interactive_matrices.widths), ""),
    ),
    (
        *("evaluate", CONFUSION, "Confusion"),
        "One row per class, one column per answer, in numbers of test images. Errors are coloured; right answers stand on the "
        "grey diagonal.",
        *(_confusion, _SQUARE),
    ),
    (
        *("evaluate", GROUP_CONFUSION, "Confusion between groups"),
        "The row is the group of the class, the column the group of the answer, in numbers of test images. In a coloured cell "
        "the answer came from another member than the one that knows the class.",
        *(_confusion, _SQUARE),
    ),
    (
        *("activations", SIMILARITY, "Similarity"),
        "The stronger a colour, the more alike two classes use the channels of the base model: the correlation of how often "
        "each channel is zero (APoZ, the average percentage of zeros). The diagonal is above the scale.",
        *(_similarity, _SQUARE),
    ),
)
# An entry is artifact, title and how to read it.
_IMAGES = (
    (
        CONFUSION_IN_GROUPS_FIGURE,
        "Confusion in groups",
        "One panel per group, with the test images answered in the right group: one row per class, one column per answer.",
    ),
    (
        RELIABILITY_FIGURE,
        "Reliability",
        "One panel per way to combine outputs: accuracy against the largest probability. On the grey diagonal probabilities "
        "are honest; below it they promise too much. The larger a mark, the more images it stands for; few images scatter.",
    ),
)
