"""The runs of a study: one for each configuration that it tries, with the stages that it needs nested below.

Cells of `grouping_study` and trials of `tune` are such runs.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sensai.config import StageConfig
from sensai.pipeline.lineage import lineage, upstream_tags
from sensai.pipeline.run_lifecycle import Description, begin_run, continue_run, open_run
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage, stage_tags
from sensai.tracking import Run, Store


@dataclass(frozen=True)
class Candidate:
    """One configuration that a study tries.

    Attributes:
        stage: `cell` or `trial`, by which its run is found.
        title: name of its run.
        config: of its last stage.
        params: logged on its run.
        labels: tags of its run and of every run below it: people filter by them, and would else lose nested runs.
        tags: further tags of its run.
    """

    stage: str
    title: str
    config: StageConfig
    params: Mapping[str, Any]
    labels: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)

    def description(self, session: Session) -> Description:
        """Return the description that its run has from the start."""
        run_tags = {**self.labels, **stage_tags(self.stage, self.config, session), **self.tags}
        return Description(self.title, run_tags, self.params)


@dataclass(frozen=True)
class StudyRun:
    """The open run of a candidate.

    Attributes:
        run: its own.
        session: whose new runs carry the candidate's labels.
    """

    run: Run
    session: Session

    def ensure(self, stage: Stage[Any], config: Any) -> dict[str, str]:
        """Run a stage below, unless the store has its result; tag the run with all that it stands on.

        Returns:
            Stage -> run id, of this stage and of every stage before.
        """
        run_id = stage.ensure(config, self.session, self.run.id)
        upstream = lineage(self.session.store, stage.name, run_id)
        self.run.set_tags(upstream_tags(upstream))
        return upstream


@contextmanager
def open_study_run(candidate: Candidate, session: Session, parent: str) -> Iterator[StudyRun]:
    """Open a candidate's run below the study's run; it ends with the block."""
    with open_run(session.store, candidate.description(session), parent) as run:
        yield StudyRun(run, session.labelled(candidate.labels))


@contextmanager
def begin_study_run(candidate: Candidate, session: Session, parent: str) -> Iterator[StudyRun]:
    """Open a candidate's run below the study's run, and end it only where the block fails."""
    with begin_run(session.store, candidate.description(session), parent) as run:
        yield StudyRun(run, session.labelled(candidate.labels))


@contextmanager
def continue_study_run(candidate: Candidate, session: Session, run_id: str) -> Iterator[StudyRun]:
    """Take over the run that another process began for a candidate; it ends with the block."""
    with continue_run(session.store, run_id) as run:
        yield StudyRun(run, session.labelled(candidate.labels))


def carried(upstream: Mapping[str, str], names: Mapping[str, Mapping[str, str]], store: Store) -> dict[str, float]:
    """Return the metrics of stages that a candidate's run carries.

    Args:
        upstream: stage -> run id.
        names: stage -> the name of a metric there -> its name here. Stages that did not run and missing metrics are left out.
        store: that has the runs.
    """
    return {
        name: metrics[own]
        for stage, wanted in names.items()
        if stage in upstream
        for metrics in [store.metrics_of(upstream[stage])]
        for own, name in wanted.items()
        if own in metrics
    }
