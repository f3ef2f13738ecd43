"""The accuracy that stop rules give up, and the epochs that they save: fitted on half of the ensembles, measured on the others.

The yardstick is the same member trained by the one-cycle schedule to its end. Rules of that schedule are replayed on it (see
`sensai.analysis.replayed_rules`). With the schedule `warmup_stable_decay` a stop begins a decay, which the curve of a longer
training does not show. But until its decay a training equals all longer ones. So trainings of fewer epochs give the accuracy
after a stop.
"""

import json
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from sensai.analysis.replayed_rules import PATIENCE, RULES, Setting, Trainings, plateau
from sensai.analysis.resampling import percentile_interval, resampled

ONE_CYCLE, WITH_DECAY = "one_cycle", "warmup_stable_decay"
METRIC = "balanced_accuracy"
COLUMNS = ("schedule", "epochs", "decay_epochs", "seed", "member", "epoch", METRIC)
_MEMBER, _RULE = ["seed", "member"], ["rule", "setting"]
_CONFIDENCE, _QUANTILE = 0.95, 0.95

# (Schedule, most epochs) -> a row (seed, member), a column an epoch.
Tables = Mapping[tuple[str, int], pd.DataFrame]
# Rule, setting, the epochs that each member is trained, and its best value in them.
Stops = Iterator[tuple[str, Setting, "pd.Series[int]", "pd.Series[float]"]]


def replays(trainings: pd.DataFrame) -> pd.DataFrame:
    """Apply every rule with every setting to every member.

    Args:
        trainings: a row an epoch of a member, with the columns `COLUMNS`: schedule, epochs (most, as configured), decay_epochs,
            seed (of the ensemble), member, epoch (from 0), and the metric. Rules are replayed on the longest trainings by the
            one-cycle schedule, at least two ensembles. Trainings of several lengths are compared where a member has them all.

    Returns:
        Columns rule, setting (JSON), seed, member, fitted (True for every second ensemble, on which settings are chosen), saved
        (share of the epochs), given_up (fraction; negative where a member gains).
    """
    tables = _tables(trainings)
    most = max(epochs for schedule, epochs in tables if schedule == ONE_CYCLE)
    full = tables[ONE_CYCLE, most]
    seeds = full.index.unique("seed")
    fitted = dict(zip(seeds, np.arange(len(seeds)) % 2 == 0, strict=True))
    stops = [*_of_one_training(full, fitted), *_of_lengths(tables, int(trainings["decay_epochs"].max()))]
    frames = [
        pd.DataFrame({"saved": 1 - run / most, "given_up": full.max(axis=1).loc[value.index] - value})
        .reset_index()
        .assign(rule=rule, setting=json.dumps(setting))
        for rule, setting, run, value in stops
    ]
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(fitted=frame["seed"].map(fitted))[[*_RULE, *_MEMBER, "fitted", "saved", "given_up"]]


def _tables(trainings: pd.DataFrame) -> Tables:
    keys = set(zip(trainings["schedule"].tolist(), trainings["epochs"].tolist(), strict=True))
    return {
        (schedule, epochs): trainings[
            (trainings["schedule"] == schedule) & (trainings["epochs"] == epochs)
        ].pivot_table(METRIC, index=_MEMBER, columns="epoch")
        for schedule, epochs in keys
    }


def _arrays(table: pd.DataFrame) -> Trainings:
    return Trainings(table.index.get_level_values("seed").to_numpy(), table.to_numpy())


def _of_one_training(full: pd.DataFrame, fitted: Mapping[int, bool]) -> Stops:
    """Yield the stops of rules that are replayed on the longest trainings."""
    judged = _arrays(full)
    known = _arrays(full[full.index.get_level_values("seed").map(fitted).to_numpy(bool)])
    for rule in RULES:
        for setting in rule.settings:
            run = rule.epochs_run(judged, known, **setting)
            value = judged.best[np.arange(len(run)), run - 1]
            yield rule.name, setting, pd.Series(run, full.index), pd.Series(value, full.index)


