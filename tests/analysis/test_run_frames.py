"""Frames of runs are the same if runs come at once, one after another, or remain of a larger set."""

from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from sensai.analysis.runs.frames import COLUMNS, metric, metrics, run_frame, selected, tag, updated
from sensai.analysis.runs.queries import LoggedRun

names = st.sampled_from(["a", "b", "c/d", "é"])
runs_of_any_kind = st.lists(
    st.builds(
        LoggedRun,
        run_id=st.sampled_from("abcdefgh"),
        experiment_id=st.sampled_from("01"),
        name=st.text(max_size=3),
        status=st.just("FINISHED"),
        start=st.integers(0, 3),
        end=st.none() | st.integers(0, 2**53),
        config=st.just("{}"),
        tags=st.dictionaries(names, st.text(max_size=3), max_size=3),
        metrics=st.dictionaries(names, st.floats(allow_nan=False), max_size=3),
    ),
    max_size=6,
)


@given(runs_of_any_kind)
def test_a_frame_says_of_each_run_what_it_said(given_runs: list[LoggedRun]) -> None:
    frame = run_frame(given_runs)
    runs = list({run.run_id: run for run in given_runs}.values())
    assert list(frame["run_id"]) == [run.run_id for run in sorted(runs, key=lambda run: (-run.start, run.run_id))]
    for run in runs:
        (row,) = frame.index[frame["run_id"] == run.run_id]
        said = frame.loc[row]
        assert [said[name] for name in COLUMNS if name != "end"] == [
            getattr(run, name) for name in COLUMNS if name != "end"
        ]
        assert said[["end"]].isna().all() if run.end is None else said["end"] == run.end
        assert tag(frame, "a").dropna().to_dict().get(row) == run.tags.get("a")
        assert metric(frame, "a").dropna().to_dict().get(row) == run.metrics.get("a")
        assert metrics(frame).loc[row].dropna().to_dict() == {f"metrics.{k}": v for k, v in run.metrics.items()}


@given(runs_of_any_kind, runs_of_any_kind)
def test_newer_ones_take_the_place_of_those_with_their_ids(kept: list[LoggedRun], newer: list[LoggedRun]) -> None:
    both = {run.run_id: run for run in kept} | {run.run_id: run for run in newer}
    left = [
        run for run in {run.run_id: run for run in kept}.values() if run.run_id not in {each.run_id for each in newer}
    ]
    frame = run_frame(kept)
    # Tags that none has any more go with the runs that had them.
    without = selected(frame, frame["run_id"].isin([run.run_id for run in left]))
    assert_frame_equal(without, run_frame(left))
    assert_frame_equal(updated(without, run_frame(newer)), run_frame(list(both.values())))
