"""Real processes, in turn and together: the table, failures, and no process left."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from sensai.errors import InputError
from sensai.stages.contention.measuring import WAYS, measure
from sensai.stages.contention.started_together import at_once
from tests.conftest import ROOT
from tests.helpers import contention
from tests.helpers.processes import still_running

pytestmark = pytest.mark.processes


COLUMNS = {
    **{"task": "str", "way": "str", "n": "int64", "images": "int64", "images_per_s": "float64", "start_s": "float64"},
    **{"step_ms": "float64", "data_share": "float64", "peak_mib": "float64", "threads": "int64", "cores": "int64"},
}
# Passes over all images in which one process is busy for minutes.
MANY = 1_000_000


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> object:
    before = children()
    yield
    assert children() <= before


@pytest.mark.long
def test_the_table_sets_the_ways_beside_each_other(tmp_path: Path) -> None:
    # As many workers of one thread, whatever the machine has.
    folder = contention.save(tmp_path / "job", contention.split(48), jobs=2, threads=1)
    table = measure(folder, "training", [1, 2])
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == COLUMNS
    assert list(zip(table["n"], table["way"], strict=True)) == [(n, way) for n in (1, 2) for way in WAYS]
    assert set(table["task"]) == {"training"}
    assert set(table["images"]) == {48}
    assert (table[["images_per_s", "start_s", "step_ms", "peak_mib", "threads", "cores"]] > 0).all(axis=None)
    assert table["data_share"].between(0, 1).all()
    one, two = (table[table["n"] == n].set_index("way") for n in (1, 2))
    # What each asks for adds up; in turn, and in one process for all, it does not.
    assert two.loc["naive", "threads"] == 2 * one.loc["naive", "threads"]
    assert two.loc["in_turn", "threads"] == one.loc["in_turn", "threads"]
    # Each has a worker of its loader besides.
    assert two.loc["pinned", "threads"] == 2 * (max(two.loc["pinned", "cores"] // 2, 1) + 1)
    assert [one.loc["engine", "threads"], two.loc["engine", "threads"]] == [1, 2]
    assert two.loc["naive", "peak_mib"] > one.loc["naive", "peak_mib"]


def test_processes_do_not_take_the_threads_of_whoever_runs_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = contention.save(tmp_path / "job", contention.split(32), workers=0)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    default = at_once(folder, "naive", "scoring", [[0]]).threads
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert default == at_once(folder, "naive", "scoring", [[0]]).threads


def test_a_process_that_cannot_begin_is_named(tmp_path: Path) -> None:
    folder = contention.save(tmp_path / "job", contention.split(32), members=1)
    with pytest.raises(InputError, match=r"^naive training, of 2 processes failed 1: .*'.*/7/ensemble.json'$"):
        at_once(folder, "naive", "training", [[0], [7]])


def test_processes_that_fail_later_are_named(tmp_path: Path) -> None:
    pictures = [str(tmp_path / f"{row}.png") for row in range(32)]
    for path in pictures:
        Image.new("L", (8, 8)).save(path)
    # Beyond the first batch, with which all begin; the loader's worker dies of it.
    Path(pictures[20]).write_text("no image")
    folder = contention.save(tmp_path / "job", contention.split(32), files=pictures)
    with pytest.raises(InputError, match=r"^naive scoring, of 2 processes failed 0: .*; 1: .*"):
        at_once(folder, "naive", "scoring", [[0], [1]])


@pytest.mark.long
def test_a_kill_of_the_run_ends_every_process(tmp_path: Path) -> None:
    contention.save(tmp_path / "job", contention.split(MANY))
    code = (
        "from pathlib import Path\n"
        "from sensai.stages.contention.started_together import at_once\n"
        f"at_once(Path({str(tmp_path / 'job')!r}), 'naive', 'training', [[0], [1]])\n"
    )
    run = psutil.Process(subprocess.Popen([sys.executable, "-c", code], cwd=ROOT).pid)
    try:
        deadline = time.monotonic() + 120
        # Two processes and a worker of each, in the pass over all images.
        while len(run.children(recursive=True)) < 4 or sum(each.cpu_times().user for each in run.children()) < 10:
            assert time.monotonic() < deadline
            assert run.is_running()
            time.sleep(0.1)
        started = run.children(recursive=True)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    # torch has the workers of a loader look for it every five seconds.
    left = still_running(started, 20)
    for each in left:
        each.kill()
    assert not left
