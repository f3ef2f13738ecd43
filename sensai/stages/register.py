"""register: Register the ensemble as a version in the model registry.

Logs the model (pyfunc, signature, input example) and version.
"""

from collections.abc import Mapping

from mlflow.entities import Run as StoredRun

from sensai.config import MainConfig, RegisterConfig, TuneConfig
from sensai.data.dataset import Dataset
from sensai.errors import InputError
from sensai.pipeline.context import Context
from sensai.pipeline.lineage import upstream_tags
from sensai.pipeline.stage import Stage
from sensai.registry.image_format import ImageFormat
from sensai.registry.promotion import find
from sensai.registry.pyfunc_model import REJECTED
from sensai.registry.versions import register_ensemble
from sensai.stages import evaluate, retrain
from sensai.stages.evaluate import combining
from sensai.stages.prune import title as prune_title
from sensai.tracking import Store, tags

# People look a version up by these metrics of its evaluation.
_TAGGED_METRICS = ("accuracy", "accuracy_drop", "flops_base", "flops_max", "flops_speedup", "latency_member_max_ms")
# MLflow refuses longer ones.
_LONGEST_DESCRIPTION = 5000


def _execute(config: RegisterConfig, context: Context) -> None:
    train = context.data.train
    store, evaluate_run = context.store, context.upstream["evaluate"]
    ensemble = retrain.load(store, context.upstream["retrain"])
    calibration = combining.load(store, evaluate_run)
    example = train.images[train.rows[:1]].transpose(0, 2, 3, 1)
    metrics = store.metrics_of(evaluate_run)
    version_tags = {
        "dataset": config.dataset,
        "arch": config.arch,
        "pruning": prune_title(config),
        "members": str(len(ensemble.members)),
        **({"ratio": f"{config.ratio:g}"} if config.by_ratio else {}),
        **{name: f"{metrics[name]:g}" for name in _TAGGED_METRICS if name in metrics},
        **upstream_tags(context.upstream),
    }
    version = register_ensemble(
        store.client,
        context.run.id,
        ensemble,
        calibration,
        ImageFormat(config.image_dtype, config.image_layout),
        example,
        config.model_name,
        version_tags,
        description(config, metrics, store.tags_of(evaluate_run).get(tags.VERDICT, "")),
    )
    context.run.log_metrics({"version": version})


def _is_current(config: RegisterConfig, store: Store, run: StoredRun) -> bool:
    """Return True where the registry still has the run's version: a model that is made anew numbers its versions anew."""
    try:
        version = find(store.client, config.model_name, int(run.data.metrics["version"]))
    except InputError:
        return False
    return version.run_id == run.info.run_id


def check(_config: RegisterConfig | MainConfig | TuneConfig, data: Dataset) -> None:
    """Refuse a class that would be taken for the answer "none of them", before anything is trained.

    Raises:
        InputError: there is such a class.
    """
    if REJECTED in data.class_names:
        raise InputError(f"dataset={data.name!r}: a class is called {REJECTED!r}, as is what an ensemble rejects")


def description(config: RegisterConfig | MainConfig, metrics: Mapping[str, float], verdict: str) -> str:
    """Return the description of a version as Markdown: its title, a table of metrics, and the verdict.

    Args:
        config: of the ensemble.
        metrics: of its evaluation.
        verdict: its lines, as `Verdict` gives them.
    """
    members = f"{metrics['members']:.0f} members" if "members" in metrics else "Members"
    title = f"{members} of `{config.arch}` on `{config.dataset}`, {prune_title(config)}"
    rows = [f"| {name} | {metrics[name]:.6g} |" for name in _TAGGED_METRICS if name in metrics]
    table = ["| metric | test split, this machine |", "| --- | --- |", *rows]
    return "\n".join([title, "", *table, "", *(f"{line}  " for line in verdict.splitlines())])[:_LONGEST_DESCRIPTION]


stage = Stage(
    version=6,
    config=RegisterConfig,
    previous=evaluate.stage,
    execute=_execute,
    title=lambda config: config.model_name,
    is_current=_is_current,
    check=check,
)
run = stage.run
