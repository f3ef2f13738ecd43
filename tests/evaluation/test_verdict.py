"""`verdict`: ensembles that pay, that do not, and that are undecided, and the words for each."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensai.evaluation.accuracy_difference import Difference
from sensai.evaluation.roles import ENSEMBLE, TITLES, YARDSTICKS, role_of
from sensai.evaluation.verdict import Choice, base_model, evaluated, read, verdict

IMAGES = 10_000


def points(difference: float, reach: float = 0.5) -> Difference:
    """Return a difference in percentage points with an interval that reaches as far to both sides."""
    return Difference(difference / 100, (difference - reach) / 100, (difference + reach) / 100, IMAGES)


def choice(name: str, networks: int, speed: float, apart: float, gain: Difference | None) -> Choice:
    """Return a choice that is so many times as fast as the base model, which takes 4 ms."""
    return Choice(name, networks, 4 / speed, 4 / apart, 4.0, gain, f"use {name}")


def ensemble(speed: float = 0.5, apart: float = 4.0) -> Choice:
    return choice("ensemble", 10, speed, apart, None)


def base(gain: float = 1.0) -> Choice:
    return base_model(ensemble(), points(gain), "use base model")


def control(gain: float, reach: float = 0.5, speed: float = 4.0) -> Choice:
    return choice("control", 1, speed, speed, points(gain, reach))


def replicas(gain: float, speed: float = 0.5, apart: float = 4.0) -> Choice:
    return choice("replicas", 10, speed, apart, points(gain))


def test_an_ensemble_pays_on_a_machine_a_member_where_it_is_shown_to_be_more_accurate_at_equal_speed() -> None:
    found = verdict(ensemble(), [base(), control(-2.0), replicas(-1.0)])
    # Ten members on one machine take twice the base model's time, which is also more accurate.
    assert (found.here, found.apart) == ("base model", "ensemble")
    assert found.sentences == (
        "On this machine the base model is the best choice: 2.0x faster than the ensemble and 1.0 points more accurate "
        "(interval 0.5 to 1.5).",
        "The others here, compared with the ensemble: control 8.0x faster, 2.0 points less accurate (interval 1.5 to "
        "2.5); replicas about as fast, 1.0 points less accurate (interval 0.5 to 1.5).",
        "With a machine for each member the ensemble is the best choice: 4.0x faster than the base model and 1.0 points less "
        "accurate (interval 0.5 to 1.5).",
        "Intervals are 95 % over 10,000 test images; each network was trained once, with one seed.",
    )
    assert (found.purpose, found.command) == ("to search for a better ensemble", "use base model")


def test_an_ensemble_pays_here_where_it_is_faster_than_the_base_model_and_more_accurate_than_all_small_ones() -> None:
    found = verdict(ensemble(speed=2.0), [base(-0.2), control(-2.0), replicas(-1.0, speed=2.0)])
    assert (found.here, found.apart, found.command) == ("ensemble", "ensemble", "use ensemble")
    assert found.sentences[0] == (
        "On this machine the ensemble is the best choice: 2.0x faster than the base model and 0.2 points more accurate "
        "(interval -0.3 to 0.7: undecided; about 63,000 test images would decide)."
    )


def test_it_does_not_pay_where_the_control_is_faster_and_not_shown_to_be_less_accurate() -> None:
    found = verdict(ensemble(speed=2.1), [base(), control(-0.4, reach=0.6), replicas(-1.0)])
    assert (found.here, found.apart, found.command) == ("control", "control", "use control")
    assert found.sentences[0] == (
        "On this machine the control is the best choice: 1.9x faster than the ensemble and 0.4 points less accurate "
        "(interval -0.2 to 1.0: undecided; about 23,000 test images would decide)."
    )
    # One network needs nine machines fewer.
    assert found.sentences[2].startswith(
        "With a machine for each member the control is the best choice: about as fast as the ensemble and"
    )


def test_replicas_win_where_they_are_shown_to_be_more_accurate_at_equal_speed() -> None:
    found = verdict(ensemble(speed=2.0), [base(), control(-2.0, speed=4.1), replicas(1.2, speed=1.9, apart=3.9)])
    assert (found.here, found.apart, found.command) == ("replicas", "replicas", "use replicas")
    assert found.sentences[0] == (
        "On this machine the replicas are the best choice: about as fast as the ensemble and 1.2 points more accurate "
        "(interval 0.7 to 1.7)."
    )


def test_among_equals_the_ensemble_stays() -> None:
    found = verdict(ensemble(speed=2.0), [base(), replicas(0.1, speed=2.1)])
    assert (found.here, found.apart) == ("ensemble", "ensemble")


def test_a_difference_of_zero_is_not_decided_by_any_number_of_images() -> None:
    found = verdict(ensemble(speed=2.0), [base(), control(0.0)])
    assert found.sentences[0].endswith(
        " faster than the ensemble and about as accurate (interval -0.5 to 0.5: undecided)."
    )


def test_an_interval_that_ends_at_zero_says_so_and_shows_another_digit() -> None:
    touching = replace(control(0.0), gain=Difference(0.02, 0.0, 0.04, IMAGES))
    assert "(interval 0.00 to 4.00: undecided, as it touches zero)" in str(verdict(ensemble(), [base(), touching]))


def test_the_same_answers_are_as_accurate() -> None:
    same = replace(control(0.0), gain=Difference(0.0, 0.0, 0.0, IMAGES))
    found = verdict(ensemble(speed=2.0), [base(), same])
    assert (
        found.sentences[0]
        == "On this machine the control is the best choice: 2.0x faster than the ensemble and as accurate."
    )


def test_without_yardsticks_it_says_so_and_gives_the_command_that_measures_them() -> None:
    found = verdict(ensemble(speed=2.0), [base(0.0)], "sensai main --yardsticks control,replicas")
    assert found.here == "ensemble"
    assert found.sentences[-1].startswith("No yardstick was measured")
    assert found.lines[-1] == "Next, to measure yardsticks: sensai main --yardsticks control,replicas"
    assert str(found).splitlines() == list(found.lines)


def test_times_of_a_busy_machine_are_called_doubtful() -> None:
    busy = replace(control(-2.0), base_ms=7.0)
    found = verdict(ensemble(), [base(), busy])
    assert found.sentences[0].startswith(
        "On this machine (which was busy, so the times are doubtful: the base model took 4 to 7 ms) the "
    )
    assert "busy" not in str(verdict(ensemble(), [base(), replace(busy, base_ms=5.0)]))


def test_one_network_needs_no_second_machine() -> None:
    found = verdict(replace(ensemble(speed=3.0), name="control", networks=1), [base()])
    assert not [each for each in found.sentences if each.startswith("With a machine for each member")]
    assert found.sentences[0].startswith(
        "On this machine the control is the best choice: 3.0x faster than the base model"
    )


# Differences of whole images.
differences = st.integers(-500, 500).map(lambda images: 100 * images / IMAGES)
gains = st.builds(points, differences, st.floats(0.01, 3))
speeds = st.floats(0.1, 20)


@given(
    own=st.builds(ensemble, speeds, speeds),
    gain=differences,
    rivals=st.lists(
        st.builds(choice, st.sampled_from(YARDSTICKS), st.integers(1, 10), speeds, speeds, gains), max_size=4
    ),
)
def test_what_is_best_is_not_beaten(own: Choice, gain: float, rivals: list[Choice]) -> None:
    rivals = [base(gain), *rivals]
    found = verdict(own, rivals)
    for name, time in ((found.here, "ms"), (found.apart, "ms_apart")):
        best = [each for each in (own, *rivals) if each.name == name]
        assert not all(each.gain is not None and each.gain.is_loss for each in best)
        # Nothing that is much faster than the best choice is as accurate as far as one knows.
        faster = [each for each in rivals if 1.1 * getattr(each, time) < min(getattr(one, time) for one in best)]
        assert all(each.gain is not None and each.gain.is_loss for each in faster)
    assert all(each.endswith(".") for each in found.sentences)


METRICS = {
    "latency_base_ms": 4.0,
    "latency_ensemble_ms": 8.0,
    "latency_member_max_ms": 1.0,
    "flops_total": 9.6e6,
    "flops_max": 1e6,
}


def test_a_choice_is_read_from_the_metrics_of_an_evaluation() -> None:
    found = evaluated("replicas", METRICS | {"members": 5.0}, points(1), "use it")
    assert found == Choice("replicas", 5, 8.0, 1.0, 4.0, points(1), "use it")
    # A single network is timed by itself, without a combination.
    assert evaluated("control", METRICS | {"members": 1.0}, points(1), "use it") == Choice(
        "control", 1, 1.0, 1.0, 4.0, points(1), "use it"
    )
    # Earlier versions did not log the number of members.
    assert evaluated(ENSEMBLE, METRICS, None, "").networks == 10
    untimed = {name: value for name, value in METRICS.items() if name != "latency_ensemble_ms"}
    assert evaluated(ENSEMBLE, untimed, None, "") is None


@pytest.mark.parametrize(
    ("groups", "is_cut", "role"),
    [
        ([(0,), (1,), (2,)], True, "ensemble"),
        ([(0, 1), (2,)], True, "ensemble"),
        ([(0, 1), (1, 2), (2, 0)], True, "ensemble"),
        ([(2, 0, 1)], True, "control"),
        ([(0, 1, 2)], False, "base"),
        ([(0, 1, 2), (0, 1, 2)], True, "replicas"),
    ],
)
def test_the_role_follows_from_the_classes_of_the_members(
    groups: list[tuple[int, ...]], is_cut: bool, role: str
) -> None:
    assert role_of(groups, 3, is_cut=is_cut) == role
    assert role in TITLES


def test_the_text_of_a_verdict_is_read_back() -> None:
    found = verdict(ensemble(speed=2.0), [base(), control(1.0)])
    assert read(str(found)) == ([*found.sentences], "to use the control", "use control")
    # Earlier versions did not say what the command is for.
    assert read("It is best: by far.\nNext: sensai main --a b:c") == (
        ["It is best: by far."],
        "",
        "sensai main --a b:c",
    )
    assert read("") == ([], "", "")
