"""The form of MLflow's page tokens, which is not part of its interface: this fails where MLflow changes it."""

import pytest

from sensai.analysis.runs.page_tokens import token_from
from sensai.analysis.runs.queries import Query
from tests.analysis.conftest import Logbook


def test_mlflow_gives_and_takes_the_tokens_that_we_make(logbook: Logbook) -> None:
    ids = [logbook.run({"stage": "prune"}) for _ in range(5)][::-1]
    for offset in range(1, 5):
        found = logbook.client.search_runs([logbook.experiment], max_results=offset)
        # Of a database it is bytes, of a server text.
        given = found.token.decode() if isinstance(found.token, bytes) else found.token
        assert given == token_from(offset)
        rest = logbook.client.search_runs([logbook.experiment], page_token=token_from(offset))
        assert [run.info.run_id for run in rest] == ids[offset:]
    assert token_from(0) is None


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_a_query_counts_its_runs_by_one_page(logbook: Logbook, runs: int) -> None:
    for _ in range(runs):
        logbook.run({"stage": "prune"})
    query = Query.to(logbook.client, "tags.`sensai.stage` = 'prune'")
    assert [number for number in range(1, 8) if query.has_exactly(number)] == [runs]
