"""Queries for runs: they are read from the tracking store page by page, and the server applies the filters."""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlflow.entities import Run, ViewType
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from sensai.analysis.runs.page_tokens import token_from
from sensai.tracking import tags

PAGE = 1000
FINISHED = "attributes.status = 'FINISHED'"
UNFINISHED = "attributes.status != 'FINISHED'"

_OURS = "sensai."


class LoggedRun(NamedTuple):
    """The part of a run that the tables show. It is a tuple, since tens of thousands are made at once.

    Attributes:
        run_id: its id.
        experiment_id: of the experiment that it is in.
        name: as the UI shows it.
        status: RUNNING, FINISHED, FAILED, KILLED or SCHEDULED.
        start: ms since 1970, UTC.
        end: likewise; None while it runs.
        config: the typed configuration as JSON text. It is kept apart from the tags, as it is long and few tables need it.
        tags: those of sensAI without `sensai.config`, and the parent's id.
        metrics: name -> latest value.
    """

    run_id: str
    experiment_id: str
    name: str
    status: str
    start: int
    end: int | None
    config: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    @classmethod
    def of(cls, run: Run) -> "LoggedRun":
        """Convert a run of MLflow."""
        info, run_tags = run.info, run.data.tags
        kept = {key: value for key, value in run_tags.items() if key.startswith(_OURS) or key == MLFLOW_PARENT_RUN_ID}
        config = kept.pop(tags.CONFIG, "{}")
        name, metrics = info.run_name or "", run.data.metrics
        return cls(
            info.run_id, info.experiment_id, name, info.status, info.start_time, info.end_time, config, kept, metrics
        )

    @property
    def upstream(self) -> dict[str, str]:
        """Return stage -> id of the run of that stage that this run stands on."""
        return {
            key.removeprefix(tags.UPSTREAM): value for key, value in self.tags.items() if key.startswith(tags.UPSTREAM)
        }


@dataclass(frozen=True)
class Query:
    """The runs in all active experiments for which a filter holds.

    Attributes:
        client: of the store.
        experiments: id -> time of creation, ms since 1970.
        condition: the filter, as `search_runs` takes it.
    """

    client: MlflowClient
    experiments: Mapping[str, int | None]
    condition: str

    @classmethod
    def to(cls, client: MlflowClient, condition: str) -> "Query":
        """Return a query to a store, over its present experiments."""
        found = pages(lambda token: client.search_experiments(page_token=token))
        return cls(client, {each.experiment_id: each.creation_time for each in found}, condition)

    def runs(self, *further: str, view: int = ViewType.ACTIVE_ONLY) -> list[LoggedRun]:
        """Return the runs for which further filters hold too, newest first."""
        condition = " and ".join((self.condition, *further))
        found = pages(
            lambda token: self.client.search_runs(
                list(self.experiments), condition, view, max_results=PAGE, page_token=token
            )
        )
        return [LoggedRun.of(run) for run in found]

    def has_exactly(self, number: int) -> bool:
        """Return True if there are exactly `number` runs, at least one.

        The page that starts at the last of them then has one run and no successor.
        """
        token = token_from(number - 1)
        last = self.client.search_runs(list(self.experiments), self.condition, max_results=1, page_token=token)
        return len(last) == 1 and not last.token


@contextmanager
def kept_at_once() -> Iterator[None]:
    """Turn off Python's garbage collection within the block.

    The block makes tens of thousands of objects, and none is garbage. The collector would look through them again and again,
    which takes a third of the time. Afterwards it is on again if it was on before.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def pages(query: Callable[[str | None], PagedList]) -> Iterator[Any]:
    """Yield the results of a query, page by page."""
    token = None
    while True:
        page = query(token)
        yield from page
        token = page.token
        if not token:
            return


def answering(client: MlflowClient, run_id: str) -> LoggedRun:
    """Return the run that an id names, or the run whose results it reused."""
    run = LoggedRun.of(client.get_run(run_id))
    reused = run.tags.get(tags.REUSED)
    return run if reused is None else LoggedRun.of(client.get_run(reused))
