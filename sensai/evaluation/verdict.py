"""The verdict: which choice is best, by how much and how surely, computed from logged numbers.

The best choice is the fastest of those that are not shown to be less accurate than the ensemble. Choices within a tenth of its
time count as equally fast. Among them the best is one that is shown to be more accurate, and else the one with the fewest
networks. Nothing is trained or read here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sensai.evaluation.accuracy_difference import Difference
from sensai.evaluation.roles import BASE_MODEL, REPLICAS, TITLES

# Times whose ratio is below this count as equal: medians of one machine differ by as much from run to run.
ALIKE = 1.1
# Every evaluation times the base model too. On a quiet machine its times differ by less.
_BUSY = 1.5
# The last line of a verdict: what the command is for, and the command. Earlier versions did not say what it is for.
_NEXT = re.compile("Next(?:, (?P<purpose>[^:]*))?: (?P<command>.*)")
# No data set of labelled images is larger, so a larger number helps nobody.
_MOST_IMAGES = 10_000_000


@dataclass(frozen=True)
class Choice:
    """A network, or several, that may answer.

    Attributes:
        name: a key of `TITLES`.
        networks: the number of networks.
        ms: milliseconds of an answer on this machine.
        ms_apart: likewise with a machine for each network, not counting the network between them.
        base_ms: milliseconds of the base model in the same evaluation.
        gain: its accuracy less that of the judged ensemble on the same test images; None for that ensemble itself.
        command: the next command where it is the best choice.
    """

    name: str
    networks: int
    ms: float
    ms_apart: float
    base_ms: float
    gain: Difference | None
    command: str


@dataclass(frozen=True)
class Verdict:
    """The best choices, and the reasons in words.

    Attributes:
        here: name of the best choice on this machine.
        apart: name of the best choice with a machine for each member.
        sentences: the verdict in words.
        purpose: of the next command, like `to use the control`.
        command: the next command.
    """

    here: str
    apart: str
    sentences: tuple[str, ...]
    purpose: str
    command: str

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the sentences and the next command."""
        return (*self.sentences, f"Next, {self.purpose}: {self.command}")

    def __str__(self) -> str:
        """Return the verdict as one text of several lines."""
        return "\n".join(self.lines)


class Told(NamedTuple):
    """A verdict that was read from its text.

    Attributes:
        sentences: the verdict in words.
        purpose: of the next command; empty if the text does not say it.
        command: the next command.
    """

    sentences: list[str]
    purpose: str
    command: str


def read(text: str) -> Told:
    """Return the parts of a verdict's text; all are empty where there is none."""
    *sentences, last = text.splitlines() or [""]
    found = _NEXT.fullmatch(last)
    return Told(sentences, found["purpose"] or "", found["command"]) if found else Told(sentences, "", "")


# Returns the milliseconds of a choice, here or apart.
Time = Callable[[Choice], float]


def evaluated(name: str, metrics: Mapping[str, float], gain: Difference | None, command: str) -> Choice | None:
    """Return the choice that an evaluation has measured; None: it has timed nothing, as in an old store.

    Args:
        name: a key of `TITLES`.
        metrics: that `evaluate` logs.
        gain: its accuracy less that of the judged ensemble; None for that ensemble itself.
        command: the next command where it is the best choice.
    """
    base, together, slowest = metrics.get("latency_base_ms"), answer_ms(metrics), metrics.get("latency_member_max_ms")
    if base is None or together is None or slowest is None:
        return None
    # Earlier versions did not log the number of members, of which all are about as large as the largest.
    networks = metrics.get("members") or round(metrics["flops_total"] / metrics["flops_max"])
    return Choice(name, int(networks), together, slowest, base, gain, command)


def answer_ms(metrics: Mapping[str, float]) -> float | None:
    """Return the milliseconds of an answer on this machine; a single network is timed by itself, as the base model is."""
    return metrics.get("latency_member_max_ms" if metrics.get("members") == 1 else "latency_ensemble_ms")


def base_model(judged: Choice, gain: Difference, command: str) -> Choice:
    """Return the base model as a choice, with its time in the evaluation of an ensemble."""
    return Choice(BASE_MODEL, 1, judged.base_ms, judged.base_ms, judged.base_ms, gain, command)


