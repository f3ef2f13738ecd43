"""The first screen on an evaluation: its title in words, the verdict, four numbers, and accuracy against cost."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from mlflow.entities import Run

from sensai.analysis.figures import interactive
from sensai.analysis.report.column_words import in_percent
from sensai.analysis.report.page import Number, Opening, Plot
from sensai.analysis.report.yardstick_comparison import Comparison
from sensai.analysis.rounding import in_short
from sensai.evaluation.accuracy_difference import Difference
from sensai.evaluation.roles import BASE_MODEL, ENSEMBLE, EXPLANATIONS, MEMBER, TITLES
from sensai.tracking import tags

_HERE = "milliseconds of an answer"
_SIZE = "FLOPs of an answer"
_YARDSTICK = "a simpler choice, trained by the same recipe, that an ensemble must beat"


def title(run: Run, role: str) -> str:
    """Return the title of the page on an evaluation, in words.

    Args:
        run: the evaluation.
        role: of what was evaluated.
    """
    members, arch = run.data.metrics.get("members"), run.data.tags.get(tags.ARCH)
    dataset = Path(run.data.tags.get(tags.DATASET, "")).name
    what = TITLES[role][0].upper() + TITLES[role][1:]
    if members is not None:
        what += f" of {members:.0f} {'network' if members == 1 else 'small networks'}"
    instead = f" in place of {arch}" if arch else ""
    return f"{what}{instead}{f' on {dataset}' if dataset else ''}"


def opening(comparison: Comparison, commands: Mapping[str, str]) -> Opening:
    """Return the first screen on an evaluation.

    Args:
        comparison: the ensemble beside its base model and its yardsticks.
        commands: the next command after the verdict (see `Comparison.verdict`).
    """
    found, run = comparison.verdict(commands), comparison.evaluation
    sentences = ("There is no verdict: not all of these networks were timed, or not on one machine.",)
    warning = run.data.tags.get(tags.LEAKAGE, "")
    return Opening(
        heading="Verdict",
        sentences=found.sentences if found else sentences,
        terms=_terms(comparison),
        purpose=found.purpose if found else "",
        command=found.command if found else "",
        numbers=list(_numbers(run, comparison.differences[BASE_MODEL])),
        plot=_plot(comparison, commands),
        warning=f"{warning[:1].upper()}{warning[1:]}." if warning else "",
    )


def _terms(comparison: Comparison) -> dict[str, str]:
    """Return the words of the page with their explanations: the networks, and what a yardstick is."""
    members = (MEMBER, ENSEMBLE) if comparison.role == ENSEMBLE else ()
    names = dict.fromkeys((BASE_MODEL, *members, comparison.role, *comparison.yardsticks))
    return {TITLES.get(name, name): EXPLANATIONS[name] for name in names} | {"yardstick": _YARDSTICK}


def _numbers(run: Run, difference: Difference) -> Iterator[Number]:
    """Yield accuracy, both times and FLOPs, each beside that of the base model, where they were logged."""
    metrics, runtimes = run.data.metrics, json.loads(run.data.tags.get(tags.RUNTIME, "{}"))
    if {"accuracy", "base_accuracy"} <= metrics.keys():
        points, low, high = (100 * each for each in (difference.difference, difference.low, difference.high))
        bounds = " to ".join(f"{each:+.{difference.digits}f}" for each in (low, high))
        note = f"base model {in_percent(metrics['base_accuracy'])}: {points:+.1f} points ({bounds})"
        yield Number("Accuracy on test images", in_percent(metrics["accuracy"]), note)
    times = (
        ("Answer, all on this machine", "latency_ensemble_ms", "ensemble"),
        ("Slowest network by itself", "latency_member_max_ms", "member"),
    )
    for label, name, network in times:
        if {name, "latency_base_ms"} <= metrics.keys():
            own, base = metrics[name], metrics["latency_base_ms"]
            note = f"base model {base:.3g} ms: {_times(base / own, 'faster', 'slower')}{_with(runtimes, network)}"
            yield Number(label, f"{own:.3g} ms", note)
    if {"flops_max", "flops_base"} <= metrics.keys():
        own, base = metrics["flops_max"], metrics["flops_base"]
        note = f"base model {in_short(base)}: {_times(base / own, 'fewer', 'more')}"
        yield Number("FLOPs of the largest network", in_short(own), note)


def _with(runtimes: Mapping[str, str], network: str) -> str:
    """Return the runtimes of a network and of the base model in words; nothing where they were not logged."""
    if not {network, "base"} <= runtimes.keys():
        return ""
    # They are logged like `onnx-graph x2`.
    own, base = (runtimes[name].replace(" x", ", threads: ") for name in (network, "base"))
    return f". Both in {own}" if own == base else f". In {own}; base model in {base}"


def _times(ratio: float, more: str, less: str) -> str:
    return f"{ratio:.1f}x {more}" if ratio >= 1 else f"{1 / ratio:.1f}x {less}"


def _plot(comparison: Comparison, commands: Mapping[str, str]) -> Plot | None:
    rows, cost = _timed(comparison, commands), _HERE
    if not rows:
        rows, cost = _sized(comparison), _SIZE
    if not rows:
        return None
    table = pd.DataFrame(rows, columns=["name", "accuracy", "difference", "low", "high", "together", "apart"])
    reading = (
        f"Left is cheaper, up is more accurate than the {TITLES[comparison.role]}. Where a bar (95 % interval) crosses the "
        "line at zero, it is open which is more accurate. A hollow mark is the cost with a machine for each network."
    )
    return Plot("Accuracy and cost", reading, [interactive.choices(table, cost)], table.to_csv(index=False).encode())


# A row is name, accuracy, its difference from the judged one with both bounds, cost of all networks together, of the slowest.
_Row = tuple[str, float, float, float | None, float | None, float, float]


def _timed(comparison: Comparison, commands: Mapping[str, str]) -> Sequence[_Row]:
    """Return a row a choice with its times in ms; none where the runs cannot be compared in time."""
    return [_row(comparison, each.name, each.gain, each.ms, each.ms_apart) for each in comparison.choices(commands)]


def _sized(comparison: Comparison) -> Sequence[_Row]:
    """Return a row a network with its FLOPs; none where they were not logged."""
    metrics = comparison.evaluation.data.metrics
    if not {"accuracy", "flops_total", "flops_max", "flops_base"} <= metrics.keys():
        return []
    rivals = {name: run.data.metrics for name, run in comparison.yardsticks.items()}
    base = metrics["flops_base"]
    return [
        _row(comparison, comparison.role, None, metrics["flops_total"], metrics["flops_max"]),
        _row(comparison, BASE_MODEL, -comparison.differences[BASE_MODEL], base, base),
        *(
            _row(comparison, name, -comparison.differences[name], rival["flops_total"], rival["flops_max"])
            for name, rival in rivals.items()
            if {"flops_total", "flops_max"} <= rival.keys()
        ),
    ]


def _row(comparison: Comparison, name: str, gain: Difference | None, together: float, apart: float) -> _Row:
    accuracy = comparison.evaluation.data.metrics["accuracy"]
    if gain is None:
        return TITLES[name], accuracy, 0.0, None, None, together, apart
    return TITLES[name], accuracy + gain.difference, gain.difference, gain.low, gain.high, together, apart
