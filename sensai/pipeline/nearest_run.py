"""Say why no stored run answers: the parameters, data or machine in which the nearest one differs."""

import json
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Run as StoredRun

from sensai.config import StageConfig
from sensai.config.usage import parameters_of
from sensai.tracking import Store, tags

# One request reads so many runs, the newest of the stage.
_MOST_RUNS = 100
_MOST_NAMED = 5


def why_none_fits(config: StageConfig, fingerprint: str, data_digest: str, host: str, store: Store) -> str:
    """Return one line on the stored run with the fewest differences; empty where no run of the stage has finished.

    Args:
        config: of the stage.
        fingerprint: that no usable run has.
        data_digest: of its data.
        host: of its machine, as the tag has it; empty where the stage measures no times.
        store: that was searched.
    """
    runs = store.newest(config.stage, _MOST_RUNS)
    # Such a run answers no longer, because what it made beside its artifacts is gone.
    if not runs or any(run.data.tags.get(tags.FINGERPRINT) == fingerprint for run in runs):
        return ""
    found = {run.info.run_id: _differences(run, config, data_digest, host) for run in runs}
    nearest = min(found, key=lambda run_id: len(found[run_id]))
    named = found[nearest] or ["nothing that it names: its code had another version, or a file another content"]
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return f"no stored run fits; the nearest, {nearest}, differs in {', '.join(named[:_MOST_NAMED])}{more}"


def _differences(run: StoredRun, config: StageConfig, data_digest: str, host: str) -> list[str]:
    """Return what a run differs in, in words."""
    known, stored = parameters_of(type(config)), json.loads(run.data.tags.get(tags.CONFIG, "{}"))
    values = json.loads(config.model_dump_json())
    # Paths differ without any difference in the data; the digest tells.
    compared = [name for name in config.recipe() if name in stored and not known[name].usage.by_content]
    differing = [
        f"{name} ({_text(stored[name])}, here {_text(values[name])})"
        for name in compared
        if stored[name] != values[name]
    ]
    if run.data.tags.get(tags.DATA_DIGEST) != data_digest:
        differing.append("the data")
    if host and (own := _parts(host)) != (other := _parts(run.data.tags.get(tags.HOST, "{}"))):
        differing += [
            f"the machine's {name} ({other.get(name)}, here {value})"
            for name, value in own.items()
            if other.get(name) != value
        ]
    return differing


def _parts(host: str) -> Mapping[str, Any]:
    parts: dict[str, Any] = json.loads(host)
    return parts


def _text(value: object) -> str:
    return (
        "none"
        if value is None
        else json.dumps(value)
        if isinstance(value, bool | dict | list)
        else str(value) or "none"
    )
