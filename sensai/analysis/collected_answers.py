"""The answers to every test image, so that any two evaluations can be compared when their store is gone."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from sensai.analysis.runs import read_table
from sensai.files import reading
from sensai.tracking.artifact_names import ANSWERS
from sensai.tracking.artifacts import artifact_names, downloaded

_COLUMNS = {**dict.fromkeys(("run_id", "role", "combination"), "str"), "labels": "object", "answers": "object"}
_BASE = "base"


def collected_answers(retrainings: pd.DataFrame) -> pd.DataFrame:
    """Return the answers of the evaluations of some retrainings, and those of their base models.

    Args:
        retrainings: columns evaluate_run, role and combination, as of `sensai.analysis.retrainings.retrainings`.

    Returns:
        Two rows an evaluation that logged its answers: run_id (the evaluate run), role (`base` for the base model),
        combination (missing for the base model), labels and answers (uint16 (N,) each, in the order of the test split).
    """
    evaluated = retrainings[retrainings["evaluate_run"].notna()]
    rows = [
        row
        for each in evaluated[["evaluate_run", "role", "combination"]].itertuples(index=False)
        for row in _rows(*each)
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


def _rows(run_id: str, role: str, combination: str) -> Iterator[tuple[str, str, str | float, np.ndarray, np.ndarray]]:
    # Earlier versions of `evaluate` did not log answers.
    if ANSWERS not in artifact_names(run_id):
        return
    with downloaded(run_id, ANSWERS) as file, reading(f"run {run_id}: its artifact {ANSWERS!r}"):
        logged = read_table(file).astype("uint16")
        labels, own, base = (logged[name].to_numpy() for name in ("label", "ensemble", "base"))
    yield run_id, role, combination, labels, own
    yield run_id, _BASE, np.nan, labels, base
