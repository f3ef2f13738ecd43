"""Every retraining in one row: its parameters, its place in a study, its pruning and its latest evaluation."""

import json

import pandas as pd

from sensai.analysis import runs
from sensai.analysis.runs.run_roles import role_of

# A table without rows has these types too. Counts are NA in runs that are older than their parameter or metric.
_CONFIG = {
    **dict.fromkeys(("arch", "dataset", "method"), "str"),
    "n_groups": "Int64",
    "policy": "str",
    "ratio": "float64",
    "target_flops": "float64",
    **dict.fromkeys(("target_of", "ranking", "scope", "criterion", "loss"), "str"),
    "kd_weight": "float64",
    "balance": "str",
    **dict.fromkeys(("cut_steps", "cut_epochs", "epochs"), "Int64"),
    "lr": "float64",
    "batch_size": "Int64",
    "patience": "Int64",
    "min_gain": "float64",
    "target": "float64",
    "budget": "str",
    "seed": "Int64",
}
_PRUNED = dict.fromkeys(("members", "params_max", "params_total", "flops_base", "flops_max", "flops_total"), "Int64")
_RETRAINED = {"train_images": "Int64", "val_accuracy": "float64", "seconds": "float64", "epochs_saved": "Int64"}
_EVALUATED = {"accuracy": "float64", "base_accuracy": "float64"}
_PLACED = dict.fromkeys(("precision", "device", "commit", "study", "cell"), "str")
_COLUMNS = {
    "run_id": "str",
    "start": "datetime64[ms, UTC]",
    "role": "str",
    **_CONFIG,
    **_PLACED,
    **_PRUNED,
    **_RETRAINED,
    "combination": "str",
    **_EVALUATED,
    "evaluate_run": "str",
}
# Column -> its name in the joined tables of stage runs, which keep their own names.
_SOURCES = {
    "run_id": "run_id",
    "start": "start",
    **{name: f"config.{name}" for name in _CONFIG},
    **{name: f"place.{name}" for name in _PLACED},
    **{name: f"prune.metrics.{name}" for name in _PRUNED},
    **{name: f"metrics.{name}" for name in _RETRAINED},
    "combination": "evaluate.combination",
    **{name: f"evaluate.metrics.{name}" for name in _EVALUATED},
    "evaluate_run": "evaluate.run_id",
}
# Column of a metric of test data that each way to combine outputs has, before the name of the way.
_COMBINED = "metrics.nll_"


def retrainings() -> pd.DataFrame:
    """Return the finished retrain runs, newest first, each with its pruning and its latest evaluation.

    Returns:
        Columns run_id, start (UTC); role (see `role_of`); parameters as configured; precision (fp32 or bf16, as chosen), device
        (cpu or cuda), commit (of the code), study, cell (JSON: the places in the study that this training serves, or its
        trial); members, params and FLOPs (2 x multiply-accumulates) of the prune run; train_images, val_accuracy, seconds,
        epochs_saved; combination, accuracy, base_accuracy (test split, fractions) and evaluate_run, which are missing where
        there is no evaluation. Whatever a run did not log is missing.
    """
    pruned = runs.stage_runs("prune", wide=True).add_prefix("prune.")
    evaluated = _evaluated().drop_duplicates("upstream.retrain").add_prefix("evaluate.")
    joined = (
        _stage_runs("retrain", "upstream.prune")
        .merge(pruned, how="left", left_on="upstream.prune", right_on="prune.run_id")
        .merge(evaluated, how="left", left_on="run_id", right_on="evaluate.upstream.retrain")
        .merge(_places().add_prefix("place."), how="left", left_on="run_id", right_on="place.run_id")
    )
    configured = joined.get("config.precision", pd.Series(index=joined.index, dtype="str"))
    joined["place.precision"] = configured.mask(configured == "auto", joined["place.precision"])
    table = joined.reindex(columns=list(_SOURCES.values())).set_axis(list(_SOURCES), axis=1)
    return table.assign(role=role_of(table))[list(_COLUMNS)].astype(_COLUMNS)


def _places() -> pd.DataFrame:
    """Return how and where retrain runs ran: columns run_id and those of `_PLACED`; the precision only if it was measured."""
    logged = runs.overview(wide=True)
    own = logged[logged["stage"] == "retrain"].drop(columns="cell")
    trials = own["trial"].map(lambda number: json.dumps([{"trial": int(number)}]), na_action="ignore")
    # Cells of several places may share a training.
    cells = logged[logged["stage"] == "cell"].groupby("retrain_run")["cell"].agg(lambda each: f"[{', '.join(each)}]")
    return own.assign(cell=own["run_id"].map(cells).fillna(trials))[["run_id", *_PLACED]]


def _evaluated() -> pd.DataFrame:
    """Return the evaluate runs with the way in which each combines outputs.

    Its metrics stand twice, with its name and without.
    """
    frame = _stage_runs("evaluate", "upstream.retrain")
    combination = pd.Series(index=frame.index, dtype="str")
    chosen, validated = _metric(frame, "nll"), _metric(frame, "val_nll")
    names = [column.removeprefix(_COMBINED) for column in frame.columns if column.startswith(_COMBINED)]
    for name in names:
        # Without validation data there are metrics of test data alone.
        same = _metric(frame, f"val_nll_{name}").fillna(-1) == validated.fillna(-1)
        combination = combination.mask(same & (_metric(frame, f"nll_{name}") == chosen), name)
    return frame.assign(combination=combination)


def _metric(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame.get(f"metrics.{name}", pd.Series(index=frame.index, dtype="float64"))


def _stage_runs(stage: str, upstream: str) -> pd.DataFrame:
    """Return `runs.stage_runs` with the column of an upstream stage, which it lacks if there is no run."""
    frame = runs.stage_runs(stage, wide=True)
    return frame.assign(**{upstream: frame.get(upstream, pd.Series(dtype="str"))})