def _of_lengths(tables: Tables, decay_epochs: int) -> Stops:
    """Yield the stops for which the accuracy of shorter trainings is needed: each is trained to the end of its schedule."""
    lengths = sorted(epochs for schedule, epochs in tables if schedule == WITH_DECAY)
    if not lengths:
        return
    common = sorted(set.intersection(*(set(table.index) for table in tables.values())))
    best = {key: table.loc[common].max(axis=1) for key, table in tables.items()}
    for schedule, name in ((ONE_CYCLE, "one cycle of fewer epochs"), (WITH_DECAY, "decay after fixed epochs")):
        for epochs in lengths:
            yield name, {"epochs": epochs}, pd.Series(epochs, best[schedule, epochs].index), best[schedule, epochs]
    stable = _arrays(tables[WITH_DECAY, lengths[-1]].loc[common].iloc[:, :-decay_epochs])
    for setting in PATIENCE:
        needed = plateau(stable, stable, int(setting["patience"]), setting["min_gain"]) + decay_epochs
        # The next length that was trained stands for a stop between two.
        run = np.array(lengths)[np.searchsorted(lengths, needed)]
        value = [best[WITH_DECAY, epochs].iloc[member] for member, epochs in enumerate(run)]
        index = best[WITH_DECAY, lengths[-1]].index
        yield "decay after patience", setting, pd.Series(run, index), pd.Series(value, index)


def measured(replayed: pd.DataFrame) -> pd.DataFrame:
    """Return what each setting saves and gives up, on the half that it is fitted on and on the other.

    Args:
        replayed: as `replays` returns it.

    Returns:
        A row a rule and setting: columns rule, setting, fit_saved, fit_given_up (means over the fitted members), members
        (number of the others), saved, given_up (their means), given_up_95 (their 95th percentile). Rules without members in one
        half are left out.
    """
    fitted, others = (
        rows.groupby(_RULE, sort=False) for rows in (replayed[replayed["fitted"]], replayed[~replayed["fitted"]])
    )
    frame = pd.DataFrame(
        {
            "fit_saved": fitted["saved"].mean(),
            "fit_given_up": fitted["given_up"].mean(),
            "members": others.size(),
            "saved": others["saved"].mean(),
            "given_up": others["given_up"].mean(),
            "given_up_95": others["given_up"].quantile(_QUANTILE),
        }
    )
    return frame.dropna().astype({"members": "int64"}).reset_index()


def fronts(settings: pd.DataFrame) -> pd.DataFrame:
    """Return the settings of each rule that no other of its settings beats on the fitted half, by the epochs that they save.

    Args:
        settings: as `measured` returns them.
    """
    ordered = settings.sort_values(["rule", "fit_saved", "fit_given_up"], ascending=[True, False, True], kind="stable")
    least = ordered.groupby("rule")["fit_given_up"].cummin()
    earlier = least.groupby(ordered["rule"]).shift(fill_value=np.inf)
    return ordered[ordered["fit_given_up"] < earlier].sort_values(["rule", "fit_saved"], ignore_index=True)


def chosen(replayed: pd.DataFrame, most_given_up: float) -> pd.DataFrame:
    """Return for each rule the setting that saves most on the fitted half while it gives up little there.

    Args:
        replayed: as `replays` returns it.
        most_given_up: the largest mean on the fitted half (fraction).

    Returns:
        The columns of `measured`, and low and high: the 95 % interval of given_up, a bootstrap over the ensembles that were not
        fitted on. Rules without such a setting are missing. The rule that saves most on the fitted half comes first.
    """
    settings = measured(replayed)
    within = settings[settings["fit_given_up"] <= most_given_up]
    best = within.sort_values("fit_saved", ascending=False, kind="stable").drop_duplicates("rule")
    others = replayed[~replayed["fitted"]].groupby([*_RULE, "seed"])["given_up"].mean()
    intervals = [
        _interval(others.loc[rule, setting].to_numpy())
        for rule, setting in zip(best["rule"], best["setting"], strict=True)
    ]
    low, high = zip(*intervals, strict=True) if intervals else ((), ())
    return best.assign(low=low, high=high).reset_index(drop=True)


def _interval(means: np.ndarray) -> tuple[float, float]:
    """Return the interval of the mean over ensembles; NaN for fewer than two."""
    if len(means) < 2:
        return np.nan, np.nan
    return percentile_interval(resampled((means,), np.mean, seed=0), _CONFIDENCE)
