"""Pages of real runs in a real browser: nothing fails, nothing is fetched, tables sort, figures show hovers."""

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from sensai.analysis.runs import compare, read_table
from sensai.stages import report, tune
from tests.analysis.test_report import FIGURES
from tests.conftest import ROOT
from tests.helpers.pipeline import FinishedMain, Place

pytestmark = pytest.mark.processes


PACKAGES = ("@sparticuz/chromium@147.0.0", "puppeteer-core@24.43.1")
SCRIPT = ROOT / "tests" / "helpers" / "browser.mjs"


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Path:
    """Return a folder with a browser and its driver, kept for the next time."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm, which install a browser, are not there")
    assert request.config.cache
    folder = request.config.cache.mkdir("browser")
    if not (folder / SCRIPT.name).exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=0", "--prefix", str(folder), *PACKAGES]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"no browser could be installed: {done.stderr.strip().splitlines()[-1]}")
    # Packages are found from where the script lies.
    shutil.copy(SCRIPT, folder)
    return folder


@dataclass(frozen=True)
class Seen:
    """The visible contents of a page.

    Attributes:
        orders: the rows of a table as given, and sorted by a column in both directions.
        downloads: name -> the CSV behind a link.
        hovers: title of a figure -> text under the pointer.
    """

    orders: list[list[str]]
    downloads: dict[str, str]
    hovers: dict[str, str]


def look(browser: Path, page: Path, folder: Path, *, table: str, key: str, column: str) -> Seen:
    """Open a page, sort a table by a column, and point at every figure."""
    url = page.resolve().as_uri()
    command = ["node", str(browser / SCRIPT.name), url, str(folder), table, key, column]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["errors"] == []
    assert seen["requests"] == [url]
    assert seen["ariaSort"] == "descending"
    assert {path.name for path in folder.iterdir()} >= {"light.png", "dark.png"}
    return Seen(seen["sorted"], seen["downloads"], seen["hovers"])


def assert_sorted(seen: Seen, values: "pd.Series[float]") -> None:
    """Assert that the rows were sorted by their values, upwards and downwards."""
    given, ascending, descending = seen.orders
    assert sorted(given) == sorted(values.index)
    assert list(values[ascending]) == sorted(values)
    assert list(values[descending]) == sorted(values, reverse=True)


def test_the_report_of_an_evaluation(browser: Path, finished: FinishedMain, tmp_path: Path) -> None:
    page = finished.place.artifact(finished.upstream("report"), "report.html")
    seen = look(browser, page, tmp_path, table="Members", key="classes", column="flops")
    logged = finished.place.artifact(finished.upstream("evaluate"), "members.csv")
    assert_sorted(seen, read_table(logged).set_index("classes")["flops"])
    assert seen.downloads["Accuracy and size.csv"] == logged.read_text()
    assert seen.hovers.keys() == {*FIGURES, "Learning curves"}
    assert "FLOPs" in seen.hovers["Accuracy and size"]
    assert "answered" in seen.hovers["Confusion"]
    assert "channels" in seen.hovers["Coupling"]
    assert "training loss" in seen.hovers["Learning curves"]


@pytest.fixture
def place(finished_main: FinishedMain, tmp_path: Path) -> Iterator[Place]:
    """Return a copy of the store for pages."""
    (tmp_path / "store").mkdir()
    with finished_main.place.copy(tmp_path / "store").active() as copy:
        yield copy


def test_the_report_of_a_study(browser: Path, place: Place, tmp_path: Path) -> None:
    study = tune.run(place.config("tune", trials=3, epochs=0, max_accuracy_drop=1))
    page = place.artifact(report.run(place.config("report", from_run=study)), "report.html")
    seen = look(browser, page, tmp_path, table="Trials", key="run_id", column="cost")
    logged = place.artifact(study, "trials.csv")
    assert_sorted(seen, read_table(logged).set_index("run_id")["cost"])
    assert seen.downloads["Accuracy and cost.csv"] == logged.read_text()
    assert seen.hovers.keys() == {"Accuracy and cost", "Hypervolume", "Importances", "Accuracy by parameter"}
    assert "policy=" in seen.hovers["Accuracy and cost"]
    assert "policy=" in seen.hovers["Accuracy by parameter"]
    assert "hypervolume" in seen.hovers["Hypervolume"]


def test_the_report_of_runs_side_by_side(
    browser: Path, place: Place, finished_main: FinishedMain, tmp_path: Path
) -> None:
    ids = [finished_main.upstream("evaluate"), finished_main.run_id, finished_main.upstream("prune")]
    page = place.artifact(report.run(place.config("report", compare_runs=",".join(ids))), "report.html")
    seen = look(browser, page, tmp_path, table="What differs", key="run_id", column="seconds")
    assert_sorted(seen, compare(ids).loc["seconds"])
    assert list(seen.hovers) == ["Accuracy and FLOPs"]
    assert "FLOPs of the largest member" in seen.hovers["Accuracy and FLOPs"]
    shown = pd.read_csv(io.StringIO(seen.downloads["Accuracy and FLOPs.csv"]))
    assert shown["run_id"].tolist() == ids[:2]
    assert set(shown["accuracy"]) == {place.run(ids[0]).data.metrics["accuracy"]}
