"""`mlflow run <git URI>`: from a repository on a server, in a folder that has nothing but the user's own files."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest

from tests.conftest import ROOT, tiny
from tests.helpers.server import end, free_port

pytestmark = [pytest.mark.long, pytest.mark.processes]

_START_SECONDS = 60


@contextmanager
def git_daemon(folder: Path) -> Iterator[str]:
    """Serve the repositories of a folder on loopback; yield the address that their names follow."""
    port = free_port()
    daemon = subprocess.Popen(
        ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}", "--export-all", str(folder)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not listens(port):
            assert daemon.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"git://127.0.0.1:{port}"
    finally:
        end(daemon)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a bare clone of what is committed here."""
    path = tmp_path / "served" / "sensai.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(path)], check=True)
    return path


def test_a_stage_of_a_git_uri_runs_with_the_code_of_its_commit(
    repository: Path, store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the clone that MLflow makes has the code.
    monkeypatch.delenv("PYTHONPATH", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.py").write_bytes((ROOT / "tests/helpers/tiny_data.py").read_bytes())
    given = tiny("prune", dataset="mine.py:tiny", ratio=0.1, work_dir=tmp_path / "work")
    parameters = [argument for name, value in given.items() for argument in ("-P", f"{name}={value}")]
    with git_daemon(repository.parent) as address:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mlflow", "run", f"{address}/{repository.name}"),
                *("-e", "prune", "--env-manager", "local", *parameters),
            ],
            cwd=home,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(store_uri)
    (run,) = client.search_runs([os.environ["MLFLOW_EXPERIMENT_ID"]], "tags.`sensai.stage` = 'prune'")
    assert run.data.metrics["members"] == 3
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert run.data.tags["sensai.commit"] == commit
    assert run.data.tags["mlflow.source.git.commit"] == commit
    assert sorted(path.name for path in home.iterdir()) == ["mine.py"], "the user's folder gets no other file"
