"""The run of what is no stage of the pipeline; a module of its own, since most of these need no torch."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sensai.config import EntryPoint
from sensai.tracking import Run, Store, tags


@contextmanager
def opened(config: EntryPoint, name: str, about: str | None) -> Iterator[tuple[Store, Run]]:
    """The run of an entry point that is no stage of the pipeline, the one that `mlflow run` opened or a new one; it ends with
    the block.

    Args:
        config: of the entry point.
        name: of the run.
        about: what the entry point does.

    Raises:
        InputError: the store does not answer.
    """
    store = Store.connect()
    with ExitStack() as open_blocks:
        open_blocks.enter_context(store.refusals())
        store.close_orphans()
        run = open_blocks.enter_context((store.adopt() or store.create(name, parent=None)).closing())
        run.set_name(name)
        run.log_params(config.model_dump())
        run.describe(about)
        run.set_tags({tags.STAGE: config.stage, tags.CONFIG: config.model_dump_json()})
        run.flush()
        yield store, run
