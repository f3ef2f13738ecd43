"""Read and write the tags by which a run names the runs that it stands on."""

from collections.abc import Mapping

from sensai.tracking import Store, tags


def upstream_of(run_tags: Mapping[str, str]) -> dict[str, str]:
    """Return stage -> run id from a run's tags."""
    return {key.removeprefix(tags.UPSTREAM): value for key, value in run_tags.items() if key.startswith(tags.UPSTREAM)}


def upstream_tags(upstream: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a run that stands on these runs; the inverse of `upstream_of`."""
    return {tags.UPSTREAM + stage: run_id for stage, run_id in upstream.items()}


def lineage(store: Store, stage: str, run_id: str) -> dict[str, str]:
    """Return stage -> run id of a stage's run and of all runs that it stands on."""
    return {**upstream_of(store.tags_of(run_id)), stage: run_id}
