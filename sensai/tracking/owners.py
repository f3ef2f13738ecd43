"""Owners of runs: a tag of a run names the process that writes into it, so that orphans are found."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlparse

import psutil
from mlflow.entities import Run, SourceType
from mlflow.environment_variables import MLFLOW_RUN_ID
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE

import sensai
from sensai.cluster.processes import runs_command
from sensai.tracking import tags

GONE = "its process is gone"
NEVER_BEGUN = "mlflow run was ended before the code of sensAI had started"
_ROOT = Path(sensai.__file__).resolve().parents[1]
_SAME_PROCESS_SECONDS = 1.0
# MLflow does not record the machine on which it opened a run. Even in a shared store, no run takes longer to begin.
_SECONDS_TO_BEGIN_ELSEWHERE = 24 * 3600


def this_process() -> str:
    """Return this process as the value of a run's tag."""
    process = psutil.Process()
    return json.dumps({"host": socket.gethostname(), "pid": process.pid, "started": process.create_time()})


def why_orphaned(run: Run, shared: bool) -> str | None:
    """Return why a run that is still RUNNING is an orphan; None if its process may exist.

    Args:
        run: as in the store.
        shared: other machines may have opened it too.
    """
    owner = run.data.tags.get(tags.PROCESS)
    if owner is not None:
        return GONE if _is_gone(owner) else None
    if not _is_opened_by_mlflow(run) or _waits_for(run):
        return None
    age = time.time() - run.info.start_time / 1000
    return NEVER_BEGUN if not shared or age > _SECONDS_TO_BEGIN_ELSEWHERE else None


def _is_gone(tag: str) -> bool:
    """Return True if a run's process ran on this machine and is gone."""
    owner = json.loads(tag)
    if owner["host"] != socket.gethostname():
        return False
    try:
        process = psutil.Process(owner["pid"])
        gone = process.status() == psutil.STATUS_ZOMBIE
        return gone or abs(process.create_time() - owner["started"]) > _SAME_PROCESS_SECONDS
    except psutil.NoSuchProcess:
        return True


def _is_opened_by_mlflow(run: Run) -> bool:
    """Return True if `mlflow run` opened a run for this checkout."""
    if run.data.tags.get(MLFLOW_SOURCE_TYPE) != SourceType.to_string(SourceType.PROJECT):
        return False
    # The name is a folder, or the URL of a Git repository and the folder in it.
    name = run.data.tags.get(MLFLOW_SOURCE_NAME, "")
    if name.startswith("file://"):
        repository, _, folder = name.partition("#")
        name = str(Path(unquote(urlparse(repository).path)) / folder)
    return name.startswith("/") and Path(name).resolve() == _ROOT


def _waits_for(run: Run) -> bool:
    """Return True if a process exists that may be about to begin a run."""
    return any(_may_begin(process, run) for process in psutil.process_iter())


def _may_begin(process: psutil.Process, run: Run) -> bool:
    with suppress(psutil.Error):
        if runs_command(process.cmdline(), "mlflow", "run"):
            return process.create_time() <= run.info.start_time / 1000
        return process.pid != os.getpid() and process.environ().get(MLFLOW_RUN_ID.name) == run.info.run_id
    # The process has ended, or belongs to another user, who has started no project.
    return False
