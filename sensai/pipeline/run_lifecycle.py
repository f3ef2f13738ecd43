"""The life of every run: opened (adopted from `mlflow run` or created), described, and ended.

A run ends as FINISHED, as FAILED with its reason as a tag, or as KILLED when it is interrupted or given up. Imports no torch:
`predict` and `serve` do without.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

from sensai.cluster.processes import without_collection
from sensai.config import EntryPoint
from sensai.config.arguments import as_yaml
from sensai.errors import InputError
from sensai.terminal import waiting
from sensai.tracking import Run, Store, tags
from sensai.tracking.artifact_names import CONFIG
from sensai.tracking.code_version import source_tags

_LONGEST_NAME = 100
# The store that this process entered last.
_entered: list[Store] = []


@dataclass(frozen=True)
class Description:
    """The name, tags and parameters that a run has from the moment that it is opened.

    Attributes:
        name: as the UI lists it.
        tags: what it is found by.
        params: logged as parameters; of an adopted run MLflow has logged them.
        about: the docstring that the UI shows as its description.
        recipe: the file that makes the run again.
    """

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict)
    about: str | None = None
    recipe: str = ""


@contextmanager
def enter_store(name: str = "") -> Iterator[tuple[Store, Run | None]]:
    """Connect to the store for one call of an entry point, and close the runs that killed processes left open.

    Args:
        name: of the run that `mlflow run` opened, which has a random one until then.

    Yields the store, and the run that `mlflow run` opened for this process, if it did. That run ends with the block.

    Raises:
        InputError: the store does not answer, or refuses what the block asks of it.
    """
    # MLflow imports the library of its database here.
    with waiting("opens the tracking store, and makes it where there is none"), without_collection():
        store = Store.connect()
    _entered[:] = [store]
    with store.refusals():
        store.close_orphans()
        adopted = store.adopt()
        if adopted and name:
            adopted.set_name(name)
        with adopted.closing() if adopted else nullcontext():
            yield store, adopted


def entered_store() -> Store:
    """Return the store that this process entered last, which spares a second connection.

    Raises:
        InputError: it has entered none, and the store does not answer.
    """
    return _entered[0] if _entered else Store.connect()


def refuse_opened_run(stage: str, error: InputError) -> None:
    """Name the run that `mlflow run` opened for a call whose parameters are refused, and end it with the reason."""
    # The store may be broken too, but the refusal is what the user is to read.
    with suppress(Exception), enter_store(f"{stage} refused: {error}"[:_LONGEST_NAME]) as (_, adopted):
        if adopted:
            raise error


@contextmanager
def open_run(
    store: Store, description: Description, parent: str | None = None, adopted: Run | None = None
) -> Iterator[Run]:
    """Open a run and describe it; it ends with the block.

    Args:
        store: where the run is created.
        description: of the run.
        parent: run that it is nested below.
        adopted: the run to take instead of a new one.
    """
    with begin_run(store, description, parent, adopted) as run, run.closing():
        yield run


@contextmanager
def begin_run(
    store: Store, description: Description, parent: str | None = None, adopted: Run | None = None
) -> Iterator[Run]:
    """Open a run as `open_run` does, and end it only where the block fails: `continue_run` takes it over."""
    # A new run has its tags at once, so that it is found while it is busy, and takes no further request.
    run = adopted or store.create(description.name, parent, {**source_tags(description.tags), **description.tags})
    with run.failing():
        run.log_params(description.params)
        if description.about:
            run.describe(description.about)
        if description.recipe:
            run.log_text(description.recipe, CONFIG)
        if adopted:
            run.set_name(description.name)
            run.set_tags(description.tags)
            run.flush()
        yield run


@contextmanager
def continue_run(store: Store, run_id: str) -> Iterator[Run]:
    """Take over a run that another process of this machine began; it ends with the block."""
    with store.take_over(run_id).closing() as run:
        yield run


@contextmanager
def open_entry_run(config: EntryPoint, name: str, about: str | None) -> Iterator[tuple[Store, Run]]:
    """Open the run of an entry point that is no stage of the pipeline; it ends with the block.

    Args:
        config: of the entry point.
        name: of the run.
        about: docstring of the entry point.

    Raises:
        InputError: the store does not answer.
    """
    run_tags = {tags.STAGE: config.stage, tags.CONFIG: config.model_dump_json()}
    description = Description(name, run_tags, config.own_values(), about, as_yaml(config))
    with enter_store(name) as (store, adopted), open_run(store, description, adopted=adopted) as run:
        yield store, run


def reuse(store: Store, found: str, adopted: Run | None) -> str:
    """Return the id of a finished run that answers; the run of `mlflow run` points to it and carries its metrics."""
    if adopted is not None:
        adopted.set_tags({tags.REUSED: found})
        adopted.log_metrics(store.metrics_of(found))
    return found
