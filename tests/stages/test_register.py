"""register: an ensemble in the registry is not registered again, a deleted one is."""

from pathlib import Path
from types import ModuleType

import pytest
from mlflow.exceptions import MlflowException

from sensai.config import MainConfig, RegisterConfig
from sensai.errors import InputError
from sensai.stages import main, register
from tests.helpers.ensembles import ensemble_of
from tests.helpers.ensembles import register as register_other
from tests.helpers.pipeline import FinishedMain, Place

NAME = "sensai-ensemble"
OWN_DATA = """
from tests.helpers.tiny_data import tiny

def make(data_dir):
    return {**tiny(data_dir), "classes": ["a", "none_of_them", "b"]}
"""


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


@pytest.mark.long
def test_a_number_that_another_model_has_now_is_no_version_of_this_run(finished: FinishedMain, tmp_path: Path) -> None:
    config = finished.config.upstream(RegisterConfig)
    place = finished.place.copy(tmp_path)
    with place.active():
        place.client.delete_registered_model(NAME)
    register_other(place, NAME, ensemble_of([(0, 1, 2, 3)]))
    with place.active():
        again = place.run(register.run(config))
        assert again.info.run_id != finished.upstream("register")
        candidate = place.client.get_model_version_by_alias(NAME, "candidate")
        assert (candidate.run_id, int(candidate.version)) == (again.info.run_id, again.data.metrics["version"])


@pytest.mark.parametrize(("stage", "config"), [(register, RegisterConfig), (main, MainConfig)])
def test_a_class_of_the_name_of_what_is_rejected_is_refused_before_anything_is_trained(
    place: Place, tmp_path: Path, stage: ModuleType, config: type[RegisterConfig | MainConfig]
) -> None:
    (tmp_path / "data.py").write_text(OWN_DATA)
    given = config(dataset=f"{tmp_path / 'data.py'}:make", arch="small_cnn", work_dir=str(place.folder / "work"))
    with pytest.raises(InputError, match="a class is called 'none_of_them'"):
        stage.run(given)
    (run,) = place.runs().values()
    assert run.info.status == "FAILED"
