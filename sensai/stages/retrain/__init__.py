"""retrain: Train every member on its own outcomes, all on one stream of batches.

Logs val_accuracy, calibrated_val_accuracy, val_in_group_accuracy, train_images, epochs_saved, seconds_saved, images_per_s,
seconds, all curves in one table and the members. With precision=auto it logs bf16_speedup; where the same members were also
trained to the end, accuracy_given_up. Each member has a child run with its curves and its validation metrics, whose decision
thresholds are cross-fitted.
"""

from typing import TYPE_CHECKING

from sensai.config import Retrain, RetrainConfig
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.context import Context
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage
from sensai.stages import prune
from sensai.tracking import Store
from sensai.tracking.artifact_names import MEMBERS

if TYPE_CHECKING:
    from sensai.ensemble import Ensemble


def _execute(config: RetrainConfig, context: Context) -> None:
    from sensai.stages.retrain.retrain_execution import execute

    execute(config, context)


def load(store: Store, run_id: str) -> "Ensemble":
    """Return the ensemble of a run, on the CPU."""
    from sensai.ensemble import load_ensemble

    with store.downloaded(run_id, MEMBERS) as folder:
        return load_ensemble(folder)


def title(config: Retrain) -> str:
    """Return the name of a run, by which retrainings differ."""
    gradually = f" cut_steps={config.cut_steps}" if config.epochs and config.cut_steps > 1 else ""
    loss = f" loss={config.loss}" if config.epochs and config.loss != "bce" else ""
    return f"{prune.run_title(config)} {config.epochs} epochs{loss}{gradually}"


def _inputs(config: RetrainConfig, _session: Session) -> dict[str, int | None]:
    # Each worker gets its part of a budget.
    return {"jobs": config.jobs} if config.epochs and config.budget else {}


def found(store: Store, run_id: str) -> Findings:
    """Return what a run found."""
    fact = sentence(
        store.metrics_of(run_id),
        "validation accuracy {calibrated_val_accuracy:accuracy} ({val_accuracy:accuracy} of raw scores)",
        "{seconds:count} s",
        "{epochs_saved:count} epochs saved by stops",
    )
    return Findings([fact], f"sensai evaluate --from_run {run_id}")


stage = Stage(
    version=6,
    config=RetrainConfig,
    previous=prune.stage,
    execute=_execute,
    title=title,
    inputs=_inputs,
    found=found,
    reads=("train", "val"),
)


run = stage.run
