"""main: Run the whole pipeline, and end with a table of base model, ensemble and control.

Each stage is a nested run of one parent run, which carries the final table.

`control` repeats it with one K-way network, pruned to the FLOPs of the largest member.
"""

import logging
from collections.abc import Sequence
from typing import Any

from sensai.analysis.report import differences_table, summary_table
from sensai.config import MainConfig, StageConfig
from sensai.errors import UnreachableTargetError
from sensai.pipeline.lineage import upstream_tags
from sensai.pipeline.run_lifecycle import open_entry_run
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage, data_tags, run_name
from sensai.stages import activations, baseline, evaluate, group, prune, register, report, retrain
from sensai.terminal import say
from sensai.tracking import Run, tags

_log = logging.getLogger(__name__)

# The stages in the order of the data flow; the docstring of each lists what it logs. The control shares the first two.
SHARED: tuple[Stage[Any], ...] = (baseline.stage, activations.stage)
OWN: tuple[Stage[Any], ...] = (group.stage, prune.stage, retrain.stage, evaluate.stage)
MEASURED = SHARED + OWN


def run(config: MainConfig) -> str:
    """Run every stage that has no finished run yet; return the id of the parent run.

    Raises:
        InputError: the user can mend it.
    """
    with open_entry_run(config, run_name(config, retrain.title(config)), __doc__) as (store, parent):
        session = Session(store)
        parent.set_tags(data_tags(config, session))
        evaluate.check(config, session.dataset(config))
        register.check(config, session.dataset(config))
        run_ids = _ensure(MEASURED, config, session, parent)
        control = _control(config, run_ids["prune"], session, parent) if config.control else ""
        run_ids |= _ensure([register.stage], config, session, parent)
        run_ids |= _ensure([report.stage], config, session, parent, control_run=control)
        _conclude(config, run_ids, control, session, parent)
    return parent.id


def _ensure(
    stages: Sequence[Stage[Any]], config: MainConfig, session: Session, parent: Run, **more: str
) -> dict[str, str]:
    """Run stages one after another; tag the parent run with them and return their run ids by stage."""
    run_ids = {}
    for stage in stages:
        run_ids[stage.name] = stage.ensure(stage_config(config, stage, **more), session, parent.id)
        parent.set_tags(upstream_tags(run_ids))
        _log.info("%s: run %s", stage.name, run_ids[stage.name])
    return run_ids


def _control(config: MainConfig, prune_run: str, session: Session, parent: Run) -> str:
    """Return the evaluate run of one K-way network with the FLOPs of the largest member; empty where there is none."""
    sizes = session.store.metrics_of(prune_run)
    if sizes["members"] == 1:
        _log.info("control: the ensemble is itself one network")
        return ""
    share = sizes["flops_max"] / sizes["flops_base"]
    control = config.model_copy(update={"method": "random", "n_groups": 1, "policy": "ratio", "target_flops": share})
    run_id = ""
    try:
        for stage in OWN:
            run_id = stage.ensure(stage_config(control, stage), session, parent.id)
    # A network of K outputs may not get as small as one of a single output.
    except UnreachableTargetError as error:
        _log.warning("no control: %s", error)
        return ""
    parent.set_tags({tags.CONTROL: run_id})
    _log.info("control: run %s", run_id)
    return run_id


def _conclude(config: MainConfig, run_ids: dict[str, str], control: str, session: Session, parent: Run) -> None:
    """Log the metrics of ensemble and control on the parent run, and print them as a table."""
    store = session.store
    metrics = store.metrics_of(run_ids["evaluate"]) | store.metrics_of(run_ids["register"])
    control_metrics = store.metrics_of(control) if control else None
    parent.log_metrics(metrics | {f"control_{name}": value for name, value in (control_metrics or {}).items()})
    say(summary_table(metrics, control_metrics).to_string())
    print(differences_table(run_ids["evaluate"], store.client.tracking_uri, control).to_string())  # noqa: T201
    print(f"registered: models:/{config.model_name}/{int(metrics['version'])}")  # noqa: T201


def stage_config(config: MainConfig, stage: Stage[Any], **more: str) -> StageConfig:
    """Return the stage's part of the parameters, as a later stage would hand it upstream: both then stand on one run.

    `force` redoes every stage.
    """
    return config.upstream(stage.config).model_copy(update={"force": config.force, **more})
