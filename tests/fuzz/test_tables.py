"""Every logged table and stored file, however broken, gives a table or the documented error."""

import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensai.analysis.runs.tables import read_table
from tests.fuzz.inputs import damaged, fuzzed, only, texts

TABLE = pd.DataFrame({"classes": ["a", "b"], "site": ["0", "NA"], "accuracy": [0.5, None]})

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
