"""evaluate: Read the test split once, for accuracies, sizes, latencies and confusion.

Logs accuracies, sizes and latencies of base model and ensemble, the verdict on them, both answers to every image, the ways to
combine members' outputs beside each other, confusion matrices (of groups: between and inside them) and the members' table; one
child run a member with its test metrics, at decision thresholds fitted on validation data. A base model that has seen
validation images gets a warning. The tag `sensai.role` tells an ensemble from the networks that it is compared with.
"""

from sensai.config import EvaluateConfig, GroupingStudyConfig, MainConfig, TuneConfig
from sensai.data.dataset import Dataset, Split
from sensai.errors import InputError
from sensai.evaluation.verdict import read
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.context import Context
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage
from sensai.stages import retrain
from sensai.stages.evaluate.measured_host import timing_host_of
from sensai.tracking import Store, tags


def _execute(config: EvaluateConfig, context: Context) -> None:
    from sensai.stages.evaluate.evaluate_execution import execute

    execute(config, context)


def check(config: EvaluateConfig | MainConfig | GroupingStudyConfig | TuneConfig, data: Dataset) -> None:
    """Refuse data without the splits that are needed, and a runtime that is not here, before anything is trained.

    Raises:
        InputError: there is no test split, no validation split that the parameters need, or no such runtime on this machine.
    """
    from sensai.runtimes import check_runtime
    from sensai.stages.evaluate.combining import validation_split

    if config.runtime != "auto":
        check_runtime(config.runtime)
    test_split(data)
    validation_split(config, data)


def _inputs(config: EvaluateConfig, _session: Session) -> dict[str, object]:
    return {"host": timing_host_of(config)}


def test_split(data: Dataset) -> Split:
    """Return the test split.

    Raises:
        InputError: the data have none.
    """
    if data.test is None:
        raise InputError(
            f"dataset={data.name!r}: has no test split to evaluate on; lay the folder out as train/ and test/ "
            "(and, if you like, val/), one folder a class in each"
        )
    return data.test


def found(store: Store, run_id: str) -> Findings:
    """Return what a run found: its numbers, and the verdict."""
    metrics, verdict = store.metrics_of(run_id), read(store.tags_of(run_id).get(tags.VERDICT, ""))
    fact = sentence(
        metrics,
        "test accuracy {accuracy:accuracy}, of the base model {base_accuracy:accuracy}",
        "{latency_ensemble_ms:ms}, the base model {latency_base_ms:ms}",
        "the slowest member alone {latency_member_max_ms:ms}",
    )
    return Findings([fact, *verdict.sentences], verdict.command, verdict.purpose)


stage = Stage(
    version=8,
    config=EvaluateConfig,
    previous=retrain.stage,
    execute=_execute,
    title=retrain.title,
    reads=("val", "test"),
    inputs=_inputs,
    found=found,
    check=check,
)


run = stage.run
