"""A PostgreSQL server for the tests, on loopback."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy

from tests.helpers.server import free_port

_PROGRAMS = ("initdb", "pg_ctl")


@contextmanager
def postgres_server() -> Iterator[str]:
    """Yield the URI of its database; skip the test if PostgreSQL is not installed."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"PostgreSQL is not installed here ({', '.join(missing)} not found)")
    # PostgreSQL refuses to run as root, and root's temporary folders are closed to other users.
    owner = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="postgres") as folder:
        if owner:
            shutil.chown(folder, owner)
        made = _as(owner, ["initdb", "-D", f"{folder}/data", "-U", "tests", "-A", "trust", "--no-sync"])
        if made.returncode:
            pytest.skip(f"PostgreSQL cannot be set up here: {made.stderr.strip()}")
        port = free_port()
        control = ["pg_ctl", "-D", f"{folder}/data", "-w"]
        options = f"-p {port} -h 127.0.0.1 -k {folder} -F"
        assert _as(owner, [*control, "-l", f"{folder}/log", "-o", options, "start"]).returncode == 0
        try:
            yield f"postgresql+psycopg://tests@127.0.0.1:{port}/postgres"
        finally:
            _as(owner, [*control, "-m", "immediate", "stop"])


@contextmanager
def new_database(server_uri: str) -> Iterator[str]:
    """Yield the URI of an empty database of a server."""
    name = f"test_{uuid.uuid4().hex}"
    server = sqlalchemy.create_engine(server_uri, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        yield f"{server_uri.rpartition('/')[0]}/{name}"
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


def _as(owner: str | None, program: list[str]) -> subprocess.CompletedProcess[str]:
    # Processes that it leaves running must not hold a pipe open.
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(program, user=owner, cwd="/", stdout=subprocess.DEVNULL, stderr=said)
        said.seek(0)
        return subprocess.CompletedProcess(program, done.returncode, stderr=said.read())
