"""Several processes that open a new store at once, some of them killed."""

import os
import random
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy
from mlflow.tracking import MlflowClient

from sensai.tracking import database_tables
from sensai.tracking.database_tables import UnusableDatabaseError, prepare, sqlite_path, sqlite_url
from sensai.tracking.tracking_store import MLFLOW_TABLES, tracking_client
from tests.conftest import ROOT

# Opens the store like a stage, a notebook, a study or `make demo`, and uses it. Imports come first and then a signal, so
# that several processes begin at the same moment.
BEGIN = "import sys; from pathlib import Path; import time\ndef begin():\n    Path(sys.argv[1]).touch()\n"
BEGIN += "    while not Path(sys.argv[2]).exists(): time.sleep(0.001)\n"
CONTACTS = {
    "stage": "from sensai.tracking import Store\nbegin()\nstore = Store.connect()\n"
    "with store.create('run', None).closing(): pass",
    "analysis": "from sensai.analysis import runs\nbegin()\nassert runs.stage_runs('prune').empty",
    "artifact": "from sensai.analysis.runs import table\nfrom mlflow.exceptions import MlflowException\nbegin()\n"
    "try: table('0' * 32, 'a.csv')\nexcept MlflowException as error: assert 'not found' in str(error), error",
    "program": "from sensai.tracking.tracking_store import main\nbegin()\nsys.argv = ['']\nmain()",
    "study": "import os\nfrom tests.helpers import toy_study\nbegin()\n"
    "own = toy_study.study(os.environ['STORAGE'])\ntoy_study.worker(own).run(3)",
}


def begun(kind: str, folder: Path, number: int, **environment: str) -> subprocess.Popen:
    arguments = [str(folder / f"ready {number}"), str(folder / "go")]
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + CONTACTS[kind], *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def at_once(kinds: Sequence[str], folder: Path, **environment: str) -> None:
    """Start a process of each kind, let all continue at the same moment, and assert that all succeed."""
    processes = [begun(kind, folder, number, **environment) for number, kind in enumerate(kinds)]
    try:
        wait_for([folder / f"ready {number}" for number in range(len(kinds))], processes)
        (folder / "go").touch()
        for process in processes:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
    finally:
        end(processes)


def wait_for(files: Sequence[Path], processes: Sequence[subprocess.Popen]) -> None:
    deadline = time.monotonic() + 300
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), [each.communicate() for each in processes]
        time.sleep(0.01)


