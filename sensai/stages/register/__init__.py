"""register: Register the ensemble as a version in the model registry.

Logs the model (pyfunc, signature, input example) with the metrics of its evaluation, the version, and all that is known of it
(version.json).
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow.entities import Run as StoredRun

from sensai.config import MainConfig, PromoteConfig, RegisterConfig, TuneConfig
from sensai.config.arguments import as_command
from sensai.data.dataset import Dataset
from sensai.errors import InputError
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.context import Context
from sensai.pipeline.stage import Stage
from sensai.registry.aliases import CANDIDATE, find
from sensai.registry.bundle_reader import REJECTED
from sensai.stages import evaluate
from sensai.stages.prune import title as prune_title
from sensai.tracking import Store, tags

if TYPE_CHECKING:
    import pandas as pd


def _execute(config: RegisterConfig, context: Context) -> None:
    from sensai.stages.register.register_execution import execute

    execute(config, context)


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


def description(
    config: RegisterConfig | MainConfig, metrics: Mapping[str, float], networks: "pd.DataFrame", verdict: str
) -> str:
    """Return the description of a version as Markdown: its title, what each network takes, and the verdict.

    Args:
        config: of the ensemble.
        metrics: of its evaluation.
        networks: base model, ensemble and others side by side, as `summary_table` gives them.
        verdict: its lines, as `Verdict` gives them.
    """
    from sensai.registry.versions import described

    members = f"{metrics['members']:.0f} members" if "members" in metrics else "Members"
    return described(f"{members} of `{config.arch}` on `{config.dataset}`, {prune_title(config)}", networks, verdict)


def found(store: Store, run_id: str) -> Findings:
    """Return which version a run has registered."""
    run = store.run(run_id)
    model_name = json.loads(run.data.tags[tags.CONFIG])["model_name"]
    fact = sentence(run.data.metrics, "registered models:/" + model_name + "/{version:count}, alias " + CANDIDATE)
    return Findings([fact], as_command("promote", PromoteConfig(model_name=model_name)))


stage = Stage(
    version=6,
    config=RegisterConfig,
    previous=evaluate.stage,
    execute=_execute,
    title=lambda config: config.model_name,
    found=found,
    is_current=_is_current,
    check=check,
)


run = stage.run
