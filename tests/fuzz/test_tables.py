"""Every logged table and stored file, however broken, gives a table or the documented error."""

import io
import os
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from sensai.analysis import results, runs
from sensai.analysis.cell_shards import read_shards, write_shard
from sensai.analysis.runs.tables import read_table
from sensai.errors import DamagedError
from tests.analysis.conftest import Logbook
from tests.analysis.test_collected_answers import answered
from tests.analysis.test_results import FILES
from tests.analysis.test_retrainings import evaluated, retraining
from tests.fuzz.inputs import damaged, fuzzed, only, texts

TABLE = pd.DataFrame({"classes": ["a", "b"], "site": ["0", "NA"], "accuracy": [0.5, None]})
# Each example reads from a store.
BUDGETS = [4, pytest.param(100, marks=pytest.mark.long)]

pytestmark = pytest.mark.filterwarnings("ignore")  # of pandas, about columns of several types


@given(
    st.one_of(
        damaged(st.just(TABLE.to_csv(index=False).encode())), texts.map(lambda text: text.encode(errors="replace"))
    )
)
@fuzzed
def test_tables(content: bytes) -> None:
    with only(ValueError):
        assert isinstance(read_table(io.BytesIO(content)), pd.DataFrame)


def _foreign_tables(table: pd.DataFrame) -> st.SearchStrategy[bytes]:
    """Whole Parquet files: the table with other columns, other types or no rows, and another table."""
    others = [
        *(TABLE, table.iloc[:0], table.drop(columns="run_id"), table.astype("str"), table[["run_id"]]),
        *(table.rename(columns={"run_id": "run"}), table.assign(run_id=range(len(table))), pd.DataFrame()),
    ]
    return st.sampled_from([other.to_parquet() for other in others])


def _broken(whole: bytes, table: pd.DataFrame) -> st.SearchStrategy[bytes]:
    odd = texts.map(lambda text: text.encode(errors="replace"))
    return st.one_of(damaged(st.just(whole)), _foreign_tables(table), damaged(_foreign_tables(table)), odd)


@pytest.fixture
def logbook(store_uri: str) -> Logbook:
    """Of two retrainings, of which one is evaluated."""
    client = mlflow.MlflowClient(store_uri)
    made = Logbook(client, client.get_experiment_by_name("test").experiment_id)
    for number in (1, 2):
        run_id = retraining(made, number)
    answered(made, evaluated(made, run_id, 0.5))
    return made


@pytest.mark.usefixtures("logbook")
@pytest.mark.parametrize("examples", BUDGETS)
def test_kept_runs(examples: int) -> None:
    table = runs.stage_runs("retrain")
    (path,) = Path(os.environ["SENSAI_CACHE"]).glob("*.parquet")

    @given(_broken(path.read_bytes(), table))
    @settings(fuzzed, max_examples=examples)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert_frame_equal(runs.stage_runs("retrain"), table)

    check()


@pytest.mark.usefixtures("logbook")
@pytest.mark.parametrize("examples", BUDGETS)
@pytest.mark.parametrize("name", sorted(FILES))
def test_collected_results(tmp_path: Path, name: str, examples: int) -> None:
    results.export(tmp_path / "tables")
    path = tmp_path / "tables" / name
    whole, table = path.read_bytes(), pd.read_parquet(path)

    @given(_broken(whole, table))
    @settings(fuzzed, max_examples=examples)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            with only(DamagedError):
                results.export(path.parent)
                # What was taken is what the store has, and perhaps rows of other runs.
                after = pd.read_parquet(path)
                assert after.dtypes[list(table)].equals(table.dtypes)
                assert_frame_equal(after.iloc[: len(table)][list(table)], table)
                return
        finally:
            path.write_bytes(whole)

    check()


def test_shards_of_studies(tmp_path: Path) -> None:
    about = {"role": "control", "train_images": 9, "scope": "inner", "precision": "fp32", "device": "cpu", "commit": ""}
    labels = np.arange(60) % 3
    path = write_shard(tmp_path, {"seed": 0}, {**about, "run_id": "a"}, labels, {"raw": labels[::-1], "vector": labels})
    whole, table = path.read_bytes(), read_shards(tmp_path)

    @given(_broken(whole, table))
    @fuzzed
    def check(content: bytes) -> None:
        path.write_bytes(content)
        with only(DamagedError):
            assert_frame_equal(read_shards(tmp_path), table)

    check()
