"""A store in which prune has run once, for the tests of later stages."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sensai.stages import prune
from tests.helpers.pipeline import Place


@dataclass(frozen=True)
class Pruned:
    """A place where prune ran from an empty store."""

    place: Place
    run_id: str

    def upstream(self, stage: str) -> str:
        """Return the id of the run of a stage on which the pruning is based."""
        return self.place.run(self.run_id).data.tags[f"sensai.upstream.{stage}"]


@pytest.fixture(scope="session")
def pruned_once(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Pruned:
    place = Place.make(tmp_path_factory.mktemp("pruned"), empty_database)
    with place.active():
        return Pruned(place, prune.run(place.config("prune")))


@pytest.fixture
def pruned(pruned_once: Pruned, tmp_path: Path) -> Iterator[Pruned]:
    """Yield a copy of that store for the test, with MLflow set to it."""
    with pruned_once.place.copy(tmp_path).active() as place:
        yield Pruned(place, pruned_once.run_id)


@pytest.fixture
def place(empty_database: Path, tmp_path: Path) -> Iterator[Place]:
    """Yield an empty store, with MLflow set to it."""
    with Place.make(tmp_path, empty_database).active() as made:
        yield made
