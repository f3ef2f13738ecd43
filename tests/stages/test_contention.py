"""`contention` on tiny data: its logged results and their origin."""

import json
import platform
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sensai import evaluation
from sensai.cluster.processes import allocator_settings
from sensai.data.images.decoding import decode
from sensai.pipeline.context import Context
from sensai.pipeline.session import Session, dataset_of
from sensai.stages.contention import experiment
from tests.conftest import Entry, tiny
from tests.entrypoints.test_bad_input import assert_refused
from tests.helpers.pipeline import Place, Pruned

LOGGED = ("images_per_s", "start_s", "step_ms", "data_share", "peak_mib", "threads")


# Python runs it at the start of every process below.
NOTE_PROCESS = """
import json, os, sys
if "sensai.stages.contention.measured_process" in sys.orig_argv:
    with open(os.path.join(os.path.dirname(__file__), f"{os.getpid()}.json"), "w") as file:
        names = ["OMP_WAIT_POLICY", "MALLOC_TRIM_THRESHOLD_"]
        json.dump({"naive": "naive" in sys.orig_argv, "given": [os.environ.get(name) for name in names]}, file)
"""


@pytest.mark.processes
@pytest.mark.long
def test_it_logs_the_table_the_figure_and_every_figure_by_number(
    pruned: Pruned, entry: Entry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place, notes, temporary = pruned.place, tmp_path / "notes", tmp_path / "temporary"
    notes.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    (notes / "sitecustomize.py").write_text(NOTE_PROCESS)
    monkeypatch.setenv("PYTHONPATH", str(notes))
    for name in ("OMP_WAIT_POLICY", *allocator_settings()):
        monkeypatch.delenv(name, raising=False)
    given = {"trainings": "1", "tasks": "training", "workers": 0, "contention_images": 40}
    given["work_dir"] = str(tmp_path / "work")
    result = entry("contention", **tiny("contention", **given))
    assert result.returncode == 0, result.stderr
    assert list(temporary.iterdir()) == []
    # Threads of the entry point, and of what it starts, sleep while they wait, and freed memory is kept; not so in scripts that
    # are not sensAI's.
    noted = [json.loads(path.read_text()) for path in notes.glob("*.json")]
    kept = str(1 << 30) if platform.libc_ver()[0] == "glibc" else None
    assert {(each["naive"], *each["given"]) for each in noted} == {(True, None, None), (False, "passive", kept)}

    (run,), config = place.of("contention"), place.config("contention", **given)
    run_id = run.info.run_id
    assert {"contention.csv", "contention_summary.csv", "contention.png"} <= place.artifacts(run_id)
    assert run.data.tags["sensai.upstream.prune"] == pruned.run_id
    assert json.loads(run.data.tags["sensai.host"]) == evaluation.host()
    table = pd.read_csv(place.artifact(run_id, "contention.csv"))
    assert set(table["images"]) == {40}
    assert set(table["n"]) == {1}
    assert set(table["repeat"]) == {0}
    assert set(table["task"]) == {"training"}
    summary = pd.read_csv(place.artifact(run_id, "contention_summary.csv"))
    assert summary["images_per_s"].tolist() == pytest.approx(table["images_per_s"])
    for _, row in table.iterrows():
        for name in LOGGED:
            (metric,) = place.client.get_metric_history(run_id, f"{row['task']}_{row['way']}_{name}")
            assert (metric.step, metric.value) == (row["n"], pytest.approx(row[name]))
    speed = table.set_index("way")["images_per_s"]
    assert run.data.metrics["training_speedup"] == pytest.approx(speed["engine"] / speed["naive"])
    assert not (Path(config.work_dir) / "checkpoints" / run.data.tags["sensai.fingerprint"]).exists()
    assert experiment.run(config) == run_id


def test_no_more_images_than_there_are(place: Place) -> None:
    config = place.config("contention", contention_images=5000)
    train = dataset_of(config).train
    np.testing.assert_array_equal(experiment.images_of(config, dataset_of(config)).rows, train.rows)


def test_naive_processes_decode_the_files_of_the_same_images(place: Place, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(10):
                pixels = generator.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    config = place.config(
        "contention", dataset="imagefolder", data_dir=str(tmp_path / "images"), contention_images=6, val_fraction=0.2
    )
    session = Session.connect()
    images = experiment.images_of(config, session.dataset(config))
    context = Context(config, session, session.store.create("job", None), {}, "", tmp_path)
    files = experiment.job_of(config, images, context).files
    assert len(set(images.labels)) == 2
    assert len(files) == len(set(files)) == len(images) == 6
    for row, path in zip(images.rows, files, strict=True):
        np.testing.assert_array_equal(decode(Path(path)), images.images[row])


@pytest.mark.parametrize("trainings", ["", "0", "1,x", "1,,2", "-1", "1.5"])
def test_how_many_at_once_are_whole_numbers(launched: Entry, trainings: str) -> None:
    assert_refused(launched("contention", trainings=trainings), f"trainings='{trainings}'", "whole numbers")
