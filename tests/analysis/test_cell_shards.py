"""Shards of cells: what is read is what was written, whole or refused, and small enough for git."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.analysis.cell_shards import REQUIRED, has_shard, read_shard, read_shards, shard_path, write_shard
from sensai.errors import DamagedError, StorageError
from tests.conftest import ROOT

CELL = {"role": "ensemble", "method": "ring", "overlap": 2, "seed": 0}
MEASURED = {
    **{"train_images": 5000, "scope": "inner", "precision": "bf16", "device": "cpu", "commit": "abc"},
    **{"seconds": 103.25, "flops_max": 10_137_600, "resumed": True},
}
LABELS = np.arange(12) % 3
ANSWERS = {"raw": (np.arange(12) % 4) % 3, "vector": LABELS}


def test_a_row_a_combination_with_every_value_and_its_accuracy(tmp_path: Path) -> None:
    write_shard(tmp_path / "a" / "study", CELL, MEASURED, LABELS, ANSWERS)
    frame = read_shards(tmp_path / "a" / "study")
    assert frame["combination"].tolist() == ["raw", "vector"]
    for name, value in {**CELL, **MEASURED}.items():
        assert frame[name].tolist() == [value] * 2, name
    assert frame["accuracy"].tolist() == [np.mean(ANSWERS["raw"] == LABELS), 1.0]
    for _, row in frame.iterrows():
        assert row["answers"].dtype == row["labels"].dtype == np.uint16
        assert row["answers"].tolist() == ANSWERS[row["combination"]].tolist()
        assert row["labels"].tolist() == LABELS.tolist()


def test_shards_of_different_columns_are_one_table(tmp_path: Path) -> None:
    write_shard(tmp_path, CELL, MEASURED, LABELS, ANSWERS)
    base = {"role": "base", "seed": 0}
    write_shard(
        tmp_path, base, {name: MEASURED[name] for name in REQUIRED if name in MEASURED}, LABELS, {"raw": LABELS}
    )
    frame = read_shards(tmp_path).set_index("role")
    assert frame.loc["ensemble", "overlap"].tolist() == [2, 2]
    assert pd.isna([frame.loc["base", name] for name in ("overlap", "method", "seconds", "resumed")]).all()
    assert str(frame["overlap"].dtype) == "Int64"


def test_the_same_cell_in_another_order_is_the_same_and_every_other_is_not(tmp_path: Path) -> None:
    write_shard(tmp_path, CELL, MEASURED, LABELS, ANSWERS)
    assert has_shard(tmp_path, CELL)
    assert has_shard(tmp_path, dict(reversed(CELL.items())))
    for other in ({**CELL, "seed": 1}, {**CELL, "method": "ring-2"}, {"role": "ensemble"}):
        assert not has_shard(tmp_path, other)


@pytest.mark.parametrize("folder", ["none", "empty"])
def test_without_shards_there_are_columns_without_rows(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    frame = read_shards(tmp_path / folder)
    assert frame.empty
    assert list(frame.columns) == ["cell", "combination", "accuracy", "labels", "answers"]


def test_a_cell_that_is_written_again_replaces_its_shard(tmp_path: Path) -> None:
    first = write_shard(tmp_path, CELL, MEASURED, LABELS, ANSWERS)
    second = write_shard(tmp_path, CELL, {**MEASURED, "seconds": 1.5}, LABELS, {"raw": LABELS})
    assert first == second == shard_path(tmp_path, CELL)
    assert read_shards(tmp_path)["seconds"].tolist() == [1.5]
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_ten_thousand_images_in_two_combinations_take_at_most_twenty_kilobytes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 1000)
    answers = {
        name: np.where(generator.random(10_000) < 0.6, labels, generator.integers(0, 10, 10_000))
        for name in ("raw", "vector")
    }
    sizes = {f"metric_{number}": number / 7 for number in range(30)}
    assert write_shard(tmp_path, CELL, {**MEASURED, **sizes}, labels, answers).stat().st_size < 20_000


@pytest.mark.parametrize("classes", [1000, 65_536])
def test_many_classes(tmp_path: Path, classes: int) -> None:
    labels = np.arange(0, classes, classes // 100)
    write_shard(tmp_path, CELL, MEASURED, labels, {"raw": labels[::-1]})
    assert read_shards(tmp_path)["answers"][0].tolist() == labels[::-1].tolist()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"measured": {"seconds": 1.0}}, "must have train_images, scope, precision, device, commit"),
        ({"measured": {**MEASURED, "seed": 1}}, "seed is given twice"),
        ({"measured": {**MEASURED, "accuracy": 1.0}}, "accuracy is given twice, or made here"),
        ({"answers": {}}, "an answer to each of the 12 images"),
        ({"answers": {"raw": LABELS[:5]}}, "an answer to each of the 12 images"),
        ({"answers": {"raw": LABELS - 1}}, r"integers in \[0, 65535\]"),
        ({"labels": LABELS + 65_536}, r"integers in \[0, 65535\]"),
        ({"answers": {"raw": LABELS / 2}}, r"integers in \[0, 65535\]"),
    ],
)
def test_what_is_no_result_of_a_cell_is_refused(tmp_path: Path, given: dict, said: str) -> None:
    valid = {"cell": CELL, "measured": MEASURED, "labels": LABELS, "answers": ANSWERS}
    with pytest.raises(ValueError, match=said):
        write_shard(tmp_path, **{**valid, **given})
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_is_one_line_with_its_name_and_the_repair(tmp_path: Path) -> None:
    path = write_shard(tmp_path, CELL, MEASURED, LABELS, ANSWERS)
    path.write_bytes(path.read_bytes()[:-20])
    for read in (lambda: read_shards(tmp_path), lambda: has_shard(tmp_path, CELL)):
        with pytest.raises(DamagedError) as refused:
            read()
        assert f"'{path}' cannot be read" in str(refused.value)
        assert str(refused.value).endswith("delete it and start the study again, which computes this cell anew")
        assert "\n" not in str(refused.value)


def test_a_value_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path, CELL, MEASURED, LABELS, ANSWERS)
    pd.read_parquet(path).assign(seconds=1.0).to_parquet(path, index=False)
    with pytest.raises(DamagedError, match="does not match its digest"):
        read_shard(path)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: pd.DataFrame, path: Path, **_: object) -> None:
        path.write_text("half of a table")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", broken)
    with pytest.raises(StorageError):
        write_shard(tmp_path, CELL, MEASURED, LABELS, ANSWERS)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("capsys")
def test_the_example_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "analysis/README.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        namespace: dict[str, Any] = {}
        exec(code, namespace)
    assert len(namespace["rows"]) == 6
    assert read_shards(tmp_path / "analysis/results/pays")["role"].tolist() == ["control"] * 3 + ["replicas"] * 3


values = st.one_of(st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.text(max_size=8))


@settings(deadline=None, max_examples=15)
@given(
    cell=st.dictionaries(st.from_regex(r"[a-z]{1,6}_c", fullmatch=True), values, max_size=4),
    pairs=st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, 65_535)), min_size=1, max_size=20),
)
def test_anything_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, cell: dict, pairs: list) -> None:
    folder = tmp_path_factory.mktemp("shards")
    labels, answers = np.array(pairs).T
    path = write_shard(folder, {**CELL, **cell}, MEASURED, labels, {"raw": answers})
    (row,) = read_shard(path).to_dict("records")
    assert {name: row[name] for name in cell} == cell
    assert (row["labels"].tolist(), row["answers"].tolist()) == (labels.tolist(), answers.tolist())
    assert has_shard(folder, {**CELL, **cell})
