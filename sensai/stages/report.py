"""report: Write one HTML page about an evaluation, a study, or runs side by side.

The page stands alone, from what was logged: on an evaluation, on a study (`from_run` of tune), or on runs side by side
(`compare_runs`). The last two stand on no stage; nothing is computed for them.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlflow.entities import Run as StoredRun
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from sensai.analysis.differences import IncomparableError
from sensai.analysis.report import comparison_page, evaluation_page, study_page
from sensai.config import CONFIGS, ReportConfig, TuneConfig
from sensai.errors import DamagedError, InputError
from sensai.pipeline.closing import Findings
from sensai.pipeline.context import Context
from sensai.pipeline.lineage import lineage, upstream_tags
from sensai.pipeline.run_lifecycle import Description, enter_store, open_run, reuse
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage, run_name
from sensai.stages import evaluate, retrain
from sensai.stages.evaluate import judging
from sensai.tracking import Run, Store, tags
from sensai.tracking.artifact_names import PAGE

# The page's run gets these tags where all runs that it is about share them.
_SHARED = (tags.DATASET, tags.DATA_DIGEST, tags.ARCH, tags.STUDY)


@dataclass(frozen=True)
class _Subject:
    """The runs that a page without an evaluation is about.

    Attributes:
        name: of the page's run.
        asked: the parameter that names the runs, with their ids.
        tags: of the page's run.
        render: makes the page.
    """

    name: str
    asked: dict[str, str]
    tags: dict[str, str]
    render: Callable[[], str]


def run(config: ReportConfig) -> str:
    """Make the page, unless the store has it; return the id of the run that carries it.

    Raises:
        InputError: the user can mend it.
    """
    with enter_store(run_name(config, retrain.title(config))) as (store, adopted):
        subject = _subject(config, store)
        if subject is None:
            return stage.ensure(config, Session(store), parent=None, adopted=adopted)
        return _by_itself(subject, config, store, adopted)


def _execute(config: ReportConfig, context: Context) -> None:
    # A run that was answered from the cache has no artifacts: the run that answered has them.
    yardsticks = {
        name: context.store.finished_run(run_id, ["evaluate"], "yardstick_runs").info.run_id
        for name, run_id in config.yardstick_runs
    }
    evaluate_run, uri = context.upstream["evaluate"], context.store.client.tracking_uri
    commands = judging.commands_after(config, judging.registering(config, evaluate_run), yardsticks)
    try:
        html = _rendered(lambda: evaluation_page.render(evaluate_run, uri, yardsticks, commands, _meanings()))
    except IncomparableError as error:
        given = config.text("yardstick_runs")
        raise InputError(f"from_run={config.from_run!r}, yardstick_runs={given!r}: {error}") from error
    context.run.log_text(html, PAGE)


def found(store: Store, run_id: str) -> Findings:
    """Return where the page of a run is."""
    place = f"{store.run(run_id).info.artifact_uri}/{PAGE}"
    return Findings([f"the page: {local_file_uri_to_path(place) if is_local_uri(place) else place}"])


stage = Stage(
    version=10, config=ReportConfig, previous=evaluate.stage, execute=_execute, title=retrain.title, found=found
)


def _subject(config: ReportConfig, store: Store) -> _Subject | None:
    """Return the runs that the page is about, None for an evaluation.

    Raises:
        InputError: there is no such run, none that has finished, or none that a page can be about.
    """
    if config.compare_runs:
        return _compared([store.finished(each, "compare_runs") for each in config.compare_runs], store)
    if not config.from_run:
        return None
    found = store.finished_run(config.from_run, [evaluate.stage.name, TuneConfig.stage])
    if found.data.tags[tags.STAGE] != TuneConfig.stage:
        return None
    if given := config.text("yardstick_runs"):
        raise InputError(
            f"yardstick_runs={given!r}: go with an evaluation, but from_run={config.from_run!r} is a study"
        )
    return _studied(found, store)


def _studied(tuned: StoredRun, store: Store) -> _Subject:
    run_id = tuned.info.run_id
    upstream = lineage(store, TuneConfig.stage, run_id)
    return _Subject(
        f"report of {tuned.info.run_name}",
        {"from_run": run_id},
        _shared([tuned]) | upstream_tags(upstream),
        lambda: study_page.render(run_id, store.client.tracking_uri, _meanings()),
    )


def _compared(found: Sequence[StoredRun], store: Store) -> _Subject:
    run_ids = [each.info.run_id for each in found]
    return _Subject(
        f"report of {len(run_ids)} runs",
        {"compare_runs": ",".join(run_ids)},
        _shared(found),
        lambda: comparison_page.render(run_ids, store.client.tracking_uri, _meanings()),
    )


def _shared(found: Sequence[StoredRun]) -> dict[str, str]:
    first, *others = (each.data.tags for each in found)
    return {name: first[name] for name in _SHARED if name in first and all(e.get(name) == first[name] for e in others)}


def _by_itself(subject: _Subject, config: ReportConfig, store: Store, adopted: Run | None) -> str:
    """Return the id of a finished run with this page: one from the store, or a new one."""
    asked = json.dumps(subject.asked)
    fingerprint = hashlib.sha256(json.dumps([stage.name, stage.version, asked]).encode()).hexdigest()
    if not config.force and (found := store.find(stage.name, fingerprint)):
        return reuse(store, found.info.run_id, adopted)
    run_tags = {tags.STAGE: stage.name, tags.FINGERPRINT: fingerprint, tags.CONFIG: asked, **subject.tags}
    description = Description(subject.name, run_tags, subject.asked, __doc__)
    with open_run(store, description, adopted=adopted) as own:
        own.log_text(_rendered(subject.render), PAGE)
    return own.id


def _meanings() -> dict[str, str]:
    """Return name of a parameter -> its meaning."""
    return {
        name: str(parameter.description)
        for config in CONFIGS.values()
        for name, parameter in config.model_fields.items()
    }


def _rendered(render: Callable[[], str]) -> str:
    """Return the page.

    Raises:
        DamagedError: an artifact that it shows cannot be read.
    """
    try:
        return render()
    except DamagedError as error:
        raise DamagedError(f"{error}; delete that run and make it anew") from error
