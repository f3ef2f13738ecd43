"""register: Register the ensemble as a version in the model registry.

Logs the model (pyfunc, signature, input example) and version.
"""

from mlflow.entities import Run as StoredRun

from sensai.config import MainConfig, RegisterConfig, TuneConfig
from sensai.errors import InputError
from sensai.pipeline.context import dataset_of
from sensai.pipeline.stage import Context, Stage
from sensai.registry.image_format import ImageFormat
from sensai.registry.promotion import find
from sensai.registry.pyfunc_model import REJECTED
from sensai.registry.versions import register_ensemble
from sensai.stages import evaluate, retrain
from sensai.stages.evaluate import combining
from sensai.stages.prune import title as prune_title
from sensai.tracking import Store, tags

# Metrics of the evaluation that a version is looked up by.
_TAGGED_METRICS = ("accuracy", "accuracy_drop", "flops_base", "flops_max", "flops_speedup", "latency_member_max_ms")


def _execute(config: RegisterConfig, context: Context) -> None:
    data = dataset_of(config)
    ensemble = retrain.load(context.store, context.upstream["retrain"])
    calibration = combining.load(context.store, context.upstream["evaluate"])
    example = data.train.images[data.train.rows[:1]].transpose(0, 2, 3, 1)
    metrics = context.store.metrics_of(context.upstream["evaluate"])
    version_tags = {
        "dataset": config.dataset,
        "arch": config.arch,
        "pruning": prune_title(config),
        "members": str(len(ensemble.members)),
        **({"ratio": f"{config.ratio:g}"} if config.by_ratio else {}),
        **{name: f"{metrics[name]:g}" for name in _TAGGED_METRICS if name in metrics},
        **{tags.UPSTREAM + name: run_id for name, run_id in context.upstream.items()},
    }
    title = f"{len(ensemble.members)} members of `{config.arch}` on `{config.dataset}`, {prune_title(config)}"
    version = register_ensemble(
        context.store.client,
        context.run.id,
        ensemble,
        calibration,
        ImageFormat(config.image_dtype, config.image_layout),
        example,
        config.model_name,
        version_tags,
        _description(title, metrics),
    )
    context.run.log_metrics({"version": version})


def _is_there(config: RegisterConfig, store: Store, run: StoredRun) -> bool:
    """Whether the registry still has the version, and of this run: where a model is made anew, its numbers begin anew."""
    try:
        version = find(store.client, config.model_name, int(run.data.metrics["version"]))
    except InputError:
        return False
    return version.run_id == run.info.run_id


def check(config: RegisterConfig | MainConfig | TuneConfig) -> None:
    """Refuse a class that would be taken for the answer "none of them": better now than after all the training.

    Raises:
        InputError: there is such a class.
    """
    if REJECTED in dataset_of(config).class_names:
        raise InputError(f"dataset={config.dataset!r}: a class is called {REJECTED!r}, as is what an ensemble rejects")


def _description(title: str, metrics: dict[str, float]) -> str:
    """Markdown: what the version is, and a table of what it was measured at."""
    rows = [f"| {name} | {metrics[name]:.6g} |" for name in _TAGGED_METRICS if name in metrics]
    return "\n".join([title, "", "| metric | test split, this machine |", "| --- | --- |", *rows])


stage = Stage(
    version=6,
    config=RegisterConfig,
    previous=evaluate.stage,
    execute=_execute,
    title=lambda config: config.model_name,
    is_current=_is_there,
    check=check,
)
run = stage.run
