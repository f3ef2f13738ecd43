"""The page on a study, from what its run of `tune` has logged."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from mlflow.entities import Run

from sensai.analysis.figures import interactive_tuning
from sensai.analysis.figures.figure_tables import accuracy_column, parameter_columns, parameter_name
from sensai.analysis.report.column_words import in_percent
from sensai.analysis.report.page import Number, Opening, Part, Plot, Table, Text, render_page
from sensai.analysis.report.page_inputs import Logged, table_of
from sensai.tracking import tags
from sensai.tracking.artifact_names import BEST, FIDELITIES, FRONT, HYPERVOLUME, IMPORTANCES, SPACE, TRIALS
from sensai.tracking.tracking_store import tracking_client

_ASKED = ("objective", "mode", "limit", "min_val_accuracy", "max_accuracy_drop", "trials", "fidelities", "warm_start")

_COSTS = {
    "flops_max": "FLOPs of the largest member",
    "flops_total": "FLOPs of all members",
    "latency": "time of the slowest member",
}
# The columns of the tables of trials, besides the accuracy that the study ranks by. One column tells their configurations.
_FIRST, _LAST = (
    ("trial", "run_id", "source"),
    ("cost", "flops_max", "flops_total", "flops_speedup", "members", "epochs"),
)


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
        return f"{self.measured}, as a share of the base model's"

    @property
    def measured(self) -> str:
        """Return what the cost is, in words."""
        objective = self.config["objective"]
        return _COSTS.get(objective, objective)

    @cached_property
    def base_accuracy(self) -> float:
        """Return the accuracy of the base model on validation data."""
        return self.run.data.metrics["base_val_accuracy"]

    def reading(self, name: str) -> AbstractContextManager[bytes]:
        """Open an artifact of the run; its content is read within the block."""
        return self.logged.reading(self.run.info.run_id, name)

    def content(self, name: str) -> bytes:
        """Return the content of an artifact of the run."""
        return self.logged.content(self.run.info.run_id, name)

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


def render(tune_run: str, tracking_uri: str, parameters: Mapping[str, str]) -> str:
    """Return the page on the study of one run of `tune`, as HTML without references to other files or hosts.

    Args:
        tune_run: a finished run of `tune`.
        tracking_uri: of the store that holds it.
        parameters: name of a parameter -> its meaning.

    Raises:
        DamagedError: an artifact of the run cannot be read.
    """
    logged = Logged(tracking_client(tracking_uri))
    study = _Study(logged, logged.client.get_run(tune_run))
    figures = _figures(study) if len(study.trials) else ()
    links = [logged.link("tune", tune_run)]
    links += [
        logged.link(key.removeprefix(tags.UPSTREAM), run_id)
        for key, run_id in study.run.data.tags.items()
        if key.startswith(tags.UPSTREAM)
    ]
    run_tags = study.run.data.tags
    return render_page(
        f"Search for small ensembles of {run_tags[tags.ARCH]} on {Path(run_tags[tags.DATASET]).name}",
        [study.run.info.run_name, f"study {run_tags[tags.STUDY]}"],
        _opening(study),
        [_asked(study), _space(study), *figures],
        links,
        study.config,
        parameters,
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
    reading = "One row per parameter that the study chose, with the values among which it chose."
    return Table("What was searched", reading, pd.DataFrame(rows, columns=["parameter", "values", "when"]))


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


def _opening(study: _Study) -> Opening:
    with study.reading(BEST) as content:
        best = json.loads(content)
        sentences, numbers = list(_told(best, study)), list(_numbers(best, study))
    return Opening("What came out", sentences, numbers=numbers, plot=_front(study) if len(study.trials) else None)


def _numbers(best: Mapping[str, Any], study: _Study) -> Iterator[Number]:
    """Yield the number of results, and three numbers of the recommended trial if there is one."""
    yield Number("Results", f"{len(study.trials)}", f"{len(study.front)} of them on the front")
    if "reason" in best:
        return
    accuracy, base = best[accuracy_column(study.trials)], best["base_val_accuracy"]
    note = f"base model {in_percent(base)}: {100 * (accuracy - base):+.1f} points"
    yield Number("Accuracy on validation images", in_percent(accuracy), note)
    yield Number("Cost", in_percent(best["cost"]), study.cost)
    yield Number("FLOPs of the largest member", f"{best['flops_speedup']:.1f}x fewer", "than those of the base model")


def _told(best: Mapping[str, Any], study: _Study) -> Iterator[str]:
    """Yield the content of best.json in sentences, the most important one first."""
    logged = int((study.trials["source"] == "logged").sum())
    results = f"{len(study.trials)} results, {logged} of them logged before; {len(study.front)} on the front."
    if "reason" in best:
        yield f"Nothing is recommended: {best['reason']}."
        yield results
        return
    rule = best["rule"]
    verdict = f"is {rule}" if best["within"] else f"comes nearest: nothing is within what was asked for ({rule})"
    accuracy = accuracy_column(study.trials)
    yield f"Trial {best['trial']} {verdict}."
    yield (
        f"Its accuracy on validation data ({accuracy}) is "
        f"{in_percent(best[accuracy])}, that of the base model {in_percent(best['base_val_accuracy'])}, a drop of "
        f"{100 * best['accuracy_drop']:.1f} points; its {best['objective']} is {in_percent(best['cost'])} of the base model's, "
        "its largest member "
        f"has {best['flops_speedup']:.2f} times fewer FLOPs."
    )
    yield f"Its configuration: {', '.join(_configuration(best, study.trials))}. Its run: {best['run_id']}."
    if "version" in study.run.data.metrics:
        version = int(study.run.data.metrics["version"])
        yield f"It was evaluated and registered as version {version} of {study.config['model_name']}."
    yield results


def _configuration(best: Mapping[str, Any], trials: pd.DataFrame) -> list[str]:
    """Return the values of the searched parameters that the recommended trial has."""
    (row,) = trials[trials["trial"] == best["trial"]].filter(like="params.").dropna(axis="columns").to_dict("records")
    names = ["epochs", *(str(name).removeprefix("params.") for name in row)]
    return [f"{name}={best['parameters'][name]}" for name in dict.fromkeys(names)]


def _front(study: _Study) -> Plot:
    reading = (
        "One mark per trial: left is cheaper, up is better. No trial beats those on the line; a star is the base model."
    )
    figure = interactive_tuning.front(study.trials, study.front, study.base_accuracy, study.cost)
    return Plot("Accuracy and cost", reading, [figure], study.content(TRIALS))


def _figures(study: _Study) -> Iterator[Part]:
    """Yield the figures and tables of a study with trials."""
    trials, best = study.trials, study.front
    reading = "One row per trial that no other beats in both accuracy and cost, the cheapest first."
    yield _runs_table(study, "Front", reading, best)
    reading = (
        "The gain of the front after each trial (accuracy times cost). Once the line is flat, more trials help little."
    )
    yield _plot(study, "Hypervolume", reading, HYPERVOLUME, interactive_tuning.hypervolume)
    weights = study.table(IMPORTANCES)
    if len(weights):
        reading = "A long bar: the parameter decides much of the result (PED-ANOVA, as shares)."
        yield _plot(
            study,
            *("Importances", reading, IMPORTANCES),
            lambda table: interactive_tuning.importances(table, study.measured),
        )
    low, high = trials["cost"].min(), trials["cost"].max()
    reading = (
        "One figure per parameter, one mark per trial that has it. Dark marks are cheap, bright ones dear "
        f"({low:.3g} to {high:.3g} of the base model's cost)."
    )
    yield Plot("Accuracy by parameter", reading, interactive_tuning.slices(trials), study.content(TRIALS))
    correlations = study.table(FIDELITIES)
    if len(correlations):
        reading = (
            "Near 1: trials of few epochs rank configurations as long ones do, and save time. Near 0: they mislead."
        )
        yield Table("Rank correlations of fidelities", reading, correlations)
    yield _runs_table(study, "Trials", "One row per result that the study knows. Click a heading to sort.", trials)


def _runs_table(study: _Study, title: str, reading: str, trials: pd.DataFrame) -> Table:
    names = [*_FIRST, accuracy_column(trials), *_LAST]
    told = {
        parameter_name(name): trials[name] for name in parameter_columns(trials) if parameter_name(name) not in names
    }
    rows = pd.DataFrame(told, index=trials.index).to_dict("records")
    shown = trials[[name for name in names if name in trials]].assign(configuration=list(map(_in_a_cell, rows)))
    return Table(title, reading, shown, study.logged.links(trials["run_id"]), full=trials)


def _in_a_cell(configuration: Mapping[Any, Any]) -> str:
    given = {name: value for name, value in configuration.items() if pd.notna(value)}
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in given.items()
    )


def _plot(study: _Study, title: str, reading: str, name: str, draw: Callable[[pd.DataFrame], go.Figure]) -> Plot:
    with study.reading(name) as content:
        return Plot(title, reading, [draw(table_of(content))], content)
