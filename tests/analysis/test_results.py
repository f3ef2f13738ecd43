"""The Parquet files that collect the tables of stores."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from sensai.analysis import curves, results, runs
from sensai.analysis.collected_answers import collected_answers
from sensai.analysis.retrainings import retrainings
from sensai.errors import DamagedError
from tests.analysis.conftest import Logbook
from tests.analysis.test_retrainings import TYPES, evaluated, retraining, types
from tests.helpers.pipeline import FinishedMain, Place

FILES = {f"{name}.parquet" for name in ("retrainings", "members", "curves", "answers", "runs")}


def read(folder: Path) -> dict[str, pd.DataFrame]:
    assert {path.name for path in folder.iterdir()} == FILES
    return {path.stem: pd.read_parquet(path) for path in folder.iterdir()}


class TestExport:
    """`export`, and the command."""

    def test_what_is_written_is_what_the_queries_give(self, finished: FinishedMain, tmp_path: Path) -> None:
        results.export(tmp_path / "a" / "folder")
        tables = read(tmp_path / "a" / "folder")
        pd.testing.assert_frame_equal(tables["retrainings"], retrainings())
        pd.testing.assert_frame_equal(tables["members"], runs.members(wide=True))
        pd.testing.assert_frame_equal(tables["curves"], curves.curves([finished.upstream("retrain")]))
        assert len(tables["curves"]) == 3
        pd.testing.assert_frame_equal(tables["answers"], collected_answers(retrainings()))
        assert len(tables["answers"]) == 2
        pd.testing.assert_frame_equal(tables["runs"], runs.overview(wide=True))

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
            expected = {
                "retrainings": retrainings(),
                "members": runs.members(wide=True),
                "runs": runs.overview(wide=True),
            }
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
