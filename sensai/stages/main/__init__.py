"""main: Run the whole pipeline, and end with a verdict on base model, ensemble and yardsticks.

Each stage is a nested run of one parent run, which carries the metrics of ensemble and yardsticks, and the verdict.

`yardsticks` repeats the pipeline with K-way networks of the same cost: one small network, several of them averaged, ...
"""

import logging
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sensai.analysis.report.yardstick_comparison import Comparison
from sensai.config import MainConfig
from sensai.pipeline.lineage import upstream_tags
from sensai.pipeline.run_lifecycle import open_entry_run
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage, data_tags, run_name
from sensai.registry.versions import describe_version
from sensai.stages import evaluate, register, report, retrain
from sensai.stages.evaluate import judging
from sensai.stages.main.flow import MEASURED, stage_config
from sensai.stages.main.yardsticks import make_yardsticks
from sensai.terminal import say
from sensai.tracking import Run, tags
from sensai.tracking.metric_names import yardstick_metric

_log = logging.getLogger(__name__)


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
        yardsticks = make_yardsticks(config, run_ids, session, parent)
        run_ids |= _ensure([register.stage], config, session, parent)
        run_ids |= _ensure([report.stage], config, session, parent, yardstick_runs=tuple(yardsticks.items()))
        _conclude(config, run_ids, yardsticks, session, parent)
    return parent.id


def _ensure(
    stages: Sequence[Stage[Any]], config: MainConfig, session: Session, parent: Run, **more: object
) -> dict[str, str]:
    """Run stages one after another; tag the parent run with them and return their run ids by stage."""
    run_ids = {}
    for stage in stages:
        run_ids[stage.name] = stage.ensure(stage_config(config, stage, **more), session, parent.id)
        parent.set_tags(upstream_tags(run_ids))
        _log.info("%s: run %s", stage.name, run_ids[stage.name])
    return run_ids


def _conclude(
    config: MainConfig, run_ids: Mapping[str, str], yardsticks: Mapping[str, str], session: Session, parent: Run
) -> None:
    """Log the metrics of ensemble and yardsticks and the verdict on the parent run, and print them."""
    store, evaluate_run = session.store, run_ids["evaluate"]
    metrics = store.metrics_of(evaluate_run) | store.metrics_of(run_ids["register"])
    parent.log_metrics(metrics)
    for name, run_id in yardsticks.items():
        measured = store.metrics_of(run_id)
        parent.log_metrics({yardstick_metric(name, metric): value for metric, value in measured.items()})
    comparison = Comparison.of(evaluate_run, yardsticks, store.client.tracking_uri)
    promote = f"sensai promote --model_name {shlex.quote(config.model_name)}"
    verdict = comparison.verdict(judging.commands_after(config, promote, yardsticks))
    networks = comparison.summary()
    say(networks.to_string())
    print(comparison.gains().to_string())  # noqa: T201
    version = int(metrics["version"])
    if verdict is not None:
        print(verdict)  # noqa: T201
        parent.set_tags({tags.VERDICT: str(verdict)})
        if yardsticks:
            about = register.description(config, metrics, networks, str(verdict))
            describe_version(store.client, config.model_name, version, about)
    print(f"registered: models:/{config.model_name}/{version}")  # noqa: T201
