"""register: what the store knows is not registered again, what the registry has lost is."""

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from sensai.stages import register
from sensai.stages.configs import RegisterConfig
from tests.helpers.pipeline import FinishedMain

NAME = "sensai-ensemble"


def test_a_version_that_was_deleted_is_registered_again(finished: FinishedMain, tmp_path: Path) -> None:
    config = finished.config.upstream(RegisterConfig)
    with finished.place.copy(tmp_path).active() as place:
        known, before = finished.upstream("register"), place.runs()
        assert register.run(config) == known
        assert place.new_runs(before) == []
        place.client.delete_model_version(NAME, "1")
        with pytest.raises(MlflowException):
            place.client.get_model_version_by_alias(NAME, "candidate")
        again = place.run(register.run(config))
        assert [run.info.run_id for run in place.new_runs(before)] == [again.info.run_id]
        assert again.info.run_id != known
        candidate = place.client.get_model_version_by_alias(NAME, "candidate")
        assert (candidate.run_id, int(candidate.version)) == (again.info.run_id, again.data.metrics["version"])
        assert register.run(config) == again.info.run_id
