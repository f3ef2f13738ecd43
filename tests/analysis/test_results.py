"""Every retraining in one row, and the Parquet files that collect the rows."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from sensai.analysis import curves, results, runs
from sensai.errors import DamagedError
from tests.analysis.conftest import Logbook
from tests.helpers.pipeline import FinishedMain, Place

TEXT = ("arch", "dataset", "method", "policy", "target_of", "ranking", "criterion", "loss", "balance", "budget")
COUNTS = (
    *("n_groups", "cut_steps", "cut_epochs", "epochs", "batch_size", "patience", "seed", "epochs_saved"),
    *("members", "params_max", "params_total", "flops_base", "flops_max", "flops_total"),
)
NUMBERS = (
    *("ratio", "target_flops", "kd_weight", "lr", "min_gain", "target"),
    *("val_accuracy", "seconds", "accuracy", "base_accuracy"),
)
TYPES = {
    "run_id": "str",
    "start": "datetime64[ms, UTC]",
    "evaluate_run": "str",
    **dict.fromkeys(TEXT, "str"),
    **dict.fromkeys(COUNTS, "Int64"),
    **dict.fromkeys(NUMBERS, "float64"),
}
FILES = {"retrainings.parquet", "members.parquet", "curves.parquet"}


def types(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(kind) for name, kind in frame.dtypes.items()}


def retraining(logbook: Logbook, number: int, **config: object) -> str:
    """Log a retrain run and its pruning, with values that follow from a number."""
    pruned = logbook.run({"stage": "prune"}, {"members": 10.0, "flops_max": 1000.0 + number})
    given = {"arch": "small_cnn", "epochs": number, "n_groups": None, "target": None, "target_flops": 0.5, **config}
    return logbook.run(
        {"stage": "retrain", "upstream.prune": pruned, "config": json.dumps(given)},
        {"val_accuracy": number / 10, "seconds": 2.5, "epochs_saved": 3.0},
    )


def evaluated(logbook: Logbook, retrain_run: str, accuracy: float) -> str:
    tags = {"stage": "evaluate", "upstream.retrain": retrain_run}
    return logbook.run(tags, {"accuracy": accuracy, "base_accuracy": 0.75})


class TestRetrainings:
    """`retrainings`."""

    @pytest.mark.parametrize("count", [0, 1, 3])
    @pytest.mark.parametrize("is_evaluated", [False, True])
    def test_columns_and_types_are_the_same_for_any_number(
        self, logbook: Logbook, count: int, is_evaluated: bool
    ) -> None:
        ids = [retraining(logbook, number) for number in range(count)]
        if is_evaluated:
            for run_id in ids:
                evaluated(logbook, run_id, 0.5)
        frame = results.retrainings()
        assert types(frame) == TYPES
        assert list(frame["run_id"]) == ids[::-1]
        assert list(frame.index) == list(range(count))

    def test_each_stands_on_its_pruning_and_has_its_latest_evaluation(self, logbook: Logbook) -> None:
        first, second = retraining(logbook, 1), retraining(logbook, 2, n_groups=4, target=0.9)
        evaluated(logbook, second, 0.25)
        latest = evaluated(logbook, second, 0.5)
        frame = results.retrainings().set_index("run_id")
        assert frame["flops_max"].to_dict() == {first: 1001, second: 1002}
        assert frame["epochs"].to_dict() == {first: 1, second: 2}
        assert frame["val_accuracy"].to_dict() == {first: 0.1, second: 0.2}
        row = frame.loc[second]
        assert (row["evaluate_run"], row["accuracy"], row["base_accuracy"]) == (latest, 0.5, 0.75)
        assert (row["n_groups"], row["target"], row["target_flops"], row["seconds"]) == (4, 0.9, 0.5, 2.5)
        missing = ["evaluate_run", "accuracy", "base_accuracy", "n_groups", "target", "cut_steps", "loss"]
        assert frame.loc[first, missing].isna().all()

    def test_only_finished_ones(self, logbook: Logbook) -> None:
        logbook.run({"stage": "retrain"}, status="FAILED")
        assert results.retrainings().empty

    def test_of_main(self, finished: FinishedMain) -> None:
        frame = results.retrainings()
        assert types(frame) == TYPES
        (row,) = frame.to_dict("records")
        assert row["run_id"] == finished.upstream("retrain")
        assert row["evaluate_run"] == finished.upstream("evaluate")
        config = finished.config.model_dump()
        for name in set(TEXT) | {"ratio", "kd_weight", "cut_steps", "lr", "batch_size", "epochs", "seed"}:
            assert row[name] == config[name], name
        assert pd.isna([row[name] for name in ("n_groups", "target_flops", "target")]).all()
        for stage, names in {
            "prune": ("members", "params_max", "params_total", "flops_base", "flops_max", "flops_total"),
            "retrain": ("val_accuracy", "seconds", "epochs_saved"),
            "evaluate": ("accuracy", "base_accuracy"),
        }.items():
            metrics = finished.place.run(finished.upstream(stage)).data.metrics
            assert {name: row[name] for name in names} == {name: metrics[name] for name in names}


def read(folder: Path) -> dict[str, pd.DataFrame]:
    assert {path.name for path in folder.iterdir()} == FILES
    return {path.stem: pd.read_parquet(path) for path in folder.iterdir()}


class TestExport:
    """`export`, and the command."""

    def test_what_is_written_is_what_the_queries_give(self, finished: FinishedMain, tmp_path: Path) -> None:
        results.export(tmp_path / "a" / "folder")
        tables = read(tmp_path / "a" / "folder")
        pd.testing.assert_frame_equal(tables["retrainings"], results.retrainings())
        pd.testing.assert_frame_equal(tables["members"], runs.members())
        pd.testing.assert_frame_equal(tables["curves"], curves.curves([finished.upstream("retrain")]))
        assert len(tables["curves"]) == 3

    def test_again_nothing_changes(self, finished: FinishedMain, tmp_path: Path) -> None:
        folder = tmp_path / "tables"
        results.export(folder)
        first = read(folder)
        results.export(folder)
        for name, table in read(folder).items():
            pd.testing.assert_frame_equal(table, first[name])

    def test_an_empty_store_gives_empty_tables(self, store_uri: str, tmp_path: Path) -> None:
        results.export(tmp_path / "tables")
        tables = read(tmp_path / "tables")
        assert types(tables["retrainings"]) == TYPES
        assert all(table.empty for table in tables.values())

    @pytest.mark.parametrize("empty_first", [False, True])
    def test_the_tables_of_several_stores_accumulate(
        self, finished_main: FinishedMain, empty_database: Path, tmp_path: Path, empty_first: bool
    ) -> None:
        (tmp_path / "empty").mkdir()
        folder, empty = tmp_path / "tables", Place.make(tmp_path / "empty", empty_database)
        with finished_main.place.active():
            expected = {"retrainings": results.retrainings(), "members": runs.members()}
        for place in [empty, finished_main.place] if empty_first else [finished_main.place, empty]:
            with place.active():
                results.export(folder)
        tables = read(folder)
        for name, table in expected.items():
            pd.testing.assert_frame_equal(tables[name], table)
        assert types(tables["curves"])["epoch"] == "int64"
        assert set(types(tables["curves"]).values()) == {"str", "int64", "float64"}

    def test_a_run_of_the_store_replaces_its_row(self, logbook: Logbook, tmp_path: Path) -> None:
        run_id, folder = retraining(logbook, 1), tmp_path / "tables"
        results.export(folder)
        path = folder / "retrainings.parquet"
        stored = pd.read_parquet(path)
        pd.concat([stored, stored.assign(run_id="elsewhere")]).to_parquet(path, index=False)
        evaluated(logbook, run_id, 0.5)
        results.export(folder)
        table = read(folder)["retrainings"]
        assert types(table) == TYPES
        assert table["run_id"].tolist() == [run_id, "elsewhere"]
        assert table["accuracy"].fillna(-1).tolist() == [0.5, -1]

    def test_a_table_that_cannot_be_written_leaves_the_earlier_one(
        self, logbook: Logbook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        retraining(logbook, 1)
        results.export(tmp_path / "tables")
        before = read(tmp_path / "tables")

        def broken(self: pd.DataFrame, path: Path, **_: object) -> None:
            path.write_text("half of a table")
            raise OSError("no space left")

        monkeypatch.setattr(pd.DataFrame, "to_parquet", broken)
        with pytest.raises(OSError, match="no space left"):
            results.export(tmp_path / "tables")
        pd.testing.assert_frame_equal(read(tmp_path / "tables")["retrainings"], before["retrainings"])

    @pytest.mark.parametrize("name", sorted(FILES))
    @pytest.mark.parametrize("other", sorted(FILES))
    def test_a_table_under_the_name_of_another_is_refused(
        self, logbook: Logbook, tmp_path: Path, name: str, other: str
    ) -> None:
        retraining(logbook, 1)
        results.export(tmp_path)
        content = (tmp_path / other).read_bytes()
        (tmp_path / name).write_bytes(content)
        if name == other:
            results.export(tmp_path)
            return
        with pytest.raises(DamagedError, match=rf"{name}' cannot be read \(ValueError: unknown column"):
            results.export(tmp_path)
        assert (tmp_path / name).read_bytes() == content

    def test_rows_without_a_column_that_came_later_stay(self, logbook: Logbook, tmp_path: Path) -> None:
        run_id, path = retraining(logbook, 1), tmp_path / "retrainings.parquet"
        results.export(tmp_path)
        earlier = pd.read_parquet(path).assign(run_id="elsewhere").drop(columns="budget")
        earlier.to_parquet(path, index=False)
        results.export(tmp_path)
        table = pd.read_parquet(path)
        assert table["run_id"].tolist() == [run_id, "elsewhere"]
        assert types(table) == TYPES

    @pytest.mark.usefixtures("store_uri")
    def test_the_command_says_in_one_line_what_it_cannot_use(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        damaged, odd, file = tmp_path / "a" / "members.parquet", tmp_path / "b" / "curves.parquet", tmp_path / "c"
        damaged.parent.mkdir()
        damaged.write_bytes(b"PAR1 no table PAR1")
        odd.mkdir(parents=True)
        file.touch()
        for folder, named in ((damaged.parent, damaged), (odd.parent, odd), (file, file)):
            monkeypatch.setattr(sys, "argv", ["results", str(folder)])
            with pytest.raises(SystemExit) as ended:
                results.main()
            assert ended.value.code == 2
            assert f"error: {str(named)!r} " in capsys.readouterr().err.splitlines()[-1]

    def test_the_command_prints_the_retrainings(
        self, logbook: Logbook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ids = [retraining(logbook, number) for number in (1, 2)]
        monkeypatch.setattr(sys, "argv", ["results", str(tmp_path / "tables")])
        results.main()
        printed = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in printed[-2:]] == ids[::-1]
        assert "val_accuracy" in printed[0]
        read(tmp_path / "tables")
