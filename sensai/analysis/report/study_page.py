"""The page on a study, from what its run of `tune` has logged."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from mlflow.entities import Run

from sensai.analysis.figures import interactive_tuning
from sensai.analysis.figures.figure_tables import accuracy_column
from sensai.analysis.report.page import Part, Plot, Table, Text, render_page
from sensai.analysis.report.page_inputs import Logged, table_of
from sensai.analysis.rounding import rounded_accuracy
from sensai.tracking import tags
from sensai.tracking.artifact_names import BEST, FIDELITIES, FRONT, HYPERVOLUME, IMPORTANCES, SPACE, TRIALS
from sensai.tracking.tracking_store import tracking_client

_ASKED = ("objective", "mode", "limit", "min_val_accuracy", "max_accuracy_drop", "trials", "fidelities", "warm_start")


@dataclass(frozen=True)
class _Study:
    """A run of `tune` and its artifacts.

    Attributes:
        logged: the artifacts of the store.
        run: the run of `tune`.
    """

    logged: Logged
    run: Run

    @cached_property
    def config(self) -> dict[str, Any]:
        """Return the parameters of the run."""
        return json.loads(self.run.data.tags[tags.CONFIG])

    @property
    def cost(self) -> str:
        """Return the label of the cost."""
        return f"{self.config['objective']} as a share of the base model's"

    @cached_property
    def base_accuracy(self) -> float:
        """Return the accuracy of the base model on validation data."""
        return self.run.data.metrics["base_val_accuracy"]

    def reading(self, name: str) -> AbstractContextManager[bytes]:
        """Open an artifact of the run; its content is read within the block."""
        return self.logged.reading(self.run.info.run_id, name)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table that the run logged as CSV."""
        return self.logged.table(self.run.info.run_id, name)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """Return every result that the study knows."""
        return self.table(TRIALS)

    @cached_property
    def front(self) -> pd.DataFrame:
        """Return the trials that no other dominates."""
        return self.table(FRONT)


def render(tune_run: str, tracking_uri: str) -> str:
    """Return the page on the study of one run of `tune`, as HTML without references to other files or hosts.

    Args:
        tune_run: a finished run of `tune`.
        tracking_uri: of the store that holds it.

    Raises:
        DamagedError: an artifact of the run cannot be read.
    """
    logged = Logged(tracking_client(tracking_uri))
    study = _Study(logged, logged.client.get_run(tune_run))
    found = _figures(study) if len(study.trials) else ()
    links = [logged.link("tune", tune_run)]
    links += [
        logged.link(key.removeprefix(tags.UPSTREAM), run_id)
        for key, run_id in study.run.data.tags.items()
        if key.startswith(tags.UPSTREAM)
    ]
    return render_page(
        study.run.info.run_name, [_asked(study), _space(study), _found(study), *found], links, study.config
    )


def _asked(study: _Study) -> Text:
    given = [f"{name}={value}" for name in _ASKED if (value := study.config.get(name)) not in (None, "")]
    run_tags = study.run.data.tags
    return Text(
        "What was asked",
        [
            f"Study {run_tags[tags.STUDY]!r} of {run_tags[tags.DATASET]} and {run_tags[tags.ARCH]}: accuracy on validation "
            f"data, and {study.cost}.",
            f"{', '.join(given)}.",
        ],
    )


def _space(study: _Study) -> Table:
    with study.reading(SPACE) as content:
        rows = [(name, *_described(entry)) for name, entry in json.loads(content).items()]
    return Table("What was searched", pd.DataFrame(rows, columns=["parameter", "values", "when"]))


def _described(entry: Sequence[Any] | Mapping[str, Any]) -> tuple[str, str]:
    """Describe the values of a parameter and the condition under which it exists."""
    if not isinstance(entry, Mapping):
        return _listed(entry), ""
    if "choices" in entry:
        values = _listed(entry["choices"])
    else:
        step = f" in steps of {entry['step']}" if entry.get("step") else ""
        values = f"{entry['low']} to {entry['high']}{step}{', logarithmic' if entry.get('log') else ''}"
    return values, ", ".join(_condition(other, wanted) for other, wanted in (entry.get("when") or {}).items())


