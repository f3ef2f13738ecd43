"""The report of a real pipeline in a real browser: nothing fails, nothing is fetched, tables sort, figures tell."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.runs import read_table
from tests.conftest import ROOT
from tests.helpers.pipeline import FinishedMain

PACKAGES = ("@sparticuz/chromium@147.0.0", "puppeteer-core@24.43.1")
SCRIPT = ROOT / "tests" / "helpers" / "browser.mjs"


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Path:
    """A folder with a browser and what drives it, kept for the next time."""
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


def test_the_report_in_a_browser(browser: Path, finished: FinishedMain, tmp_path: Path) -> None:
    page = finished.place.artifact(finished.upstream("report"), "report.html").resolve().as_uri()
    command = ["node", str(browser / SCRIPT.name), page, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["errors"] == []
    assert seen["requests"] == [page]
    given, ascending, descending = seen["sorted"]
    members = read_table(finished.place.artifact(finished.upstream("evaluate"), "members.csv"))
    flops = members.set_index("classes")["flops"]
    assert sorted(given) == sorted(flops.index)
    assert list(flops[ascending]) == sorted(flops)
    assert list(flops[descending]) == sorted(flops, reverse=True)
    assert seen["ariaSort"] == "descending"
    assert seen["hovers"].keys() == {"Accuracy and size", "Widths", "Confusion", "Similarity", "Coupling"}
    assert "FLOPs" in seen["hovers"]["Accuracy and size"]
    assert "answered" in seen["hovers"]["Confusion"]
    assert "channels" in seen["hovers"]["Coupling"]
    assert {path.name for path in tmp_path.iterdir()} >= {"light.png", "dark.png"}
