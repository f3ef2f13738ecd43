"""The accuracy that stop rules give up: from trainings whose answers are known, and from real ones."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import stop_rules
from analysis.studies import stop_curves
from sensai.analysis.curves import curves
from sensai.analysis.figures.static_stopping import stop_regret
from sensai.analysis.stop_regret import COLUMNS, METRIC, ONE_CYCLE, WITH_DECAY, chosen, fronts, measured, replays
from sensai.stages import retrain
from tests.analysis.figures.test_static import drawn
from tests.conftest import tiny
from tests.helpers.pipeline import Place

SEEDS, MEMBERS, DECAY, LENGTHS = 6, 5, 2, (4, 6, 8)


def made(seeds: int = SEEDS) -> pd.DataFrame:
    """Return trainings that gain less every epoch; a decay adds 0.05, and the last two seeds have no short trainings."""
    rng = np.random.default_rng(0)
    frames = []
    for seed in range(seeds):
        for member in range(MEMBERS):
            course = np.cumsum(0.2 * 0.5 ** np.arange(LENGTHS[-1])) + 0.4 + rng.normal(0, 0.005, LENGTHS[-1])
            for schedule in (ONE_CYCLE, WITH_DECAY):
                for length in LENGTHS:
                    if seed >= seeds - 2 and (schedule, length) != (ONE_CYCLE, LENGTHS[-1]):
                        continue
                    values = course[:length].copy()
                    values[-DECAY:] += 0.05 * (schedule == WITH_DECAY)
                    keys = {
                        "schedule": schedule,
                        "epochs": length,
                        "decay_epochs": DECAY,
                        "seed": seed,
                        "member": member,
                    }
                    frames.append(pd.DataFrame({**keys, "epoch": range(length), METRIC: values}))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def trainings() -> pd.DataFrame:
    return made()


@pytest.fixture(scope="module")
def replayed(trainings: pd.DataFrame) -> pd.DataFrame:
    return replays(trainings)


def of(replayed: pd.DataFrame, rule: str, **setting: float) -> pd.DataFrame:
    found = replayed[(replayed["rule"] == rule) & (replayed["setting"] == json.dumps(setting))]
    return found.sort_values(["seed", "member"], ignore_index=True)


def values_of(trainings: pd.DataFrame, schedule: str, epochs: int) -> np.ndarray:
    """Return float64 (members, epochs)."""
    rows = trainings[(trainings["schedule"] == schedule) & (trainings["epochs"] == epochs)]
    return rows.sort_values(["seed", "member", "epoch"])[METRIC].to_numpy().reshape(-1, epochs)


def test_a_rule_replayed_on_one_training_is_judged_on_all_members(
    trainings: pd.DataFrame, replayed: pd.DataFrame
) -> None:
    found = of(replayed, "patience", patience=2, min_gain=0.05)
    full = values_of(trainings, ONE_CYCLE, 8)
    assert len(found) == SEEDS * MEMBERS
    for (_, row), curve in zip(found.iterrows(), full, strict=True):
        run = round(8 * (1 - row["saved"]))
        assert row["given_up"] == pytest.approx(curve.max() - curve[:run].max())
    assert found.groupby("seed")["fitted"].first().tolist() == [True, False] * 3


def test_a_shorter_training_is_judged_by_its_own_end(trainings: pd.DataFrame, replayed: pd.DataFrame) -> None:
    """Only members that have trainings of all lengths count."""
    full = values_of(trainings, ONE_CYCLE, 8)[: (SEEDS - 2) * MEMBERS]
    for rule, schedule in (("one cycle of fewer epochs", ONE_CYCLE), ("decay after fixed epochs", WITH_DECAY)):
        found = of(replayed, rule, epochs=6)
        assert found["saved"].tolist() == pytest.approx([0.25] * (SEEDS - 2) * MEMBERS)
        expected = full.max(axis=1) - values_of(trainings, schedule, 6).max(axis=1)
        np.testing.assert_allclose(found["given_up"], expected)


def test_a_stop_that_begins_a_decay_has_the_accuracy_of_the_next_longer_training(
    trainings: pd.DataFrame, replayed: pd.DataFrame
) -> None:
    stable = values_of(trainings, WITH_DECAY, 8)[:, :-DECAY]
    full = values_of(trainings, ONE_CYCLE, 8)
    found = of(replayed, "decay after patience", patience=1, min_gain=0.05)
    for member, row in found.iterrows():
        gains = np.diff(np.maximum.accumulate(stable[member])) > 0.05
        stop = int(np.argmin(gains)) + 2 if not gains.all() else 6
        run = min(length for length in LENGTHS if length >= stop + DECAY)
        assert row["saved"] == pytest.approx(1 - run / 8)
        value = values_of(trainings, WITH_DECAY, run)[member].max()
        assert row["given_up"] == pytest.approx(full[member].max() - value)
    assert 0 < found["saved"].mean() < 0.5


def test_settings_are_chosen_on_one_half_and_measured_on_the_other(replayed: pd.DataFrame) -> None:
    other = replayed.assign(given_up=replayed["given_up"].where(replayed["fitted"], replayed["given_up"] + 1))
    before, after = chosen(replayed, 0.02), chosen(other, 0.02)
    assert before[["rule", "setting", "fit_saved"]].equals(after[["rule", "setting", "fit_saved"]])
    for column in ("given_up", "given_up_95", "low", "high"):
        np.testing.assert_allclose(after[column], before[column] + 1)
    assert (before["fit_given_up"] <= 0.02).all()
    assert before["fit_saved"].is_monotonic_decreasing
    assert before["rule"].is_unique
    assert (before["low"] <= before["given_up"]).all()
    assert (before["given_up"] <= before["high"]).all()


def test_what_is_measured_are_means_and_a_percentile_of_the_other_half(replayed: pd.DataFrame) -> None:
    (row,) = measured(of(replayed, "patience", patience=2, min_gain=0.05)).to_dict("records")
    own = of(replayed, "patience", patience=2, min_gain=0.05)
    fitted, others = own[own["fitted"]], own[~own["fitted"]]
    assert row["members"] == len(others) == 3 * MEMBERS
    assert row["fit_saved"] == pytest.approx(fitted["saved"].mean())
    assert row["fit_given_up"] == pytest.approx(fitted["given_up"].mean())
    assert row["saved"] == pytest.approx(others["saved"].mean())
    assert row["given_up"] == pytest.approx(others["given_up"].mean())
    assert row["given_up_95"] == pytest.approx(np.quantile(others["given_up"], 0.95))


def test_a_front_has_the_settings_that_no_other_of_the_rule_beats(replayed: pd.DataFrame) -> None:
    settings = measured(replayed)
    found = fronts(settings)
    for rule, rows in settings.groupby("rule"):
        points = list(zip(rows["fit_saved"], rows["fit_given_up"], strict=True))
        best = {
            (saved, cost)
            for saved, cost in points
            if not any((s >= saved and c < cost) or (s > saved and c <= cost) for s, c in points)
        }
        own = found[found["rule"] == rule]
        assert set(zip(own["fit_saved"], own["fit_given_up"], strict=True)) == best
        assert own["fit_saved"].is_monotonic_increasing


def test_rules_without_members_in_one_half_are_left_out() -> None:
    """Of three ensembles only the first has trainings of all lengths."""
    replayed = replays(made(3))
    without = {"one cycle of fewer epochs", "decay after fixed epochs", "decay after patience"}
    assert without < set(replayed["rule"])
    assert set(measured(replayed)["rule"]) == set(replayed["rule"]) - without
    assert not without & set(chosen(replayed, 1.0)["rule"])


def test_the_figure_has_a_line_for_each_rule(replayed: pd.DataFrame) -> None:
    lines = fronts(measured(replayed))
    left, right = drawn(stop_regret(lines))
    for axes in (left, right):
        # And the line at zero.
        assert len(axes.lines) == lines["rule"].nunique() + 1
    assert [text.get_text() for text in left.get_legend().get_texts()] == list(lines["rule"].unique())


def test_the_table_shows_points_and_per_cent(replayed: pd.DataFrame) -> None:
    table = stop_rules.shown(replayed)
    (row,) = table[table["rule"] == "patience"].to_dict("records")
    best = chosen(replayed, stop_rules.MOST_GIVEN_UP).set_index("rule").loc["patience"]
    assert row["epochs saved"] == f"{100 * best['saved']:.0f} %"
    assert row["points given up, mean"] == f"{100 * best['given_up']:.2f}"
    assert row["members"] == str(3 * MEMBERS)


def test_the_page_waits_for_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_rules, "TRAININGS", tmp_path)
    assert stop_rules.blocks() == {}
    made(2).to_parquet(tmp_path / "trainings.parquet")
    found = stop_rules.blocks()
    assert "| patience |" in found["stop_rules"]
    assert "](stop_rules.png)" in found["stop_rules figure"]


@pytest.mark.long
@pytest.mark.processes
def test_a_replayed_decay_is_that_of_a_member_that_was_stopped(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study trains to every length, is asked again, and its replays are compared with real stops."""
    place = Place.make(tmp_path, empty_database)
    parameters = tiny("retrain", work_dir=str(tmp_path / "work"))
    own = [f"--{name}={value}" for name, value in parameters.items() if name != "epochs"]
    study = [
        "stop_curves.py",
        str(tmp_path / "trainings"),
        "--seeds=1",
        "--epochs=4",
        "--shorter=3",
        "--decay_epochs=1",
    ]
    rule = {"patience": 1, "min_gain": 0.05}
    with place.active():
        monkeypatch.setattr(sys, "argv", [*study, "--minutes=0", *own])
        with pytest.raises(SystemExit, match="4 of 4 retrainings are left"):
            stop_curves.main()
        monkeypatch.setattr(sys, "argv", [*study, *own])
        stop_curves.main()
        before = place.runs()
        stop_curves.main()
        assert not place.new_runs(before)
        config = {"epochs": 4, "decay_epochs": 1, "schedule": WITH_DECAY, **rule}
        stopped = curves([retrain.run(place.config("retrain", **config))])
    trainings = stop_rules.collected(tmp_path / "trainings")
    assert set(COLUMNS) <= set(trainings)
    found = of(replays(trainings), "decay after patience", **rule)
    full = trainings[(trainings["schedule"] == ONE_CYCLE) & (trainings["epochs"] == 4)]
    for row in found.to_dict("records"):
        real, whole = (frame[frame["member"] == row["member"]][METRIC] for frame in (stopped, full))
        assert row["saved"] == 1 - len(real) / 4
        assert row["given_up"] == whole.max() - real.max()
    assert found["saved"].max() > 0