def _condition(other: str, wanted: Any) -> str:
    if isinstance(wanted, Mapping):
        return f"{other} above {wanted['above']}"
    return f"{other} is {' or '.join(map(str, wanted if isinstance(wanted, list) else [wanted]))}"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def _found(study: _Study) -> Text:
    with study.reading(BEST) as content:
        return Text("What came out", list(_told(json.loads(content), study)))


def _told(best: Mapping[str, Any], study: _Study) -> Iterator[str]:
    """Yield the content of best.json in sentences."""
    logged = int((study.trials["source"] == "logged").sum())
    yield f"{len(study.trials)} results, {logged} of them logged before; {len(study.front)} on the front."
    if "reason" in best:
        yield f"Nothing is recommended: {best['reason']}."
        return
    rule = best["rule"]
    verdict = f"is {rule}" if best["within"] else f"comes nearest: nothing is within what was asked for ({rule})"
    accuracy = accuracy_column(study.trials)
    yield (
        f"Trial {best['trial']} (run {best['run_id']}) {verdict}. Its accuracy on validation data ({accuracy}) is "
        f"{rounded_accuracy(best[accuracy])}, that of the base model "
        f"{rounded_accuracy(best['base_val_accuracy'])}, a drop of "
        f"{best['accuracy_drop']:.4f}; its {best['objective']} is {best['cost']:.4f} of the base model's, its largest member "
        f"has {best['flops_speedup']:.2f} times fewer FLOPs."
    )
    yield f"Its configuration: {', '.join(_configuration(best, study.trials))}."
    if "version" in study.run.data.metrics:
        version = int(study.run.data.metrics["version"])
        yield f"It was evaluated and registered as version {version} of {study.config['model_name']}."


def _configuration(best: Mapping[str, Any], trials: pd.DataFrame) -> list[str]:
    """Return the values of the searched parameters that the recommended trial has."""
    (row,) = trials[trials["trial"] == best["trial"]].filter(like="params.").dropna(axis="columns").to_dict("records")
    names = ["epochs", *(str(name).removeprefix("params.") for name in row)]
    return [f"{name}={best['parameters'][name]}" for name in dict.fromkeys(names)]


def _figures(study: _Study) -> Iterator[Part]:
    """Yield the figures and tables of a study with trials."""
    trials, best = study.trials, study.front
    figure = interactive_tuning.front(trials, best, study.base_accuracy, study.cost)
    yield _plot(study, "Accuracy and cost", "A point a trial; the line is the front", TRIALS, lambda _: figure)
    yield Table("Front", best, links=study.logged.links(best["run_id"]))
    note = "What the front dominates after each trial, accuracy times cost"
    yield _plot(study, "Hypervolume", note, HYPERVOLUME, interactive_tuning.hypervolume)
    weights = study.table(IMPORTANCES)
    if len(weights):
        note, objective = "How much each parameter matters, as shares (PED-ANOVA)", study.config["objective"]
        yield _plot(
            study,
            *("Importances", note, IMPORTANCES),
            lambda table: interactive_tuning.importances(table, objective),
        )
    yield _plot(
        study,
        *("Accuracy by parameter", "A point a trial that has the parameter, coloured by cost", TRIALS),
        lambda table: interactive_tuning.slices(table, study.cost),
    )
    correlations = study.table(FIDELITIES)
    if len(correlations):
        yield Table("Rank correlations of fidelities", correlations)
    yield Table("Trials", trials, links=study.logged.links(trials["run_id"]))


def _plot(study: _Study, title: str, note: str, name: str, draw: Callable[[pd.DataFrame], go.Figure]) -> Plot:
    with study.reading(name) as content:
        return Plot(title, f"{note} (run {study.run.info.run_id})", draw(table_of(content)), content)
