"""Pages of real runs in a real browser: nothing fails, nothing is fetched, tables sort, figures show hovers."""

import io
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sensai.analysis.runs import compare, read_table
from sensai.stages import report, tune
from tests.analysis.conftest import Logbook
from tests.analysis.test_report import FIGURES, evaluation, render
from tests.conftest import ROOT
from tests.helpers.pipeline import FinishedMain, Place

pytestmark = pytest.mark.processes


PACKAGES = ("@sparticuz/chromium@147.0.0", "puppeteer-core@24.43.1", "axe-core@4.14.1")
READER, CHECKS = (ROOT / "tests" / "helpers" / name for name in ("browser.mjs", "page_checks.mjs"))


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Path:
    """Return a folder with a browser, its driver and a checker of accessibility, kept for the next time."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm, which install a browser, are not there")
    assert request.config.cache
    folder = request.config.cache.mkdir("browser")
    if not (folder / CHECKS.name).exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=0", "--prefix", str(folder), *PACKAGES]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"no browser could be installed: {done.stderr.strip().splitlines()[-1]}")
    # Packages are found from where the script lies.
    for script in (READER, CHECKS):
        shutil.copy(script, folder)
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
    command = ["node", str(browser / READER.name), url, str(folder), table, key, column]
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


def by_short_id(values: "pd.Series[float]") -> "pd.Series[float]":
    """Return values under run ids as the page shows them."""
    return values.rename(index=lambda run_id: run_id[:8])


def test_the_report_of_an_evaluation(browser: Path, finished: FinishedMain, tmp_path: Path) -> None:
    page = finished.place.artifact(finished.upstream("report"), "report.html")
    seen = look(browser, page, tmp_path, table="Members", key="classes", column="FLOPs")
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


@pytest.mark.long
def test_the_report_of_a_study(browser: Path, place: Place, tmp_path: Path) -> None:
    study = tune.run(place.config("tune", trials=3, epochs=0, max_accuracy_drop=1))
    page = place.artifact(report.run(place.config("report", from_run=study)), "report.html")
    seen = look(browser, page, tmp_path, table="Trials", key="run", column="cost, share of base model [%]")
    logged = place.artifact(study, "trials.csv")
    assert_sorted(seen, by_short_id(read_table(logged).set_index("run_id")["cost"]))
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
    seen = look(browser, page, tmp_path, table="What differs", key="run", column="seconds")
    assert_sorted(seen, by_short_id(compare(ids).loc["seconds"]))
    assert list(seen.hovers) == ["Accuracy and FLOPs"]
    assert "FLOPs of the largest member" in seen.hovers["Accuracy and FLOPs"]
    shown = pd.read_csv(io.StringIO(seen.downloads["Accuracy and FLOPs.csv"]))
    assert shown["run_id"].tolist() == ids[:2]
    assert set(shown["accuracy"]) == {place.run(ids[0]).data.metrics["accuracy"]}


def checked(
    browser: Path, page: Path, folder: Path, wanted: Sequence[str] = ("narrow", "wide", "paper", "light", "dark")
) -> dict:
    """Return what readers meet who use a narrow or a wide window, paper, a dark screen, or a screen reader."""
    command = ["node", str(browser / CHECKS.name), page.resolve().as_uri(), str(folder), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_good_to_read(met: dict) -> None:
    assert not met["narrow"]["overflows"]
    assert met["narrow"]["unreachable"] == []
    assert met["wide"]["cut"] == []
    for scheme in ("light", "dark"):
        assert met[scheme]["violations"] == []
        assert met[scheme]["tick"] == met[scheme]["text"]
    assert met["light"]["background"] != met["dark"]["background"]
    paper = met["paper"]
    assert paper["blank"] == paper["wide"] == paper["cut"] == []
    # As wide as a sheet of A4 between its margins, and light though the screen was dark.
    assert paper["sheet"] == 680
    assert paper["colours"] == [met["light"]["text"], met["light"]["background"]]
    assert paper["after"] == ""


def test_an_evaluation_on_screens_on_paper_and_with_a_screen_reader(
    browser: Path, finished: FinishedMain, tmp_path: Path
) -> None:
    page = finished.place.artifact(finished.upstream("report"), "report.html")
    met = checked(browser, page, tmp_path)
    assert_good_to_read(met)
    # The first screen ends with the figure.
    assert met["wide"]["last"] <= 900


@pytest.mark.long
def test_a_study_and_runs_side_by_side_on_screens_on_paper_and_with_a_screen_reader(
    browser: Path, place: Place, finished_main: FinishedMain, tmp_path: Path
) -> None:
    study = tune.run(place.config("tune", trials=3, epochs=0, max_accuracy_drop=1))
    page = place.artifact(report.run(place.config("report", from_run=study)), "report.html")
    assert_good_to_read(checked(browser, page, tmp_path))
    ids = [finished_main.upstream("evaluate"), finished_main.run_id]
    page = place.artifact(report.run(place.config("report", compare_runs=",".join(ids))), "report.html")
    assert_good_to_read(checked(browser, page, tmp_path))


@pytest.mark.long
def test_a_thousand_classes_are_seen_within_two_seconds_and_printed(
    browser: Path, logbook: Logbook, store_uri: str, tmp_path: Path
) -> None:
    classes = [f"n{number:08d} a class with a name of some length" for number in range(1000)]
    run_id = evaluation(logbook, classes)
    square = np.random.default_rng(0).integers(0, 5, (1000, 1000))
    matrix = pd.DataFrame(square, columns=classes).to_csv(index=False)
    logbook.client.log_text(run_id, matrix, "confusion.csv")
    group = logbook.client.get_run(run_id).data.tags["sensai.upstream.group"]
    logbook.client.log_text(group, matrix, "coupling.csv")
    logbook.client.log_dict(
        group, {"groups": [[place] for place in range(1000)], "class_names": classes}, "groups.json"
    )
    page = tmp_path / "page.html"
    page.write_text(render(run_id, store_uri))
    met = checked(browser, page, tmp_path, ["painted", "narrow", "paper"])
    assert met["painted"] < 2000
    assert not met["narrow"]["overflows"]
    assert met["paper"]["blank"] == met["paper"]["wide"] == met["paper"]["cut"] == []