def verdict(judged: Choice, rivals: Sequence[Choice], measure: str = "") -> Verdict:
    """Return the verdict on an ensemble.

    Args:
        judged: the ensemble.
        rivals: the base model and all yardsticks that were measured.
        measure: the command that measures yardsticks, for an ensemble without any; else empty.
    """
    choices = [judged, *rivals]
    here, apart = (_best(choices, time) for time in (_here, _apart))
    sentences = [_sentence(f"On this machine{_busy(choices)}", here, judged, rivals, _here)]
    others = [each for each in rivals if each is not here and (here is not judged or each.name != BASE_MODEL)]
    if others:
        sentences.append(
            f"The others here, compared with the {TITLES[judged.name]}: {'; '.join(map(_other(judged), others))}."
        )
    if max(each.networks for each in choices) > 1:
        sentences.append(_sentence("With a machine for each member", apart, judged, rivals, _apart))
    images = next((each.gain.images for each in rivals if each.gain), 0)
    sentences.append(f"Intervals are 95 % over {images:,} test images; each network was trained once, with one seed.")
    if measure:
        sentences.append("No yardstick was measured: one small network, or several averaged, may do better.")
    purpose = "to measure yardsticks" if measure else _purpose(here)
    return Verdict(here.name, apart.name, tuple(sentences), purpose, measure or here.command)


def _purpose(best: Choice) -> str:
    if best.name == BASE_MODEL:
        return "to search for a better ensemble"
    return f"to use the {TITLES[best.name]}"


def _here(choice: Choice) -> float:
    return choice.ms


def _apart(choice: Choice) -> float:
    return choice.ms_apart


def _best(choices: Sequence[Choice], time: Time) -> Choice:
    eligible = [each for each in choices if each.gain is None or not each.gain.is_loss]
    fastest = min(map(time, eligible))
    alike = [each for each in eligible if time(each) < ALIKE * fastest]
    # Of equals the first is taken, which is the judged ensemble.
    return max(alike, key=lambda each: (_shown_gain(each), -each.networks))


def _shown_gain(choice: Choice) -> float:
    return choice.gain.difference if choice.gain is not None and choice.gain.is_gain else 0.0


def _busy(choices: Sequence[Choice]) -> str:
    """Return a doubt about the times where the base model, which every evaluation times, took very different ones."""
    least, most = (limit(each.base_ms for each in choices) for limit in (min, max))
    if most <= _BUSY * least:
        return ""
    return f" (which was busy, so the times are doubtful: the base model took {least:.3g} to {most:.3g} ms)"


def _sentence(where: str, best: Choice, judged: Choice, rivals: Sequence[Choice], time: Time) -> str:
    """Return the sentence that names the best choice and compares it with the judged ensemble, or that with the base model."""
    if best is not judged:
        other, gain = judged, best.gain
    else:
        other = next(each for each in rivals if each.name == BASE_MODEL)
        gain = None if other.gain is None else -other.gain
    speed = time(other) / time(best)
    compared = f"{_faster(speed)} {'as' if _alike(speed) else 'than'} the {TITLES[other.name]} and {_accuracy(gain)}"
    return f"{where} the {TITLES[best.name]} {_is(best)} the best choice: {compared}."


def _other(judged: Choice) -> Callable[[Choice], str]:
    def described(choice: Choice) -> str:
        return f"{TITLES[choice.name]} {_faster(judged.ms / choice.ms)}, {_accuracy(choice.gain)}"

    return described


def _alike(speed: float) -> bool:
    return 1 / ALIKE < speed < ALIKE


def _faster(speed: float) -> str:
    if _alike(speed):
        return "about as fast"
    return f"{speed:.1f}x faster" if speed > 1 else f"{1 / speed:.1f}x slower"


def _accuracy(gain: Difference | None) -> str:
    """Return a difference in accuracy in words, in percentage points."""
    if gain is None or not (gain.difference or gain.is_undecided):
        return "as accurate"
    less = gain.difference < 0
    shown = -gain if less else gain
    points = f"{100 * shown.difference:.1f}"
    words = "about as accurate" if points == "0.0" else f"{points} points {'less' if less else 'more'} accurate"
    low, high = (f"{100 * each:.{shown.digits}f}" for each in (shown.low, shown.high))
    return f"{words} (interval {low} to {high}{_doubt(gain)})"


def _doubt(gain: Difference) -> str:
    if not gain.is_undecided:
        return ""
    if 0 in (gain.low, gain.high):
        return ": undecided, as it touches zero"
    needed = gain.images_to_decide
    if needed > _MOST_IMAGES:
        return ": undecided"
    if needed <= gain.images:
        return ": just undecided"
    return f": undecided; about {needed:,.0f} test images would decide"


def _is(choice: Choice) -> str:
    return "are" if choice.name == REPLICAS else "is"
