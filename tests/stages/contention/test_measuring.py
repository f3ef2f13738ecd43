"""Real processes, in turn and together: the table, failures, and no process left."""

import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest

from sensai.data.streaming import ImageFiles
from sensai.errors import DamagedError, InputError
from sensai.stages.contention.measuring import WAYS, in_order_of, measure, measure_repeats, processes_of, ways_of
from sensai.stages.contention.started_together import at_once
from tests.conftest import ROOT
from tests.helpers import contention
from tests.helpers.processes import still_running

pytestmark = pytest.mark.processes


COLUMNS = {
    **{
        "repeat": "int64",
        "task": "str",
        "way": "str",
        "n": "int64",
        "images": "int64",
        "images_per_s": "float64",
        "start_s": "float64",
    },
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
    table = measure(folder, ["training"], [1, 2])
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


@pytest.mark.long
def test_image_files_that_are_decoded_too_are_measured_in_both_ways(tmp_path: Path) -> None:
    images = contention.split(48)
    files = contention.write_files(images, tmp_path)
    folder = contention.save(tmp_path / "job", images, jobs=2, threads=1, files=files)
    table = measure(folder, ["training", "scoring"], [2])
    assert list(zip(table["task"], table["way"], strict=True)) == [
        (task, way) for task in ("training", "scoring") for way in (*WAYS, "streamed")
    ]
    assert (table["images_per_s"] > 0).all()


@pytest.mark.long
def test_repeats_that_are_there_are_not_measured_again(tmp_path: Path) -> None:
    folder = contention.save(tmp_path / "job", contention.split(48), workers=0)
    first = measure_repeats(folder, ["scoring"], [1], 1)
    both = measure_repeats(folder, ["scoring"], [1], 2)
    assert both["repeat"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    pd.testing.assert_frame_equal(both[:4], first)
    assert (both["images_per_s"][:4].to_numpy() != both["images_per_s"][4:].to_numpy()).all()


def test_a_run_with_all_repeats_starts_no_process(tmp_path: Path) -> None:
    stored = [pd.DataFrame({"repeat": [repeat], "images_per_s": [0.1 + repeat]}) for repeat in range(2)]
    for repeat, table in enumerate(stored):
        table.to_parquet(tmp_path / f"repeat_{repeat}.parquet")
    # Without a saved job, measuring would fail.
    pd.testing.assert_frame_equal(measure_repeats(tmp_path, ["training"], [1], 2), pd.concat(stored, ignore_index=True))


def test_the_broken_file_of_a_repeat_is_named(tmp_path: Path) -> None:
    (tmp_path / "repeat_0.parquet").write_bytes(b"PAR1")
    with pytest.raises(DamagedError, match=r"repeat_0\.parquet' cannot be read .*; remove the file"):
        measure_repeats(tmp_path, ["training"], [1], 1)


def test_alone_a_script_in_turn_is_the_same_as_at_once() -> None:
    assert processes_of("training", "in_turn", 1) == processes_of("training", "naive", 1)
    assert len({processes_of("training", way, 2) for way in WAYS}) == len(WAYS)
    assert processes_of("training", "in_turn", 2).groups == processes_of("training", "engine", 2).groups == ((0, 1),)
    assert processes_of("training", "naive", 2).groups == processes_of("training", "pinned", 2).groups == ((0,), (1,))


def test_each_repeat_has_an_order_of_its_own_with_each_setting_once() -> None:
    settings = [processes_of(task, way, n) for task in ("training", "scoring") for n in (1, 2, 4) for way in WAYS]
    orders = [in_order_of(repeat, settings) for repeat in range(5)]
    assert all(Counter(order) == Counter(set(settings)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    assert in_order_of(3, settings) == orders[3]


@pytest.mark.parametrize(
    ("has_files", "decoded", "ways"), [(False, True, WAYS), (True, True, (*WAYS, "streamed")), (True, False, WAYS)]
)
def test_files_are_streamed_beside_the_array_where_there_is_one(
    tmp_path: Path, has_files: bool, decoded: bool, ways: tuple[str, ...]
) -> None:
    images = contention.split(3)
    files = contention.write_files(images, tmp_path)
    kept = images if decoded else replace(images, images=ImageFiles(Path(), files, (1, 8, 8)))
    folder = contention.save(tmp_path / "job", kept, files=files if has_files else None)
    assert ways_of(folder) == ways


@pytest.mark.long
def test_processes_do_not_take_the_threads_of_whoever_runs_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = contention.save(tmp_path / "job", contention.split(32), workers=0)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    default = at_once(folder, "naive", "scoring", [[0]]).threads
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert default == at_once(folder, "naive", "scoring", [[0]]).threads


@pytest.mark.long
def test_a_process_that_cannot_begin_is_named(tmp_path: Path) -> None:
    folder = contention.save(tmp_path / "job", contention.split(32), members=1)
    with pytest.raises(InputError, match=r"^naive training, of 2 processes failed 1: .*'.*/7/ensemble.json'$"):
        at_once(folder, "naive", "training", [[0], [7]])


@pytest.mark.long
def test_processes_that_fail_later_are_named(tmp_path: Path) -> None:
    pictures = contention.write_files(contention.split(32), tmp_path)
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
