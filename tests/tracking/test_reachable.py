"""Unusable stores: the user gets the reason in one line."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.server import get_app_client
from mlflow.tracking import MlflowClient

from sensai.errors import InputError
from sensai.tracking import Store, database_tables
from tests.conftest import ROOT, Entry
from tests.helpers.server import guarded_mlflow_server

pytestmark = pytest.mark.processes


ADMIN, READER = "a long password of admin", "a long password of reader"


@pytest.fixture(scope="module")
def guarded(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield a server with a user `reader`, who may read everything and write nothing, and a registered model."""
    folder = tmp_path_factory.mktemp("guarded")
    shutil.copy(empty_database, folder / "mlflow.db")
    with guarded_mlflow_server(folder, ADMIN) as uri, pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        environment.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN)
        get_app_client("basic-auth", tracking_uri=uri).create_user("reader", READER)
        client = MlflowClient(uri)
        client.create_registered_model("theirs")
        client.create_experiment("described", tags={"mlflow.note.content": "by admin"})
        yield uri


@pytest.fixture
def reader(guarded: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", guarded)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reader")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", READER)
    return guarded


@pytest.mark.long
def test_a_user_without_permission(reader: str, launched: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"MLFLOW_TRACKING_USERNAME='reader' has no permission .*\(403\)"):
        Store.connect()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "described")
    for stage in ("baseline", "promote"):
        refused = launched(stage)
        assert refused.returncode == 2
        assert "has no permission for what was asked (403)" in refused.stderr
        assert "Traceback" not in refused.stderr
    # Stages make these requests during their work.
    with pytest.raises(InputError, match="403"), Store.connect().refusals():
        MlflowClient(reader).update_registered_model("theirs", "ours")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a wrong one")
    with pytest.raises(InputError, match=r"does not know MLFLOW_TRACKING_USERNAME='reader' .*\(401\)"):
        Store.connect()


def test_other_errors_of_a_stage_stay(store_uri: str) -> None:
    store = Store.connect()
    with pytest.raises(mlflow.MlflowException, match="not found"), store.refusals():
        store.client.get_run("0" * 32)


def test_a_closed_port_of_postgresql(launched: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg://me:secret@127.0.0.1:{port}/runs")
        refused = launched("baseline")
    assert refused.returncode == 2
    assert f"MLFLOW_TRACKING_URI='postgresql+psycopg://me:***@127.0.0.1:{port}/runs'" in refused.stderr
    assert "efused" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_port_of_postgresql_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert database_tables._CONNECT_SECONDS < 15
    # This is the smallest value that libpq takes.
    monkeypatch.setattr(database_tables, "_CONNECT_SECONDS", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mlflow.set_tracking_uri(f"postgresql+psycopg://me@127.0.0.1:{silent.getsockname()[1]}/runs")
        with pytest.raises(InputError, match="timeout"):
            Store.connect()


def test_a_role_of_postgresql_that_may_only_read(postgres_database: str) -> None:
    mlflow.set_tracking_uri(postgres_database)
    Store.connect()
    mlflow.set_tracking_uri(f"{postgres_database}?options=-c%20default_transaction_read_only%3Don")
    store = Store.connect()
    with (
        pytest.raises(InputError, match=r"the database does not let this user write .*read-only transaction"),
        store.refusals(),
    ):
        store.create("run", None)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("bogus://somewhere", "bogus://somewhere"),
        ("bogus://me:secret@somewhere", r"bogus://\*\*\*@somewhere|bogus://me:\*\*\*@somewhere"),
        ("http://", "no tracking server answers"),
        ("http://me:secret@127.0.0.1:1", r"me:\*\*\*@127.0.0.1:1'.*no tracking server answers"),
        ("postgresql://127.0.0.1:1/a", "psycopg2|refused"),
        ("postgresql+nothing://127.0.0.1:1/a", "nothing"),
        ("mysql://127.0.0.1:1/a", "MLFLOW_TRACKING_URI='mysql://127.0.0.1:1/a'"),
        ("file:///nowhere/at/all", "filesystem tracking backend"),
        ("nowhere", "filesystem tracking backend"),
    ],
)
def test_uris_of_nothing(uri: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError, match=said) as refused:
        Store.connect()
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def _as_an_ordinary_user() -> list[str]:
    """Return the prefix of a command for which file modes count; for root they do not."""
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv to give that up")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.mark.parametrize("made", [True, False])
def test_a_store_that_may_only_be_read(made: bool, empty_database: Path, tmp_path: Path) -> None:
    folder = tmp_path / "read only"
    folder.mkdir()
    if made:
        shutil.copy(empty_database, folder / "mlflow.db")
        (folder / "mlflow.db").chmod(0o444)
    folder.chmod(0o555)
    code = "from sensai.analysis import runs\nfrom sensai.errors import InputError\nfrom sensai.tracking import Store\n"
    code += "try: print('rows', len(runs.stage_runs('prune')))\nexcept Exception as error: print('analysis:', error)\n"
    code += "try: Store.connect()\nexcept InputError as error: print('refused:', error)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    done = subprocess.run(
        [*_as_an_ordinary_user(), sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "not writable" in done.stdout.partition("refused:")[2]
    # Reading needs no more than this.
    assert ("rows 0" in done.stdout) == made


def test_a_working_folder_whose_name_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.fsencode(tmp_path) + b"/gr\xf6\xdfe"
    os.mkdir(folder)
    monkeypatch.chdir(os.fsdecode(folder))
    with pytest.raises(InputError, match=r"has a name that is no UTF-8.*set MLFLOW_TRACKING_URI"):
        Store.connect()
    assert os.listdir(folder) == []