def end(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def killed(kind: str, folder: Path, seconds: float, **environment: str) -> None:
    """Start a process that is killed so many seconds after it opened the store."""
    for name in ("go", "ready 0"):
        (folder / name).unlink(missing_ok=True)
    process = begun(kind, folder, 0, **environment)
    try:
        wait_for([folder / "ready 0"], [process])
        (folder / "go").touch()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    finally:
        end([process])


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def is_whole(uri: str) -> bool:
    (experiment,) = MlflowClient(uri).search_experiments()
    return experiment.name == "Default"


@pytest.mark.processes
@pytest.mark.long
def test_processes_that_come_to_an_empty_sqlite_store_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    at_once(["stage", "analysis"], tmp_path, MLFLOW_TRACKING_URI=uri)
    assert is_whole(uri)
    assert hidden(tmp_path) == []


@pytest.mark.processes
def test_processes_that_come_to_an_empty_postgresql_store_at_once(postgres_database: str, tmp_path: Path) -> None:
    at_once(["stage", "stage"], tmp_path, MLFLOW_TRACKING_URI=postgres_database)
    assert is_whole(postgres_database)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("contacts", [["stage"] * 8, ["stage", "analysis", "artifact", "program"] * 2])
def test_eight_processes_at_once(
    kind: str, contacts: list[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for repeat in range(2):
        folder = tmp_path / str(repeat)
        folder.mkdir()
        sqlite = f"sqlite:///{folder}/mlflow.db"
        uri = sqlite if kind == "sqlite" else request.getfixturevalue("postgres_database")
        at_once(contacts, folder, MLFLOW_TRACKING_URI=uri)
        assert is_whole(uri)


@pytest.mark.processes
@pytest.mark.long
def test_workers_of_a_study_that_come_to_an_empty_storage_at_once(tmp_path: Path) -> None:
    at_once(["study"] * 2, tmp_path, STORAGE=f"sqlite:///{tmp_path}/optuna.db")
    assert hidden(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_eight_workers_at_once(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/optuna.db" if kind == "sqlite" else request.getfixturevalue("postgres_database")
    at_once(["study"] * 8, tmp_path, STORAGE=storage)


def _survives(contact: str, variable: str, url: str, folder: Path, seconds: float) -> None:
    killed(contact, folder, seconds, **{variable: url})
    for name in ("go", "ready 0"):
        (folder / name).unlink()
    at_once([contact], folder, **{variable: url})


@pytest.mark.processes
@pytest.mark.long
def test_a_process_that_is_killed_while_it_makes_the_tables(tmp_path: Path) -> None:
    _survives("stage", "MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/it.db", tmp_path, 0.7)
    assert hidden(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize(("contact", "variable"), [("stage", "MLFLOW_TRACKING_URI"), ("study", "STORAGE")])
@pytest.mark.parametrize("moment", range(10))
def test_kills_at_random_moments(
    kind: str, contact: str, variable: str, moment: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/it.db" if kind == "sqlite" else request.getfixturevalue("postgres_database")
    longest = 4.0 if contact == "stage" else 0.6
    _survives(contact, variable, url, tmp_path, random.Random(moment).uniform(0.05, longest))


def half_made(path: Path) -> None:
    """Return what a killed MLflow leaves: some tables without rows."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT)")
    connection.close()


@pytest.mark.processes
def test_a_half_made_store_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_tables, "_SILENT_SECONDS", 0.5)
    path = tmp_path / "it's my.db"
    half_made(path)
    with pytest.raises(UnusableDatabaseError, match=r"half-made.*remove the file") as refused:
        tracking_client(f"sqlite:///{path}")
    command = str(refused.value).split("(")[1].split(")")[0]
    assert shlex.split(command) == ["rm", str(path)]
    subprocess.run(command, shell=True, check=True)
    assert tracking_client(f"sqlite:///{path}").search_experiments()
    assert hidden(tmp_path) == []


def test_a_store_with_runs_is_never_called_half_made(empty_database: Path, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_database.read_bytes())
    with sqlite3.connect(path) as connection:
        # A store of an older MLflow has no such table.
        connection.execute("DROP TABLE webhooks")
    connection.close()
    assert tracking_client(f"sqlite:///{path}").search_experiments()


@pytest.mark.parametrize("other", ["sqlite", pytest.param("postgres", marks=pytest.mark.processes)])
def test_a_database_of_another_library_is_left_as_it_is(
    other: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db" if other == "sqlite" else request.getfixturevalue("postgres_database")
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        for statement in ("CREATE TABLE studies (a INT)", "CREATE TABLE alembic_version (version_num VARCHAR(32))"):
            connection.execute(sqlalchemy.text(statement))
        connection.execute(sqlalchemy.text("INSERT INTO alembic_version VALUES ('v3.2.0.a')"))
    with pytest.raises(UnusableDatabaseError, match=r"holds the tables of something else .studies, ...."):
        tracking_client(url)
    assert set(sqlalchemy.inspect(engine).get_table_names()) == {"studies", "alembic_version"}
    engine.dispose()


def test_an_empty_file_is_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    assert tracking_client(f"sqlite:///{tmp_path}/mlflow.db").search_experiments()


@pytest.mark.processes
def test_another_process_makes_the_store_without_the_lock(tmp_path: Path, empty_database: Path) -> None:
    path = tmp_path / "mlflow.db"
    half_made(path)
    late = "import sys, time, shutil; time.sleep(2); shutil.copy(sys.argv[1], sys.argv[2])"
    process = subprocess.Popen([sys.executable, "-c", late, str(empty_database), str(path)])
    prepare(f"sqlite:///{path}", MLFLOW_TABLES)
    assert process.wait() == 0


@pytest.mark.parametrize("name", ["my run", "a#b", "50%", "what?", "it's", 'say "so"', "größe 画", "n" * 250])
def test_urls_of_files_with_any_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "it.db"
    path.parent.mkdir()
    assert sqlite_path(sqlite_url(path)) == path
    engine = sqlalchemy.create_engine(sqlite_url(path))
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE a (b INT)"))
    engine.dispose()
    assert path.is_file()
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:a?mode=memory&uri=true", "http://a"]
)
def test_what_is_no_file(url: str) -> None:
    assert sqlite_path(url) is None


def test_a_path_that_is_longer_than_sqlite_takes(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d" * 200] * 3)
    folder.mkdir(parents=True)
    with pytest.raises(UnusableDatabaseError, match="SQLite opens paths of up to 512"):
        tracking_client(f"sqlite:///{folder}/mlflow.db")
    assert not any(folder.glob("*.db"))


@pytest.mark.processes
def test_a_command_that_there_is_not_is_one_line(store_uri: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sensai.tracking.tracking_store", "no such command"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: 'no such command' cannot be run (No such file or directory)"
    assert "Traceback" not in done.stderr
