"""main: the whole pipeline in one process, each stage a nested run of one parent run, which carries the final table."""

import logging
from typing import Any

from analysis import tags
from analysis.report import summary_table
from sensai.stages import activations, baseline, evaluate, group, prune, register, report, retrain
from sensai.stages.configs import MainConfig, StageConfig
from sensai.stages.inputs import dataset_of
from sensai.stages.stage import Stage, run_name
from sensai.tracking import Run, Store

_log = logging.getLogger(__name__)

# In the order in which data flows; what each logs is said in its module.
PIPELINE: tuple[Stage[Any], ...] = (
    baseline.stage,
    activations.stage,
    group.stage,
    prune.stage,
    retrain.stage,
    evaluate.stage,
    register.stage,
    report.stage,
)


def run(config: MainConfig) -> str:
    """Run every stage that has no finished run yet; returns the id of the parent run.

    Raises:
        InputError: what the user can mend.
    """
    store = Store.connect()
    store.close_orphans()
    name = run_name(config, retrain.title(config))
    parent = store.adopt() or store.create(name, parent=None)
    with parent.closing():
        parent.set_name(name)
        _run_stages(config, store, parent)
    return parent.id


def _run_stages(config: MainConfig, store: Store, parent: Run) -> None:
    parent.log_params(config.model_dump())
    parent.set_tags(
        {
            tags.STAGE: config.stage,
            tags.CONFIG: config.model_dump_json(),
            tags.DATASET: config.dataset,
            tags.ARCH: config.arch,
            tags.DATA_DIGEST: dataset_of(config).digest,
        }
    )
    # Better refused now than after all the training.
    evaluate.test_split(config)
    run_ids: dict[str, str] = {}
    for stage in PIPELINE:
        run_ids[stage.name] = stage.ensure(_stage_config(config, stage), store, parent.id)
        parent.set_tags({tags.UPSTREAM + stage.name: run_ids[stage.name]})
        _log.info("%s: run %s", stage.name, run_ids[stage.name])
    metrics = store.metrics_of(run_ids["evaluate"]) | store.metrics_of(run_ids["register"])
    parent.log_metrics(metrics)
    print(summary_table(metrics).to_string())  # noqa: T201  (what the user asked for)
    print(f"registered: models:/{config.model_name}/{int(metrics['version'])}")  # noqa: T201


def _stage_config(config: MainConfig, stage: Stage[Any]) -> StageConfig:
    """The stage's part of the parameters; `force` redoes every stage."""
    return stage.config.model_validate(config.model_dump(include=set(stage.config.model_fields)))
