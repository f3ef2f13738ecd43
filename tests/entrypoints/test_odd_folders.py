"""Every entry point works in folders with any characters in their names."""

import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
import pytest
from PIL import Image

from sensai.tracking.database_tables import sqlite_url
from tests.conftest import ROOT, command, tiny
from tests.helpers.idx import write_mnist
from tests.helpers.server import server

_CHARACTERS = "my run #3 50% done? 'größe' \"画\" "
# As long as a name can be: with percent signs it is no name any more.
ODD = _CHARACTERS + "n" * (255 - len(_CHARACTERS.encode()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / ODD
    path.mkdir()
    return path


def ended_well(folder: Path, stage: str, **parameters: object) -> str:
    """Call an entry point in a folder, with MLflow's default store there, and return its output."""
    done = subprocess.run(
        command(stage, **parameters), cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def without_a_store() -> dict[str, str]:
    """The environment of a user who has activated this one and set no store."""
    path = f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}


class Links(HTMLParser):
    """All that a page leads to or shows."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: set[str] = set()
        self._folder = page.parent
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [given[name] or "" for name in ("href", "src") if name in given]
        if name := given.get("id"):
            self.ids.add(name)

    def broken(self) -> list[str]:
        """Those that lead a browser to no file, no part of the page and no server."""
        return [link for link in self.found if not self._leads_on(link)]

    def _leads_on(self, link: str) -> bool:
        parts = urlsplit(link)
        if parts.scheme in ("http", "https", "data"):
            return True
        if not parts.scheme and not parts.path:
            return unquote(parts.fragment) in self.ids
        return parts.scheme in ("", "file") and (self._folder / unquote(parts.path)).exists()


def test_links_are_read_as_browsers_do(tmp_path: Path) -> None:
    (tmp_path / "50% #1.png").touch()
    good = ["#a", "http://host/#/runs/1", "data:text/csv;base64,MQ==", "50%25%20%231.png"]
    good.append((tmp_path / "50% #1.png").as_uri())
    bad = ["#b", "50% #1.png", "sqlite:///runs/1", "none.png", ""]
    page = tmp_path / "page.html"
    page.write_text('<p id="a">' + "".join(f'<a href="{link}">x</a><img src="{link}">' for link in good + bad))
    assert Links(page).broken() == [link for link in bad for _ in range(2)]


@pytest.mark.long
@pytest.mark.processes
def test_a_stage_in_an_odd_folder(folder: Path) -> None:
    ended_well(folder, "prune", **tiny("prune", base_epochs=0, work_dir="work #1 100%"))
    assert sorted(path.name for path in folder.iterdir()) == ["mlflow.db", "mlruns", "work #1 100%"]
    # MLflow makes another folder, with percent signs.
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith("my")] == [ODD]


@pytest.mark.long
def test_every_entry_point_in_an_odd_folder(folder: Path) -> None:
    ended_well(folder, "main", **tiny("main", n_groups=2, method="random"))
    ended_well(folder, "tune", **tiny("tune", trials=2))
    ended_well(
        folder, "grouping_study", **tiny("grouping_study", epochs=0, methods="random", group_counts="2", repeats=1)
    )
    ended_well(folder, "contention", **tiny("contention", trainings="1", workers=0, contention_images=40))
    ended_well(folder, "promote", max_accuracy_drop=1, allow_no_gain=True)
    images = folder / "a b#?% é"
    images.mkdir()
    Image.new("L", (8, 8)).save(images / "50% #1?.png")
    (answer,) = ended_well(folder, "predict", images=str(images)).splitlines()
    assert "50% #1?.png" in json.loads(answer)["image"]
    links = Links(next(folder.glob("mlruns/**/report.html")))
    assert len(links.found) > 10
    assert links.broken() == []
    assert sorted(path.name for path in folder.iterdir()) == [
        ".sensai",
        images.name,
        "mlflow.db",
        "mlruns",
        "optuna.db",
    ]
    uri = "models:/sensai-ensemble@champion"
    read = f"import mlflow; m = mlflow.pyfunc.load_model({uri!r}); print('rows', len(m.predict(m.input_example)))"
    # MLflow by itself fails at its default address, whose folder has too long a name.
    named = {**os.environ, "MLFLOW_TRACKING_URI": sqlite_url(folder / "mlflow.db")}
    rows = subprocess.run(
        [sys.executable, "-c", read], cwd=folder, env=named, capture_output=True, text=True, check=True
    )
    assert "rows" in rows.stdout
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with server(command("serve", model_uri="models:/sensai-ensemble@champion"), folder, **environment):
        pass
    read = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from sensai.analysis import runs; "
    read += "print(len(runs.stage_runs('main')))"
    done = subprocess.run([sys.executable, "-c", read], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.long
def test_mlflow_run_from_an_odd_folder(folder: Path) -> None:
    given = tiny("prune", base_epochs=0, work_dir=folder / "work #1 100%")
    parameters = [part for name, value in given.items() for part in ("-P", f"{name}={value}")]
    project = [sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local", "-e", "prune", *parameters]
    done = subprocess.run(
        [sys.executable, "-m", "sensai.tracking.tracking_store", *project],
        cwd=folder,
        env=without_a_store(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["mlflow.db", "mlruns", "work #1 100%"]
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith("my")] == [ODD]
    (run,) = mlflow.MlflowClient(sqlite_url(folder / "mlflow.db")).search_runs(["0"], "tags.`sensai.stage` = 'prune'")
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.project.entryPoint"] == "prune"


def made(checkout: Path, **variables: object) -> subprocess.CompletedProcess[str]:
    """Call `make demo` in a checkout; no environment is ever made, nor changed."""
    return subprocess.run(
        ["make", "demo", "PYTHON=false", *(f"{name}={value}" for name, value in variables.items())],
        cwd=checkout,
        env={name: value for name, value in without_a_store().items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.mark.long
def test_make_demo_in_an_odd_checkout(folder: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    cloned = {path.name for path in folder.iterdir()}
    installed = tmp_path / "installed"
    installed.touch()
    done = made(folder, VENV=sys.prefix, STAMP=installed)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} - cloned == {".sensai", "mlflow.db", "mlruns"}
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith("my")] == [ODD]
    links = Links(next(folder.glob("mlruns/**/report.html")))
    assert len(links.found) > 10
    assert links.broken() == []


@pytest.mark.processes
def test_an_environment_below_a_percent_sign_is_refused(folder: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    done = made(folder)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"MLflow cannot be installed in a folder with % in its name: {folder}/.venv; name another" in line
    # The folder may have one; the environment may not.
    assert "MLflow cannot" not in made(folder, VENV=folder.parent / "venv").stderr
    assert "MLflow cannot" in made(folder, VENV=folder.parent / "50%").stderr


@pytest.mark.long
def test_data_in_an_odd_folder(folder: Path) -> None:
    generator = np.random.default_rng(0)
    images = folder / "images #1?"
    for split, count in (("train", 8), ("test", 2)):
        for name in ("50% 'a'", "ß #?"):
            (images / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 255, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(images / split / name / f"{number} %20#?.png")
    ended_well(folder, "baseline", **tiny("baseline", dataset="imagefolder", data_dir=images.name, base_epochs=1))
    write_mnist(folder / "arrays #1 100%?" / "MNIST")
    ended_well(folder, "baseline", **tiny("baseline", dataset="mnist", data_dir="arrays #1 100%?", base_epochs=1))
    runs = mlflow.MlflowClient(sqlite_url(folder / "mlflow.db")).search_runs(["0"], "status = 'FINISHED'")
    assert {run.data.tags["sensai.dataset"] for run in runs} == {"imagefolder", "mnist"}
    assert json.loads(runs[1].data.tags["sensai.config"])["data_dir"] == images.name
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith("my")] == [ODD]
