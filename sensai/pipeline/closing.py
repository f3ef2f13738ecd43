"""The lines with which an entry point ends: what its run found, where the run opens in the UI, and the next command."""

import logging
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run as StoredRun
from mlflow.exceptions import MlflowException

from sensai.analysis.rounding import in_short
from sensai.errors import InputError
from sensai.pipeline.run_lifecycle import entered_store
from sensai.terminal import say
from sensai.tracking import Store
from sensai.tracking.run_pages import run_page

_log = logging.getLogger(__name__)
_MOST_REASONS = 3


@dataclass(frozen=True)
class Findings:
    """Hold what a run found, in words.

    Attributes:
        facts: sentences or tables; the first one stands for the run where it is one among many.
        next: the next command; empty: there is none.
        purpose: of the next command, like `to use the control`; empty: it explains itself.
    """

    facts: Sequence[str]
    next: str = ""
    purpose: str = ""


# Returns what the finished run of an id found.
Finder = Callable[[Store, str], Findings]


def no_findings(_store: Store, _run_id: str) -> Findings:
    """Return no findings, for runs that have nothing to say."""
    return Findings(())


def say_closing(stage: str, run_id: str, find: Finder) -> None:
    """Print what a finished run found, where it opens, and the next command. Errors of the store do not fail the run.

    Args:
        stage: name of the entry point.
        run_id: of its run.
        find: returns the findings.
    """
    try:
        store = entered_store()
        lines = closing_lines(stage, find(store, run_id), store.run(run_id), store.client.tracking_uri)
    except (MlflowException, InputError) as error:
        _log.warning("%s: what run %s found cannot be read: %s", stage, run_id, str(error).partition("\n")[0])
        return
    say("\n".join(lines))


def closing_lines(stage: str, findings: Findings, run: StoredRun, tracking_uri: str) -> list[str]:
    """Return the lines of `say_closing`."""
    facts = [
        f"{stage}: {fact}" if number == 0 and "\n" not in fact else fact for number, fact in enumerate(findings.facts)
    ]
    opens = f"in the UI: {run_page(tracking_uri, run.info.experiment_id, run.info.run_id)}"
    following = f"next, {findings.purpose}" if findings.purpose else "next"
    return [*facts, opens, *([f"{following}: {findings.next}"] if findings.next else [])]


def headline(stage: str, run_id: str, find: Finder, store: Store, *, stored: bool) -> str:
    """Return one line on a finished run that another one needed.

    Args:
        stage: of the run.
        run_id: its id.
        find: returns its findings.
        store: that has it.
        stored: it was there before.
    """
    fact = next(iter(find(store, run_id).facts), "done")
    return f"{stage}: {fact}; run {run_id}{', from the store' if stored else ''}"


class _Numbers(string.Formatter):
    """Formats metrics by what they are: `accuracy`, `share`, `count`, `flops`, `ms`."""

    def format_field(self, value: Any, format_spec: str) -> str:
        number = float(value)
        match format_spec:
            case "accuracy":
                return f"{number:.4f}"
            case "share":
                return f"{100 * number:.3g} %"
            case "count":
                return f"{number:,.0f}"
            case "flops":
                return f"{in_short(number)}FLOPs"
            case "ms":
                return f"{number:.3g} ms"
        return super().format_field(value, format_spec)


def sentence(metrics: Mapping[str, float], *phrases: str) -> str:
    """Return the phrases whose metrics a run has, filled in and joined by commas.

    Args:
        metrics: of the run.
        phrases: like `validation accuracy {val_accuracy:accuracy}`; see `_Numbers` for the forms of numbers.
    """
    numbers = _Numbers()
    return ", ".join(
        numbers.vformat(phrase, (), metrics)
        for phrase in phrases
        if all(name in metrics for _, name, _, _ in numbers.parse(phrase) if name)
    )


def kept_whole(reasons: Mapping[str, str]) -> list[str]:
    """Return a line on the layers that lose no channels, with the first reasons; none where there are no such layers."""
    if not reasons:
        return []
    first = [f"{layer} ({reason})" for layer, reason in list(reasons.items())[:_MOST_REASONS]]
    more = f", and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
    return [f"kept whole: {', '.join(first)}{more}"]
