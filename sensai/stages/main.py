"""main: Run the whole pipeline, and end with a table of base model, ensemble and control.

Each stage is a nested run of one parent run, which carries the final table.

With `control` the same is done once more with one K-way network, pruned to the FLOPs of the largest member.
"""

import logging
from typing import Any

from sensai.analysis.report import differences_table, summary_table
from sensai.config import MainConfig, StageConfig
from sensai.errors import UnreachableTargetError
from sensai.pipeline.run_lifecycle import opened
from sensai.pipeline.stage import Stage, data_tags, run_name
from sensai.stages import activations, baseline, evaluate, group, prune, register, report, retrain
from sensai.terminal import say
from sensai.tracking import Run, Store, tags

_log = logging.getLogger(__name__)

# In the order in which data flows; what each logs is said in its module.
MEASURED: tuple[Stage[Any], ...] = (
    baseline.stage,
    activations.stage,
    group.stage,
    prune.stage,
    retrain.stage,
    evaluate.stage,
)


def run(config: MainConfig) -> str:
    """Run every stage that has no finished run yet; returns the id of the parent run.

    Raises:
        InputError: what the user can mend.
    """
    with opened(config, run_name(config, retrain.title(config)), __doc__) as (store, parent):
        _run_stages(config, store, parent)
    return parent.id


def _run_stages(config: MainConfig, store: Store, parent: Run) -> None:
    parent.set_tags(data_tags(config))
    evaluate.check(config)
    register.check(config)
    run_ids = {stage.name: _ensure(stage, config, store, parent) for stage in MEASURED}
    control = _control(config, run_ids, store, parent) if config.control else ""
    run_ids["register"] = _ensure(register.stage, config, store, parent)
    run_ids["report"] = _ensure(report.stage, config, store, parent, control_run=control)
    metrics = store.metrics_of(run_ids["evaluate"]) | store.metrics_of(run_ids["register"])
    control_metrics = store.metrics_of(control) if control else None
    parent.log_metrics(metrics | {f"control_{name}": value for name, value in (control_metrics or {}).items()})
    say(summary_table(metrics, control_metrics).to_string())
    print(differences_table(run_ids["evaluate"], store.client.tracking_uri, control).to_string())  # noqa: T201
    print(f"registered: models:/{config.model_name}/{int(metrics['version'])}")  # noqa: T201


def _ensure(stage: Stage[Any], config: MainConfig, store: Store, parent: Run, **more: str) -> str:
    run_id = stage.ensure(stage_config(config, stage, **more), store, parent.id)
    parent.set_tags({tags.UPSTREAM + stage.name: run_id})
    _log.info("%s: run %s", stage.name, run_id)
    return run_id


def _control(config: MainConfig, run_ids: dict[str, str], store: Store, parent: Run) -> str:
    """The evaluate run of one K-way network with the FLOPs of the ensemble's largest member; empty where there is none."""
    sizes = store.metrics_of(run_ids["prune"])
    if sizes["members"] == 1:
        _log.info("control: the ensemble is itself one network")
        return ""
    share = sizes["flops_max"] / sizes["flops_base"]
    control = config.model_copy(update={"method": "random", "n_groups": 1, "policy": "ratio", "target_flops": share})
    run_id = ""
    try:
        for stage in MEASURED[MEASURED.index(group.stage) :]:
            run_id = stage.ensure(stage_config(control, stage), store, parent.id)
    # A network of K outputs may not get as small as one of a single output.
    except UnreachableTargetError as error:
        _log.warning("no control: %s", error)
        return ""
    parent.set_tags({tags.CONTROL: run_id})
    _log.info("control: run %s", run_id)
    return run_id


def stage_config(config: MainConfig, stage: Stage[Any], **more: str) -> StageConfig:
    """The stage's part of the parameters, as a later stage would hand it upstream: both then stand on one run.

    `force` redoes every stage.
    """
    return config.upstream(stage.config).model_copy(update={"force": config.force, **more})
