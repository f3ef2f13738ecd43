"""main: Run the whole pipeline, and end with a verdict on base model, ensemble and yardsticks.

Each stage is a nested run of one parent run, which carries the metrics of ensemble and yardsticks, and the verdict.

`yardsticks` repeats the pipeline with K-way networks of the same cost: one small network, several of them averaged, ...
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sensai.analysis.report.yardstick_comparison import Comparison
from sensai.config import MainConfig, PromoteConfig
from sensai.config.arguments import as_command
from sensai.data.dataset import SPLITS
from sensai.evaluation.roles import EXPLANATIONS, MEMBER, TITLES, YARDSTICKS
from sensai.evaluation.verdict import read
from sensai.pipeline.closing import Findings
from sensai.pipeline.lineage import upstream_of, upstream_tags
from sensai.pipeline.run_lifecycle import open_entry_run
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage, data_tags, log_data, run_name
from sensai.registry.versions import describe_version
from sensai.stages import evaluate, register, report, retrain
from sensai.stages.evaluate import judging
from sensai.stages.main.flow import MEASURED, stage_config
from sensai.stages.main.yardsticks import make_yardsticks
from sensai.tracking import Run, Store, tags
from sensai.tracking.metric_names import yardstick_metric


def run(config: MainConfig) -> str:
    """Run every stage that has no finished run yet; return the id of the parent run.

    Raises:
        InputError: the user can mend it.
    """
    with open_entry_run(config, run_name(config, retrain.title(config)), __doc__) as (store, parent):
        session = Session(store)
        parent.set_tags(data_tags(config, session))
        log_data(parent, config, session, SPLITS)
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
    return run_ids


def _conclude(
    config: MainConfig, run_ids: Mapping[str, str], yardsticks: Mapping[str, str], session: Session, parent: Run
) -> None:
    """Log the metrics of ensemble and yardsticks and the verdict on the parent run."""
    store, evaluate_run = session.store, run_ids["evaluate"]
    metrics = store.metrics_of(evaluate_run) | store.metrics_of(run_ids["register"])
    parent.log_metrics(metrics)
    for name, run_id in yardsticks.items():
        measured = store.metrics_of(run_id)
        parent.log_metrics({yardstick_metric(name, metric): value for metric, value in measured.items()})
    comparison = _comparison(evaluate_run, tuple(yardsticks.items()), store.client.tracking_uri)
    promote = as_command("promote", PromoteConfig(model_name=config.model_name))
    verdict = comparison.verdict(judging.commands_after(config, promote, yardsticks))
    if verdict is not None:
        parent.set_tags({tags.VERDICT: str(verdict)})
        if yardsticks:
            about = register.description(config, metrics, comparison.summary(), str(verdict))
            describe_version(store.client, config.model_name, int(metrics["version"]), about)


@lru_cache(maxsize=1)
def _comparison(evaluate_run: str, yardsticks: tuple[tuple[str, str], ...], tracking_uri: str) -> Comparison:
    """Return the comparison of finished runs, which do not change; the intervals take seconds."""
    return Comparison.of(evaluate_run, dict(yardsticks), tracking_uri)


def found(store: Store, run_id: str) -> Findings:
    """Return the tables of a run, its verdict, and the version that it has registered."""
    run = store.run(run_id)
    made = {name.removeprefix(tags.YARDSTICK): value for name, value in run.data.tags.items()}
    yardsticks = {name: made[name] for name in YARDSTICKS if name in made}
    evaluate_run = upstream_of(run.data.tags)["evaluate"]
    comparison = _comparison(evaluate_run, tuple(yardsticks.items()), store.client.tracking_uri)
    verdict = read(run.data.tags.get(tags.VERDICT, ""))
    model_name = json.loads(run.data.tags[tags.CONFIG])["model_name"]
    registered = f"registered the ensemble: models:/{model_name}/{run.data.metrics['version']:.0f}"
    tables = [each.to_string() for each in (comparison.summary(), comparison.gains())]
    meanings = [
        f"member: {EXPLANATIONS[MEMBER]}; this ensemble has {comparison.evaluation.data.metrics['members']:.0f}",
        *(f"{TITLES[name]}: {EXPLANATIONS[name]}" for name in yardsticks),
        "latency_ms: median for one image on this machine, each network in its fastest runtime",
    ]
    return Findings([*tables, *meanings, *verdict.sentences, registered], verdict.command, verdict.purpose)
