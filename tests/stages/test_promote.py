"""promote: the champion moves by comparison, can move back, and is always an existing version."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sensai.analysis import runs
from sensai.config import PromoteConfig
from sensai.errors import InputError
from sensai.registry import promotion
from sensai.registry.aliases import find
from sensai.stages import promote
from tests.conftest import ROOT
from tests.helpers.pipeline import Place
from tests.helpers.server import free_port

MODEL = "mine"


@dataclass
class Shelf:
    """A registered model whose versions are based on runs as the stages log them."""

    place: Place
    versions: list[str] = field(default_factory=list)

    def add(
        self,
        val_accuracy: float,
        *,
        flops: float = 100.0,
        latency: float = 1.0,
        base_flops: float = 1000.0,
        base_latency: float = 10.0,
        right: tuple[int, int] | None = None,
        val_digest: str = "images",
        host: str = "here",
        leakage: str = "",
    ) -> int:
        """Register a version; the base model has 0.9 on validation data.

        With `right`, of a hundred validation images so many are answered rightly by the ensemble and by the base model.
        """
        accuracies = {"val_accuracy": val_accuracy, "base_val_accuracy": 0.9, "accuracy": 0.5}
        costs = {"flops_max": flops, "latency_ensemble_ms": latency, "flops_base": base_flops}
        costs |= {"latency_base_ms": base_latency, "latency_base_low_ms": 0.9 * base_latency}
        costs |= {"latency_base_high_ms": 1.1 * base_latency, "latency_ensemble_low_ms": 0.8 * latency}
        costs |= {"latency_ensemble_high_ms": 1.2 * latency}
        about = {"sensai.val_digest": val_digest, "sensai.host": host} | (
            {"sensai.leakage": leakage} if leakage else {}
        )
        evaluated = self._run("evaluate", accuracies | costs, about)
        client, run_id = self.place.client, self._run("register", {})
        if right:
            ensemble, base = ([int(image >= count) for image in range(100)] for count in right)
            answers = pd.DataFrame({"label": 0, "ensemble": ensemble, "base": base})
            client.log_text(evaluated, answers.to_csv(index=False), "val_answers.csv")
        if not self.versions:
            client.create_registered_model(MODEL)
        manifest = json.dumps(
            {
                "format_version": 3,
                "image_shape": [8, 8, 1],
                "dtype": "uint8",
                "layout": "NHWC",
                "class_names": ["a", "b"],
                "members": [],
                "calibration": {"method": "raw", "threshold": None},
                "of": evaluated,
            }
        )
        client.log_text(run_id, manifest, "model/artifacts/ensemble/manifest.json")
        made = client.create_model_version(
            MODEL,
            f"{client.get_run(run_id).info.artifact_uri}/model",
            run_id,
            tags={
                "sensai.upstream.evaluate": evaluated,
                "sensai.manifest": hashlib.sha256(manifest.encode()).hexdigest(),
            },
        )
        client.set_registered_model_alias(MODEL, "candidate", made.version)
        self.versions.append(made.version)
        return int(made.version)

    def promote(self, **parameters: object) -> str:
        return promote.run(PromoteConfig(model_name=MODEL, work_dir=str(self.place.folder / "work"), **parameters))

    def swap(self, version: int) -> None:
        """Change the files of a version."""
        (manifest,) = Path(self.place.client.get_model_version(MODEL, str(version)).source[7:]).rglob("manifest.json")
        manifest.write_text(f"{manifest.read_text()} ")

    @property
    def champion(self) -> int | None:
        try:
            return int(self.place.client.get_model_version_by_alias(MODEL, "champion").version)
        except MlflowException:
            return None

    def _run(self, stage: str, metrics: dict[str, float], more: dict[str, str] | None = None) -> str:
        client = self.place.client
        run_id = client.create_run(self.place.experiment, tags={"sensai.stage": stage, **(more or {})}).info.run_id
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)
        client.set_terminated(run_id)
        return run_id


@pytest.fixture
def shelf(place: Place) -> Shelf:
    return Shelf(place)


def test_the_first_candidate_that_is_accurate_enough_is_promoted(shelf: Shelf) -> None:
    shelf.add(0.896)
    run = shelf.place.run(shelf.promote())
    assert shelf.champion == 1
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(
        {"version": 1, "accuracy_drop": 0.004, "latency_ensemble_ms": 1, "latency_base_ms": 10}
    )


def test_one_that_loses_too_much_is_not_promoted_and_its_run_says_why(shelf: Shelf) -> None:
    shelf.add(0.896)
    shelf.promote()
    shelf.add(0.894)
    with pytest.raises(InputError, match=r"max_accuracy_drop=0.005: version 2 loses 0.0060 \(0.8940 against"):
        shelf.promote()
    assert shelf.champion == 1
    (failed,) = [run for run in shelf.place.of("promote") if run.info.status == "FAILED"]
    assert "loses 0.0060" in failed.data.tags["sensai.failure"]
    table = pd.read_csv(shelf.place.artifact(failed.info.run_id, "comparison.csv"))
    assert list(table["role"]) == ["candidate", "base model", "champion"]
    assert list(table["accuracy_drop"]) == pytest.approx([0.006, 0, 0.004])
    assert list(table["latency"]) == [1, 10, 1]
    shelf.promote(max_accuracy_drop=0.01)
    assert shelf.champion == 2


def test_the_warning_of_the_candidates_evaluation_is_repeated(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    leakage = "the base model was probably trained on validation images"
    shelf.add(0.9, leakage=leakage)
    warned = shelf.place.run(shelf.promote())
    assert shelf.champion == 1
    assert warned.data.tags["sensai.leakage"] == leakage
    assert f"version 1: {leakage}" in caplog.messages
    shelf.add(0.9)
    caplog.clear()
    quiet = shelf.place.run(shelf.promote())
    assert "sensai.leakage" not in quiet.data.tags
    assert not [message for message in caplog.messages if leakage in message]
    # It is told even where the candidate is refused.
    shelf.add(0.1, leakage=leakage)
    with pytest.raises(InputError, match="version 3 loses"):
        shelf.promote()
    assert f"version 3: {leakage}" in caplog.messages


@pytest.mark.parametrize(
    ("cost", "flops", "latency", "promoted"),
    [
        ("flops", 100, 9.0, True),
        ("flops", 101, 0.1, False),
        ("latency", 900, 1.0, True),
        # A tenth more counts as equal: medians of one machine differ by as much from run to run.
        ("latency", 900, 1.09, True),
        ("latency", 1, 1.1, False),
    ],
)
def test_it_must_cost_no_more_than_the_champion(
    shelf: Shelf, cost: str, flops: float, latency: float, promoted: bool
) -> None:
    shelf.add(0.9)
    shelf.promote()
    shelf.add(0.9, flops=flops, latency=latency)
    if promoted:
        shelf.promote(cost=cost)
    else:
        with pytest.raises(InputError, match=f"cost='{cost}': version 2 has .* more than the champion's .*version 1"):
            shelf.promote(cost=cost)
    assert shelf.champion == (2 if promoted else 1)


@pytest.mark.parametrize(
    ("other", "cost", "reason"),
    [
        ({"val_digest": "others"}, "flops", "other validation data than the champion"),
        ({"host": "there"}, "latency", "different machines"),
    ],
)
def test_what_cannot_be_compared_is_refused(shelf: Shelf, other: dict[str, str], cost: str, reason: str) -> None:
    shelf.add(0.9)
    shelf.promote()
    shelf.add(0.9, **other)
    with pytest.raises(InputError, match=reason):
        shelf.promote(cost=cost)
    assert shelf.champion == 1


def test_rollback_goes_back_step_by_step(shelf: Shelf) -> None:
    for _ in range(3):
        shelf.add(0.9)
        shelf.promote()
    assert shelf.champion == 3
    shelf.promote(rollback=True)
    assert shelf.champion == 2
    shelf.promote(rollback=True)
    assert shelf.champion == 1
    with pytest.raises(InputError, match="version 1 of 'mine' replaced no other"):
        shelf.promote(rollback=True)
    assert shelf.champion == 1


def test_rollback_goes_back_through_all_that_served_also_where_one_did_twice(shelf: Shelf) -> None:
    for _ in range(2):
        shelf.add(0.9)
    for version in (1, 2, 1):
        shelf.promote(version=version)
    for expected in (2, 1):
        shelf.promote(rollback=True)
        assert shelf.champion == expected
    with pytest.raises(InputError, match="version 1 of 'mine' replaced no other"):
        shelf.promote(rollback=True)


def test_one_that_was_made_champion_by_hand_has_none_to_go_back_to(shelf: Shelf) -> None:
    for _ in range(3):
        shelf.add(0.9)
    shelf.promote(version=1)
    shelf.place.client.set_registered_model_alias(MODEL, "champion", "2")
    with pytest.raises(InputError, match="version 2 of 'mine' replaced no other"):
        shelf.promote(rollback=True)
    shelf.promote(version=3)
    shelf.promote(rollback=True)
    assert shelf.champion == 2


@given(lost=st.integers(0, 100), right=st.integers(100, 1000))
def test_exactly_the_bound_is_within_whatever_rounding_leaves(lost: int, right: int) -> None:
    small, large = promotion.Costs(1, 1), promotion.Costs(2, 2)
    candidate = promotion.Standing(1, (right - lost) / 1000, right / 1000, small, large, "images", "here")
    promotion.check(candidate, None, lost / 1000, "flops", allow_no_gain=False)
    if lost:
        with pytest.raises(InputError, match="version 1 loses"):
            promotion.check(candidate, None, (lost - 0.5) / 1000, "flops", allow_no_gain=False)


def test_one_that_is_slower_and_not_more_accurate_than_the_base_model_needs_the_word_of_the_user(shelf: Shelf) -> None:
    """A network of 3 MFLOPs: ten small ones together took 26 times as long, and became champion without a word."""
    shelf.add(0.9, latency=12.3, base_latency=0.47, right=(90, 90))
    with pytest.raises(InputError) as refused:
        shelf.promote()
    assert str(refused.value) == (
        "cost='latency': version 1 is neither faster nor more accurate than the base model: 12.3 ms (9.84 to 14.8) against "
        "0.47 ms (0.423 to 0.517), and 0.9000 against 0.9000 on validation data (+0.0000, interval +0.0000 to +0.0000); "
        "allow_no_gain=true promotes it all the same"
    )
    assert shelf.champion is None
    shelf.promote(allow_no_gain=True)
    assert shelf.champion == 1


@pytest.mark.parametrize(
    ("given", "cost", "promoted"),
    [
        ({"latency": 9.0}, "latency", True),
        ({"latency": 9.5}, "latency", False),
        ({"latency": 20.0}, "flops", True),
        ({"flops": 1000.0}, "flops", False),
        ({"latency": 20.0, "right": (99, 90)}, "latency", True),
        # One image more may be chance.
        ({"latency": 20.0, "right": (91, 90)}, "latency", False),
    ],
)
def test_what_counts_as_faster_and_as_more_accurate(
    shelf: Shelf, given: dict[str, Any], cost: str, promoted: bool
) -> None:
    shelf.add(0.9, **given)
    if promoted:
        shelf.promote(cost=cost)
    else:
        with pytest.raises(InputError, match=f"cost='{cost}': version 1 is neither faster nor more accurate"):
            shelf.promote(cost=cost)
    assert shelf.champion == (1 if promoted else None)


def test_a_version_that_is_gone_is_not_gone_back_to(shelf: Shelf) -> None:
    for _ in range(2):
        shelf.add(0.9)
        shelf.promote()
    shelf.place.client.delete_model_version(MODEL, "1")
    with pytest.raises(InputError, match="version=1"):
        shelf.promote(rollback=True)
    assert shelf.champion == 2


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({}, "no version has the alias candidate"), ({"version": 7}, "version=7"), ({"rollback": True}, "champion")],
)
def test_a_version_that_is_not_there_is_named(shelf: Shelf, parameters: dict[str, object], reason: str) -> None:
    shelf.place.client.create_registered_model(MODEL)
    with pytest.raises(InputError, match=f"model_name='mine'.*{reason}"):
        shelf.promote(**parameters)


@pytest.mark.parametrize("parameters", [{}, {"version": 7}, {"rollback": True}])
def test_a_model_that_is_not_there_is_named(shelf: Shelf, parameters: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"model_name='mine': .*mine"):
        shelf.promote(**parameters)
    (run,) = shelf.place.of("promote")
    assert run.info.status == "FAILED"


def test_a_folder_that_cannot_be_made_fails_the_run(shelf: Shelf) -> None:
    shelf.add(0.9)
    (shelf.place.folder / "file").write_text("")
    with pytest.raises(InputError, match="work_dir"):
        promote.run(PromoteConfig(model_name=MODEL, work_dir=str(shelf.place.folder / "file")))
    assert shelf.champion is None
    assert {run.info.status for run in shelf.place.runs().values()} == {"FINISHED", "FAILED"}


def test_a_version_whose_files_were_swapped_is_neither_promoted_nor_gone_back_to(shelf: Shelf) -> None:
    for _ in range(2):
        shelf.add(0.9)
        shelf.promote()
    shelf.add(0.9)
    for version, parameters in ((3, {}), (1, {"rollback": True})):
        shelf.swap(version)
        said = f"^version={version} of 'mine': manifest.json is not the file that was registered: SHA-256 "
        with pytest.raises(InputError, match=said):
            shelf.promote(**parameters)
        assert shelf.champion == 2


def test_the_champion_is_not_promoted_again(shelf: Shelf) -> None:
    shelf.add(0.9)
    shelf.promote()
    with pytest.raises(InputError, match="version=1: is the champion"):
        shelf.promote()


def test_promotions_at_once_replace_each_other_in_turn(shelf: Shelf) -> None:
    for _ in range(4):
        shelf.add(0.9)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda version: shelf.promote(version=version), [1, 2, 3, 4]))
    # Whoever came first, the chain of those that were replaced holds each version once.
    chain = [shelf.champion]
    while replaced := shelf.place.client.get_model_version(MODEL, str(chain[-1])).tags["sensai.replaced"]:
        chain.append(int(replaced))
    assert sorted(chain) == [1, 2, 3, 4]


def test_a_champion_that_came_meanwhile_stays(shelf: Shelf) -> None:
    """Promotions from two working folders do not wait for each other."""
    for _ in range(3):
        shelf.add(0.9)
    client = shelf.place.client
    versions = [client.get_model_version(MODEL, version) for version in shelf.versions]
    promotion.promote(client, versions[0], None)
    promotion.promote(client, versions[1], versions[0])
    for compared_with in (versions[0], None):
        with pytest.raises(InputError, match="version=3: the champion of 'mine' is no longer the one"):
            promotion.promote(client, versions[2], compared_with)
    assert shelf.champion == 2
    assert "sensai.replaced" not in client.get_model_version(MODEL, "3").tags


_KILLED = """
import os, signal, sys
from mlflow.tracking import MlflowClient
from sensai.stages import promote
from sensai.config import PromoteConfig

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(MlflowClient, sys.argv[1], die)
promote.run(PromoteConfig(model_name="mine", work_dir=sys.argv[2]))
"""


@pytest.mark.parametrize(
    "before", [pytest.param("set_registered_model_tag", marks=pytest.mark.long), "set_registered_model_alias"]
)
def test_killed_in_between_it_leaves_the_champion_and_can_be_repeated(shelf: Shelf, before: str) -> None:
    shelf.add(0.9)
    shelf.promote()
    shelf.add(0.9)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, before, str(shelf.place.folder / "work")], cwd=ROOT, env=dict(os.environ)
    )
    assert killed.returncode == -signal.SIGKILL
    assert shelf.champion == 1
    with pytest.raises(InputError, match="version 1 of 'mine' replaced no other"):
        shelf.promote(rollback=True)
    shelf.promote()
    assert shelf.champion == 2
    shelf.promote(rollback=True)
    assert shelf.champion == 1
    with pytest.raises(InputError, match="version 1 of 'mine' replaced no other"):
        shelf.promote(rollback=True)
    # The killed run is closed by the next one.
    assert sorted(run.info.status for run in shelf.place.of("promote")) == ["FAILED"] * 2 + ["FINISHED"] * 3 + [
        "KILLED"
    ]


def test_the_table_of_ensembles_has_versions_tags_and_metrics(shelf: Shelf) -> None:
    assert runs.ensembles().empty
    shelf.add(0.9, flops=7.0)
    shelf.promote()
    shelf.add(0.9)
    table = runs.ensembles(MODEL, wide=True)
    assert list(table["version"]) == [2, 1]
    assert list(table["aliases"]) == ["candidate", "champion"]
    assert table["metrics.flops_max"].tolist() == [100.0, 7.0]
    assert table["tags.sensai.replaced"].fillna("").tolist() == ["", ""]
    assert str(table["created"].dtype) == "datetime64[ms, UTC]"
    assert runs.ensembles("another").empty


def test_a_registry_that_does_not_answer_is_no_mistake_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = MlflowClient(f"http://127.0.0.1:{free_port()}")
    for ask in (lambda: find(client, "mine", 1), lambda: promotion.champion_of(client, "mine")):
        with pytest.raises(MlflowException) as raised:
            ask()
        assert "Max retries exceeded" in str(raised.value)
