"""The page of a server's interface in a real browser: it loads nothing from elsewhere, and its form asks the server."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sensai.serving.access import Token
from tests.analysis.test_report_in_a_browser import browser  # noqa: F401  (a fixture)
from tests.conftest import ROOT
from tests.helpers.ensembles import NAMES, SHAPE
from tests.helpers.pipeline import Place
from tests.serving.conftest import OPTIONS, local_server

pytestmark = [pytest.mark.processes, pytest.mark.long]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, SHAPE[:2], dtype=np.uint8)).save(path)
    return path


def test_the_page_asks_the_server(place: Place, browser: Path, picture: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "token").write_text("0123456789abcdef")
    shutil.copy(ROOT / "tests/helpers/api_page.mjs", browser)
    with local_server(place, options=replace(OPTIONS, token=Token.of_file(str(tmp_path / "token")))) as (url, _):
        arguments = [f"{url}/docs", str(picture), "0123456789abcdef", str(tmp_path / "page.png")]
        done = subprocess.run(
            ["node", str(browser / "api_page.mjs"), *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["errors"] == []
    assert set(seen["requests"]) == {f"{url}/docs", f"{url}/invocations"}
    status, answer, timing = seen["answer"].splitlines()
    assert status == "200"
    assert list(json.loads(answer)["predictions"][0]) == list(NAMES)
    assert timing.startswith("decode;dur=")
    assert "POST/invocations" in seen["headings"]
