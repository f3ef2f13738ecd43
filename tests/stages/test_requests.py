"""Number of HTTP requests of stages to a tracking server: with authentication each takes a second and more."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from sensai.config import CONFIGS
from sensai.stages import retrain
from tests.conftest import Entry, tiny
from tests.helpers.counting import Counter as Requests
from tests.helpers.counting import counted
from tests.helpers.pipeline import stage_of
from tests.helpers.server import mlflow_server

pytestmark = pytest.mark.processes

A_STAGE, A_MEMBER = 15, 6


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Requests]:
    """Yield the requests to a server over an empty store, to which MLflow is set."""
    # As the entry points set it: the line costs a request a run.
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with mlflow_server(tmp_path) as uri, counted(uri) as requests:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", requests.uri)
        mlflow.set_tracking_uri(requests.uri)
        yield requests


def check(requests: Requests) -> list[Run]:
    """Assert that there are few requests, and return the runs that they made."""
    made = list(requests.requests)
    client = mlflow.MlflowClient(requests.uri)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    stages = [run for run in runs if stage_of(run) != "member"]
    members = [run for run in runs if stage_of(run) == "member"]
    # The content of each artifact is a request of its own, and so is the question what there is.
    tracking = [each for each in made if not each.is_of_an_artifact]
    of_runs = Counter(each.run_id for each in tracking)
    uploads = Counter(each.run_id for each in made if each.is_upload)
    assert {stage_of(run): of_runs[run.info.run_id] for run in stages if of_runs[run.info.run_id] > A_STAGE} == {}
    # All that a member run takes: it has one artifact.
    assert max(of_runs[run.info.run_id] + uploads[run.info.run_id] for run in members) <= A_MEMBER
    # Those that name no run, searches say, included.
    assert len(tracking) <= A_STAGE * len(stages) + A_MEMBER * len(members)
    # No artifact is sent twice.
    assert max(Counter(each.path for each in made if each.is_upload).values()) == 1
    print(
        f"{len(made)} requests: {len(tracking)} to the tracking API for {len(stages)} runs of stages and {len(members)} of "
        f"members, {sum(uploads.values())} uploads, {sum(each.is_download for each in made)} downloads"
    )
    return runs


def test_a_stage_and_those_before_it_make_few_requests(requests: Requests, tmp_path: Path) -> None:
    run_id = retrain.run(CONFIGS["retrain"](**tiny("retrain", work_dir=str(tmp_path / "work"))))
    runs = {run.info.run_id: run for run in check(requests)}
    assert Counter(map(stage_of, runs.values())) == Counter(
        {"baseline": 1, "activations": 1, "group": 1, "prune": 1, "retrain": 1, "member": 3}
    )
    # Little is not nothing.
    assert runs[run_id].data.metrics["val_accuracy"] > 0
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


@pytest.mark.long
def test_main_makes_few_requests(requests: Requests, entry: Entry, tmp_path: Path) -> None:
    """The whole pipeline with a control, as a user runs it."""
    assert os.environ["MLFLOW_TRACKING_URI"] == requests.uri
    done = entry("main", timeout=3000, **tiny("main", yardsticks="control", epochs=3, work_dir=tmp_path / "work"))
    assert done.returncode == 0, done.stderr
    assert len(check(requests)) == 13 + 8
