"""baseline: Train the K-way classifier, or take that of a checkpoint.

Logs val_accuracy, params, flops, the learning curve and the model.
"""

from sensai.config import BaselineConfig
from sensai.models.architecture_names import source_digest
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.context import Context, file_digest
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage
from sensai.tracking import Store


def _execute(config: BaselineConfig, context: Context) -> None:
    from sensai.stages.baseline.baseline_execution import execute

    execute(config, context)


def _inputs(config: BaselineConfig, _session: Session) -> dict[str, str]:
    """Return the files that the base model is made of, by content."""
    own = source_digest(config.arch)
    return {"checkpoint": file_digest(config.checkpoint, "checkpoint")} | ({"arch": own} if own else {})


def found(store: Store, run_id: str) -> Findings:
    """Return what a run found."""
    fact = sentence(
        store.metrics_of(run_id),
        "validation accuracy {val_accuracy:accuracy}",
        "{params:count} parameters",
        "{flops:flops}",
        "{epochs_run:count} epochs",
        "{seconds:count} s",
    )
    return Findings([fact], f"sensai activations --from_run {run_id}")


stage = Stage(
    version=5,
    config=BaselineConfig,
    previous=None,
    execute=_execute,
    inputs=_inputs,
    reads=("train", "val"),
    found=found,
)


run = stage.run
