"""Finished runs in the local cache: the tables are the same as without it, whatever happens to the store."""

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow.cli import gc
from mlflow.entities import ViewType
from pandas.testing import assert_frame_equal

from sensai.analysis import runs
from tests.analysis.conftest import Logbook
from tests.analysis.test_runs import member_run, prune_run
from tests.conftest import ROOT
from tests.helpers.server import mlflow_server

HOUR = 3_600_000
FAR_APART = 5
# Of SHA-256, before the table in a file.
DIGEST_BYTES = 32


def cached() -> pd.DataFrame:
    """Return the table read through a filled cache, after asserting that it equals that of the store."""
    frame = runs.stage_runs("prune", wide=True)
    kept = kept_files()
    assert_frame_equal(frame, runs.stage_runs("prune", wide=True, fresh=True))
    for path, content in kept.items():
        path.write_bytes(content)
    return frame


def ids() -> list[str]:
    return list(cached()["run_id"])


def kept_files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(os.environ["SENSAI_CACHE"]).glob("*.parquet")}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Record the ids of the runs that the store returned, one entry for each request."""
    handed: list[str] = []
    search = mlflow.MlflowClient.search_runs

    def noted(*arguments: object, **more: object) -> object:
        page = search(*arguments, **more)
        handed.extend(run.info.run_id for run in page)
        return page

    monkeypatch.setattr(mlflow.MlflowClient, "search_runs", noted)
    return handed


@pytest.fixture
def spread(logbook: Logbook) -> list[str]:
    """Log prune runs an hour apart, oldest first, and read them all."""
    made = []
    for number in range(FAR_APART):
        made.append(prune_run(logbook, number))
        logbook.skip(HOUR)
    assert ids() == made[::-1]
    return made


class TestSameTable:
    """As without, to the types."""

    @pytest.mark.parametrize("count", [0, 1, 4])
    def test_stage_runs(self, logbook: Logbook, count: int) -> None:
        for number in range(count):
            prune_run(logbook, number, **{"mlflow.parentRunId": "p", "upstream.group": "g"})
            logbook.run(
                {"stage": "prune", "config": json.dumps({"ratio": None, "own": [1], "n": number})}, {"x": 1e-17}
            )
        first, second = runs.stage_runs("prune", wide=True), runs.stage_runs("prune", wide=True)
        assert len(first) == 2 * count
        assert_frame_equal(first, second)
        assert_frame_equal(first, runs.stage_runs("prune", wide=True, fresh=True))

    def test_values_that_are_no_number(self, logbook: Logbook) -> None:
        logbook.run({"stage": "prune"}, {"a": float("nan"), "b": float("inf"), "ä/b c": -0.0})
        first = runs.stage_runs("prune", wide=True)
        assert_frame_equal(first, runs.stage_runs("prune", wide=True))

    @pytest.mark.parametrize("finished_only", [True, False])
    def test_with_reused_and_unfinished_runs(self, logbook: Logbook, finished_only: bool) -> None:
        answer = prune_run(logbook, 1)
        prune_run(logbook, 2)
        for status in ("FINISHED", "FAILED", "RUNNING"):
            logbook.run({"stage": "prune"}, status=status)
            logbook.run({"reused": answer}, status=status)
        several = [
            runs.stage_runs("prune", wide=True, include_reused=True, finished_only=finished_only, fresh=fresh)
            for fresh in (False, False, True)
        ]
        assert len(several[0]) == (4 if finished_only else 8)
        assert_frame_equal(several[0], several[1])
        assert_frame_equal(several[0], several[2])

    def test_members(self, logbook: Logbook) -> None:
        for number in range(3):
            member_run(logbook, "retrain", "r", number, "cat", "dog")
            member_run(logbook, "evaluate", "e", number, "cat")
        first = runs.members()
        assert len(first) == 6
        assert_frame_equal(first, runs.members())
        assert_frame_equal(first, runs.members(fresh=True))

    def test_members_of_few_and_of_many_runs(self, logbook: Logbook) -> None:
        one, two, three = (logbook.run({"stage": stage}) for stage in ("retrain", "evaluate", "retrain"))
        for number in range(3):
            member_run(logbook, "retrain", one, number, "cat")
            member_run(logbook, "evaluate", two, number, "cat")
            member_run(logbook, "retrain", three, number, "cat")
        many = [one, two, *(logbook.run({"stage": "retrain"}) for _ in range(30))]
        assert len(runs.members([one, two])) == 6
        assert_frame_equal(runs.members([one, two]), runs.members(many))

    def test_stages_do_not_mix(self, logbook: Logbook) -> None:
        one, other = prune_run(logbook), logbook.run({"stage": "retrain"})
        for _ in range(2):
            assert list(runs.stage_runs("prune", wide=True)["run_id"]) == [one]
            assert list(runs.stage_runs("retrain")["run_id"]) == [other]


class TestOnlyWhatIsNewIsRead:
    """What the store hands out."""

    def test_nothing_new(self, spread: list[str], given: list[str]) -> None:
        assert len(runs.stage_runs("prune", wide=True)) == FAR_APART
        # The newest, which may have company, and the oldest, which is the last there is.
        assert sorted(given) == sorted([spread[-1], spread[0]])

    def test_new_runs(self, logbook: Logbook, spread: list[str], given: list[str]) -> None:
        new = [prune_run(logbook, 7), prune_run(logbook, 8)]
        assert list(runs.stage_runs("prune", wide=True)["run_id"]) == [*new[::-1], *spread[::-1]]
        # And that which would have been the last there is, had nothing been new.
        assert set(given) == {*new, spread[-1], spread[0], spread[2]}

    def test_members_of_a_run_are_asked_for_alone(self, logbook: Logbook, given: list[str]) -> None:
        one, other = (logbook.run({"stage": "retrain"}) for _ in range(2))
        wanted = [member_run(logbook, "retrain", one, number, "cat") for number in range(2)]
        member_run(logbook, "retrain", other, 0, "cat")
        assert list(runs.members([one])["run_id"]) == wanted
        assert sorted(given) == sorted(wanted)

    @pytest.mark.processes
    @pytest.mark.long
    def test_over_http(self, tmp_path: Path, given: list[str]) -> None:
        with mlflow_server(tmp_path) as uri:
            mlflow.set_tracking_uri(uri)
            logbook = Logbook(mlflow.MlflowClient(), "0")
            made = []
            for number in range(FAR_APART):
                made.append(prune_run(logbook, number))
                logbook.skip(HOUR)
            frame = runs.stage_runs("prune", wide=True)
            given.clear()
            assert_frame_equal(frame, runs.stage_runs("prune", wide=True))
            assert sorted(given) == sorted([made[-1], made[0]])
            logbook.client.delete_run(made[1])
            assert list(runs.stage_runs("prune", wide=True)["run_id"]) == [made[4], made[3], made[2], made[0]]


class TestWhatHappensToRuns:
    """Since they were read."""

    def test_one_ends(self, logbook: Logbook, spread: list[str]) -> None:
        running = logbook.run({"stage": "prune"}, status="RUNNING")
        assert ids() == spread[::-1]
        logbook.client.log_metric(running, "val_accuracy", 0.5)
        logbook.client.set_terminated(running)
        assert ids() == [running, *spread[::-1]]
        assert cached()["metrics.val_accuracy"].iloc[0] == 0.5

    @pytest.mark.parametrize("end", [None, 1])
    def test_one_goes_on_and_fails_or_finishes(self, logbook: Logbook, spread: list[str], end: int | None) -> None:
        logbook.client.update_run(spread[1], status="RUNNING")
        assert ids() == [spread[each] for each in (4, 3, 2, 0)]
        logbook.client.log_metric(spread[1], "val_accuracy", 0.25)
        logbook.client.set_terminated(spread[1], "FINISHED", end_time=end)
        assert cached().set_index("run_id").loc[spread[1], "metrics.val_accuracy"] == 0.25
        logbook.client.set_terminated(spread[1], "FAILED", end_time=end)
        assert ids() == [spread[each] for each in (4, 3, 2, 0)]

    @pytest.mark.parametrize("position", range(FAR_APART))
    def test_one_is_deleted_and_restored(self, logbook: Logbook, spread: list[str], position: int) -> None:
        left = [each for each in spread if each != spread[position]]
        logbook.client.delete_run(spread[position])
        assert ids() == left[::-1]
        logbook.client.restore_run(spread[position])
        assert ids() == spread[::-1]

    def test_one_is_restored_and_another_deleted(self, logbook: Logbook, spread: list[str]) -> None:
        logbook.client.delete_run(spread[1])
        assert len(ids()) == FAR_APART - 1
        logbook.client.restore_run(spread[1])
        logbook.client.delete_run(spread[2])
        assert ids() == [spread[each] for each in (4, 3, 1, 0)]

    def test_what_is_left_logged_a_metric_that_is_no_number(self, logbook: Logbook) -> None:
        kept = logbook.run({"stage": "prune"}, {"a": float("nan")})
        # The last one to end is read anew each time.
        logbook.skip(HOUR)
        last = logbook.run({"stage": "prune"})
        gone = logbook.run({"stage": "prune", "fingerprint": "f"}, {"a": 1.0, "b": 2.0})
        assert ids() == [gone, last, kept]
        logbook.client.delete_run(gone)
        frame = cached()
        assert list(frame["run_id"]) == [last, kept]
        assert "metrics.a" in frame
        assert "metrics.b" not in frame

    def test_all_are_deleted(self, logbook: Logbook, spread: list[str]) -> None:
        for run_id in spread:
            logbook.client.delete_run(run_id)
        assert ids() == []
        new = prune_run(logbook)
        assert ids() == [new]

    def test_one_is_deleted_and_purged_and_another_ends(
        self, logbook: Logbook, spread: list[str], store_uri: str
    ) -> None:
        logbook.client.delete_run(spread[3])
        done = CliRunner().invoke(gc, ["--backend-store-uri", store_uri, "--run-ids", spread[3]])
        assert done.exit_code == 0, done.output
        assert not logbook.client.search_runs([logbook.experiment], run_view_type=ViewType.DELETED_ONLY)
        new = prune_run(logbook)
        assert ids() == [new, *(spread[each] for each in (4, 2, 1, 0))]

    def test_one_is_restored_and_another_purged(self, logbook: Logbook, spread: list[str], store_uri: str) -> None:
        logbook.client.delete_run(spread[3])
        assert len(ids()) == FAR_APART - 1
        logbook.client.restore_run(spread[3])
        # As many as were kept, but not the same.
        logbook.client.delete_run(spread[1])
        done = CliRunner().invoke(gc, ["--backend-store-uri", store_uri, "--run-ids", spread[1]])
        assert done.exit_code == 0, done.output
        assert ids() == [spread[each] for each in (4, 3, 2, 0)]

    def test_one_is_imported_that_ended_long_ago(self, logbook: Logbook, spread: list[str]) -> None:
        logbook.skip(-24 * HOUR)
        old = prune_run(logbook)
        assert ids() == [*spread[::-1], old]

    def test_their_experiment_is_deleted_and_restored(self, logbook: Logbook, spread: list[str]) -> None:
        elsewhere = logbook.client.create_experiment("elsewhere")
        other = logbook.run({"stage": "prune"}, experiment=elsewhere)
        assert ids() == [other, *spread[::-1]]
        logbook.client.delete_experiment(logbook.experiment)
        assert ids() == [other]
        logbook.client.restore_experiment(logbook.experiment)
        assert ids() == [other, *spread[::-1]]

    def test_what_is_changed_after_the_end_shows_when_read_anew(self, logbook: Logbook, spread: list[str]) -> None:
        logbook.client.update_run(spread[0], name="another name")
        logbook.client.log_metric(spread[0], "later", 0.5)
        assert "another name" not in set(runs.stage_runs("prune", wide=True)["name"])
        for fresh in (True, False):
            row = runs.stage_runs("prune", wide=True, fresh=fresh).iloc[-1]
            assert (row["name"], row["metrics.later"]) == ("another name", 0.5)


class TestFiles:
    """What can lie in the place of a file."""

    def test_one_with_a_wrong_byte_anywhere(self, spread: list[str]) -> None:
        ((path, whole),) = kept_files().items()
        frame = runs.stage_runs("prune", wide=True)
        for position in range(0, len(whole), 97):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :])
            assert_frame_equal(frame, runs.stage_runs("prune", wide=True))

    @pytest.mark.parametrize("digest", ["none", "of the table alone", "of another version"])
    def test_a_table_without_the_digest_of_this_form(self, spread: list[str], digest: str) -> None:
        ((path, whole),) = kept_files().items()
        frame = pd.read_parquet(io.BytesIO(whole[DIGEST_BYTES:]))
        # Were it taken, the table would show it.
        frame["name"] = "wrong"
        content = frame.to_parquet(index=False)
        before = {
            "none": b"",
            "of the table alone": hashlib.sha256(content).digest(),
            "of another version": hashlib.sha256(f"2 {pd.__version__}\n".encode() + content).digest(),
        }
        path.write_bytes(before[digest] + content)
        assert ids() == spread[::-1]

    def test_one_of_another_store(
        self, logbook: Logbook, spread: list[str], empty_database: Path, tmp_path: Path
    ) -> None:
        ((_, of_first),) = kept_files().items()
        (tmp_path / "other.db").write_bytes(empty_database.read_bytes())
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
        client = mlflow.MlflowClient()
        other = Logbook(client, client.create_experiment("test"))
        made = [prune_run(other, number) for number in range(FAR_APART)]
        assert ids() == made[::-1]
        assert len(kept_files()) == 2
        for path in kept_files():
            path.write_bytes(of_first)
        assert ids() == made[::-1]

    def test_a_folder_that_cannot_be_made(
        self, logbook: Logbook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = prune_run(logbook)
        (tmp_path / "file").touch()
        monkeypatch.setenv("SENSAI_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.warns(UserWarning, match="set SENSAI_CACHE"):
            assert list(runs.stage_runs("prune", wide=True)["run_id"]) == [made]

    @pytest.mark.processes
    def test_two_processes_at_once(self, logbook: Logbook, store_uri: str) -> None:
        made = [prune_run(logbook, number) for number in range(20)]
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from sensai.analysis import runs\n"
        code += "for _ in range(5): print(*runs.stage_runs('prune', fresh=True)['run_id'], *runs.stage_runs('prune')['run_id'])"
        both = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ})
            for _ in range(2)
        ]
        for process in both:
            lines = process.communicate(timeout=240)[0].splitlines()
            assert process.returncode == 0
            assert [line.split() for line in lines] == [made[::-1] * 2] * 5
        assert ids() == made[::-1]
        assert [path.suffix for path in Path(os.environ["SENSAI_CACHE"]).iterdir() if path.suffix != ".lock"] == [
            ".parquet"
        ]
