"""Runs by their ids, whole or shortened: an id that names no run is an error, never an empty table."""

import difflib
import re
from collections.abc import Sequence

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sensai.analysis.runs.queries import LoggedRun, Query, answering
from sensai.analysis.runs.run_cache import finished_runs
from sensai.tracking import tags

# All runs but those of members, as `overview` keeps them.
STAGE_RUNS = f"tags.`{tags.STAGE}` != 'member'"
# For more ids than these, one request each takes longer than one query for all runs.
FEW = 20
_LENGTH = 32
# MLflow's error codes for an id without a run and for text that is no id.
_UNKNOWN = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
_MOST_NAMED = 3


def whole_ids(client: MlflowClient, run_ids: Sequence[str]) -> list[str]:
    """Return the whole ids of runs, without repetitions, in their order.

    Args:
        client: of the store.
        run_ids: whole ids, or beginnings of them that belong to one run of an active experiment.

    Raises:
        ValueError: an id names no run, or several; the message has all such ids, with near ones.
    """
    given = list(dict.fromkeys(run_ids))
    known = set(finished_runs(client, STAGE_RUNS)["run_id"]) if len(given) > FEW else set()
    found = {each: [each] if each in known else _beginning_with(client, each) for each in given}
    if refused := [_refusal(client, each, ids) for each, ids in found.items() if len(ids) != 1]:
        raise ValueError(f"run_ids must name runs of the tracking store: {'; '.join(refused)}")
    return list(dict.fromkeys(ids[0] for ids in found.values()))


def answering_run(client: MlflowClient, run_id: str) -> LoggedRun:
    """Return the run that an id names (see `whole_ids`), or the run whose results it reused.

    Raises:
        ValueError: the id names no run, or several.
    """
    (whole,) = whole_ids(client, [run_id])
    return answering(client, whole)


def _beginning_with(client: MlflowClient, text: str) -> list[str]:
    """Return the ids of the runs that begin with a text; a whole id may be that of a deleted run."""
    if len(text) == _LENGTH:
        return [text] if _exists(client, text) else []
    if not re.fullmatch("[0-9a-f]+", text):
        return []
    return [run.run_id for run in Query.to(client, f"attributes.run_id LIKE '{text}%'").runs()]


def _exists(client: MlflowClient, run_id: str) -> bool:
    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in _UNKNOWN:
            return False
        raise
    return True


def _refusal(client: MlflowClient, text: str, ids: Sequence[str]) -> str:
    """Return why a text names no run or several, with the runs that may be meant."""
    if ids:
        return f"{text!r} is the beginning of {len(ids)} ids: {_listed(ids)}"
    runs = finished_runs(client, STAGE_RUNS)
    called = dict(zip(runs["name"], runs["run_id"], strict=True))
    called |= {run_id[: len(text)]: run_id for run_id in runs["run_id"]}
    near = [called[each] for each in difflib.get_close_matches(text, called, n=_MOST_NAMED)]
    return f"{text!r} names none" + (f", did you mean {_listed(list(dict.fromkeys(near)))}?" if near else "")


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_MOST_NAMED]) + (", ..." if len(ids) > _MOST_NAMED else "")
