"""promote: Choose the version of a registered model that serves.

Logs the comparison with base model and champion. Moves the alias `champion` only where the candidate is accurate enough, is
faster or more accurate than the base model, and costs no more than the champion; `rollback` goes back to the version before.
The evaluation's warning of a base model that has seen validation images is repeated.
"""

import json
import logging
from pathlib import Path

from sensai.config import PredictConfig, PromoteConfig
from sensai.config.arguments import as_command
from sensai.errors import InputError
from sensai.files import make_folder
from sensai.locks import locked
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.run_lifecycle import open_entry_run
from sensai.registry import promotion
from sensai.registry.aliases import CHAMPION, find
from sensai.registry.registered import check_files
from sensai.tracking import Run, Store, tags
from sensai.tracking.artifact_names import PROMOTION

_log = logging.getLogger(__name__)


def run(config: PromoteConfig) -> str:
    """Promote, or roll back; return the id of the run.

    Raises:
        InputError: the candidate is not promoted, with the reason; the champion stays.
    """
    # Two promotions with one `work_dir` wait for each other; any other one is noticed before the alias moves.
    name = f"{config.stage} {config.model_name}"
    with open_entry_run(config, name, __doc__) as (store, run), locked(_lock(config), name):
        if config.rollback:
            _roll_back(config, store, run)
        else:
            _promote(config, store, run)
    return run.id


def found(store: Store, run_id: str) -> Findings:
    """Return the champion that a run has made."""
    run = store.run(run_id)
    model_name = json.loads(run.data.tags[tags.CONFIG])["model_name"]
    uri = f"models:/{model_name}@{CHAMPION}"
    fact = sentence(
        run.data.metrics,
        "champion of " + model_name + " is version {version:count}",
        "{latency_ensemble_ms:ms}, the base model {latency_base_ms:ms}",
        "{accuracy_drop:accuracy} of validation accuracy lost",
    )
    return Findings([fact], f"{as_command('predict', PredictConfig(model_uri=uri))} --images FOLDER")


def _lock(config: PromoteConfig) -> Path:
    folder = make_folder(Path(config.work_dir) / "locks", "work_dir")
    return folder / f"promote-{config.model_name}.lock"


def _promote(config: PromoteConfig, store: Store, run: Run) -> None:
    client = store.client
    version = find(client, config.model_name, config.version)
    champion = promotion.champion_of(client, config.model_name)
    if champion is not None and champion.version == version.version:
        raise InputError(f"version={version.version}: is the champion of {config.model_name!r} already")
    check_files(version)
    candidate = promotion.standing(client, version)
    best = promotion.standing(client, champion) if champion else None
    run.log_frame(promotion.compared(candidate, best), PROMOTION)
    latencies = {"latency_ensemble_ms": candidate.costs.latency, "latency_base_ms": candidate.base_costs.latency}
    run.log_metrics({"version": candidate.version, "accuracy_drop": candidate.accuracy_drop, **latencies})
    if candidate.warning:
        _log.warning("version %d: %s", candidate.version, candidate.warning)
        run.set_tags({tags.LEAKAGE: candidate.warning})
    promotion.check(candidate, best, config.max_accuracy_drop, config.cost, allow_no_gain=config.allow_no_gain)
    promotion.promote(client, version, champion)


def _roll_back(config: PromoteConfig, store: Store, run: Run) -> None:
    version = promotion.roll_back(store.client, config.model_name)
    run.log_metrics({"version": float(version.version)})
