"""A full or read-only disk gives one line with the path and the bytes, a failed run, and no leftovers."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from tests.conftest import ROOT, command, tiny
from tests.helpers.disks import Ran, run_on_small_disk
from tests.helpers.pipeline import Place
from tests.helpers.writers import WRITERS

_FULL = r"no space is left \((\d+ bytes are needed, )?\d+ are free\)"


def written(disk: Path, **options: object) -> dict[str, tuple[str, str, list[str]]]:
    """Return the messages and the leftovers of every writer on a small disk."""
    script = [sys.executable, "-m", "tests.helpers.writers", str(disk)]
    ran = run_on_small_disk(script, disk, 128, PYTHONPATH=str(ROOT), **options)
    assert ran.status == 0, ran.errors
    rows = [json.loads(line) for line in ran.out.splitlines()]
    return {name: (kind, said, left) for name, kind, said, left in rows}


@pytest.mark.long
def test_every_writer_names_what_is_full_and_leaves_nothing(tmp_path: Path) -> None:
    found = written(tmp_path / "disk")
    assert found.keys() == WRITERS.keys()
    for name, (kind, said, left) in found.items():
        assert kind == "StorageError", (name, said)
        assert re.fullmatch(rf"'{tmp_path}/disk/{name}.*' cannot be written: {_FULL}", said), (name, said)
        assert left == [], name


@pytest.mark.long
def test_every_writer_names_what_is_read_only(tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.mkdir()
    (seed / "read-only").touch()
    for name, (kind, said, _) in written(tmp_path / "disk", seed=seed, read_only=True).items():
        assert kind in ("StorageError", "InputError"), (name, said)
        assert str(tmp_path / "disk") in said, (name, said)
        assert re.search("read-only", said, re.IGNORECASE), (name, said)


@dataclass(frozen=True)
class Attempt:
    """An entry point on a small disk, and its runs."""

    ran: Ran
    runs: list[Run]

    @property
    def error(self) -> str:
        return self.ran.errors.strip().splitlines()[-1]


def attempt(
    place: Place, stage: str, kib: int, disk: Path, parameters: dict[str, object], **environment: str
) -> Attempt:
    environment = {
        "MLFLOW_TRACKING_URI": place.uri,
        "MLFLOW_EXPERIMENT_ID": place.experiment,
        "OMP_NUM_THREADS": "1",
    } | environment
    ran = run_on_small_disk(command(stage, **tiny(stage, **parameters)), disk, kib, **environment)
    return Attempt(ran, list(place.runs().values()))


def check_refused(tried: Attempt, stage: str, disk: Path) -> None:
    """Assert status 2, one line that names the full disk, a run FAILED with this reason, no traceback and no partial file."""
    assert tried.ran.status == 2, tried.ran.errors
    assert "Traceback" not in tried.ran.errors
    assert re.fullmatch(rf"error: {stage}: '{disk}.*' cannot be written: {_FULL}", tried.error), tried.error
    failed = [run for run in tried.runs if run.info.status != "FINISHED"]
    assert failed
    for run in failed:
        assert run.info.status == "FAILED"
        assert run.data.tags["sensai.failure"].startswith(f"StorageError: '{disk}")
    # Temporary names begin with a dot, and those of folders in TMPDIR with the project's name.
    assert not [path for path in tried.ran.left if re.match(r"\.(?!sensai|ses)|sensai-|tmp", path.rpartition("/")[2])]


@pytest.mark.processes
@pytest.mark.long
def test_images_that_the_disk_does_not_hold_are_not_decoded(empty_database: Path, tmp_path: Path) -> None:
    place, disk = Place.make(tmp_path, empty_database), tmp_path / "disk"
    # As `mlflow run` opens it: without, there is no run yet.
    run_id = place.client.create_run(place.experiment).info.run_id
    tried = attempt(place, "baseline", 8, disk, {"work_dir": str(disk / "work")}, MLFLOW_RUN_ID=run_id)
    check_refused(tried, "baseline", disk)
    assert "_images.npy" in tried.error
    assert [path for path in tried.ran.left if path.endswith(".npy")] == []


@pytest.mark.long
@pytest.mark.parametrize("kib", [40, 400, 800, 1500])
def test_a_full_working_folder_ends_main_in_one_line_and_more_room_lets_it_go_on(
    empty_database: Path, tmp_path: Path, kib: int
) -> None:
    place, disk = Place.make(tmp_path, empty_database), tmp_path / "disk"
    parameters = {"work_dir": str(disk / "work")}
    check_refused(attempt(place, "main", kib, disk, parameters), "main", disk)
    again = attempt(place, "main", 2**16, disk, parameters)
    assert again.ran.status == 0, again.ran.errors


@pytest.mark.long
@pytest.mark.parametrize("kib", [100, 200, 600])
def test_a_full_temporary_folder_ends_main_in_one_line(empty_database: Path, tmp_path: Path, kib: int) -> None:
    place, disk = Place.make(tmp_path, empty_database), tmp_path / "disk"
    check_refused(attempt(place, "main", kib, disk, {}, TMPDIR=str(disk)), "main", disk)


@pytest.mark.long
@pytest.mark.parametrize("kib", [4, 100, 400, 1000, 2000])
def test_full_artifacts_end_main_in_one_line(empty_database: Path, tmp_path: Path, kib: int) -> None:
    disk = tmp_path / "artifacts"
    check_refused(attempt(Place.make(tmp_path, empty_database), "main", kib, disk, {}), "main", disk)


@pytest.mark.long
@pytest.mark.parametrize("more", [0, 16, 40, 100])
@pytest.mark.parametrize("stage", ["main", "tune"])
def test_a_full_database_is_named(empty_database: Path, tmp_path: Path, more: int, stage: str) -> None:
    seed, disk = tmp_path / "seed", tmp_path / "disk"
    seed.mkdir()
    place = Place.make(seed, empty_database)
    kib = (seed / "mlflow.db").stat().st_size // 1024 + more
    uri = f"sqlite:///{disk}/mlflow.db"
    ran = run_on_small_disk(
        command(stage, **tiny(stage)),
        disk,
        kib,
        seed=seed,
        MLFLOW_TRACKING_URI=uri,
        MLFLOW_EXPERIMENT_ID=place.experiment,
    )
    assert ran.status == 2, ran.errors
    assert "Traceback" not in ran.errors
    said = rf"error: {stage}: 'sqlite(\+pysqlite)?:///{disk}/(mlflow|optuna)\.db' cannot be written: {_FULL}"
    assert re.fullmatch(said, ran.errors.strip().splitlines()[-1]), ran.errors


@pytest.mark.long
def test_run_tables_are_read_although_they_cannot_be_kept_and_results_that_cannot_be_written_are_named(
    empty_database: Path, tmp_path: Path
) -> None:
    place = Place.make(tmp_path, empty_database)
    with place.active():
        for _ in range(3):
            with mlflow.start_run(tags={"sensai.stage": "prune"}):
                mlflow.log_metric("flops_max", 1.0)
    disk = tmp_path / "disk"
    environment = {"MLFLOW_TRACKING_URI": place.uri, "PYTHONPATH": str(ROOT)}
    table = "from sensai.analysis import runs; print(len(runs.stage_runs('prune')))"
    ran = run_on_small_disk([sys.executable, "-c", table], disk, 4, SENSAI_CACHE=str(disk / "cache"), **environment)
    assert ran.status == 0, ran.errors
    assert ran.out.strip() == "3"
    assert "run tables are not kept for the next time" in ran.errors
    exporting = [sys.executable, "-m", "sensai.analysis.results", str(disk / "results")]
    ran = run_on_small_disk(exporting, disk, 4, **environment)
    assert ran.status == 2, ran.errors
    assert re.fullmatch(rf"error: '{disk}/results.*' cannot be written: {_FULL}", ran.errors.strip().splitlines()[-1])
    assert ran.left == ["results"]
