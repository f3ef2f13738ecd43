"""log: Register an ensemble in MLflow, where the entry points `predict`, `serve` and `promote` find it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mlflow
import numpy as np

from sensai.analysis.report.summary import summary_table
from sensai.api.evaluations import Evaluation
from sensai.api.live_ensemble import Ensemble
from sensai.api.parameters import checked
from sensai.config import RegisterConfig
from sensai.errors import InputError
from sensai.models.architecture_names import LIVE
from sensai.pipeline.lineage import upstream_tags
from sensai.pipeline.run_lifecycle import Description, open_run
from sensai.registry.bundle_reader import REJECTED
from sensai.registry.image_format import ImageFormat
from sensai.registry.versions import described, register_ensemble, tagged_metrics
from sensai.stages.evaluate.measured_host import timing_host
from sensai.terminal import waiting
from sensai.tracking import Run, Store, tags
from sensai.tracking.artifact_names import ANSWERS, CALIBRATION, CONFUSION, MEMBERS_TABLE, VAL_ANSWERS

_ABOUT = "An ensemble that was made in Python, and its evaluation."


@dataclass(frozen=True)
class LoggedVersion:
    """A version in the model registry.

    Attributes:
        model_name: of the registered model.
        version: its number.
        run_id: of the run that has its metrics and tables.
    """

    model_name: str
    version: int
    run_id: str

    @property
    def uri(self) -> str:
        """Return the `model_uri` of `sensai predict` and `sensai serve`."""
        return f"models:/{self.model_name}/{self.version}"

    def __str__(self) -> str:
        return self.uri


def log(
    ensemble: Ensemble,
    result: Evaluation | None = None,
    *,
    model_name: str = "sensai-ensemble",
    image_dtype: str = "uint8",
    image_layout: str = "NHWC",
) -> LoggedVersion:
    """Register an ensemble as a version that `sensai predict` and `sensai serve` run, and log its evaluation.

    The store is that which MLflow is set to (`mlflow.set_tracking_uri`). An active run of MLflow's gets everything; where there
    is none, a run is made. `sensai promote` can judge the version if the evaluation had validation images and latencies.

    Args:
        ensemble: to be registered; it will take raw images.
        result: of `evaluate`; its metrics, tables and verdict are logged too.
        model_name: registered model; made if it does not exist.
        image_dtype: of the images that it will take: uint8 from 0 to 255, or float32 from 0 to 1.
        image_layout: of these: NHWC or NCHW.

    Raises:
        InputError: a parameter is not allowed, the normalisation of the images is not known, or the store does not answer.
    """
    values = {"model_name": model_name, "image_dtype": image_dtype, "image_layout": image_layout}
    config = checked(RegisterConfig, dict(values))
    if not ensemble.is_raw_known:
        raise InputError(
            "mean=None: the scored images were not from 0 to 1, so they had been normalised; give score the mean and std of "
            "each channel, so that the registered ensemble can take raw images"
        )
    if REJECTED in ensemble.class_names:
        raise InputError(f"class_names: a class is called {REJECTED!r}, as is what an ensemble rejects")
    metrics = dict(result.metrics) if result else {}
    networks = summary_table(metrics, result.yardsticks if result else None)
    name = ensemble.spec.arch.removeprefix(LIVE)
    store = Store.connect()
    with store.refusals(), _run(store, f"log {model_name}", ensemble, result) as run:
        if result is not None:
            _log_tables(result, run)
        example = result.example if result else _noise(ensemble)
        version_tags = {"arch": name, "members": str(len(ensemble.members)), **tagged_metrics(metrics)}
        with waiting("exports the members, and checks that their files answer as in memory"):
            version = register_ensemble(
                store.client,
                run.id,
                ensemble.cpu(),
                ensemble.calibration,
                ImageFormat(config.image_dtype, config.image_layout),
                example,
                config.model_name,
                {**version_tags, **upstream_tags({"evaluate": run.id})},
                described(f"{len(ensemble.members)} members of `{name}`", networks, result.verdict if result else ""),
            )
        run.log_metrics({"version": version})
    return LoggedVersion(config.model_name, version, run.id)


@contextmanager
def _run(store: Store, name: str, ensemble: Ensemble, result: Evaluation | None) -> Iterator[Run]:
    """Yield the active run of MLflow's, or one that ends with the block."""
    run_tags = {tags.ROLE: ensemble.role, tags.ARCH: ensemble.spec.arch}
    if result is not None:
        host = timing_host("auto", next(ensemble.parameters()).device)
        run_tags |= {tags.VERDICT: result.verdict, tags.VAL_DIGEST: result.val_digest, tags.HOST: json.dumps(host)}
        run_tags |= {tags.LEAKAGE: result.warning} if result.warning else {}
    active = mlflow.active_run()
    if active is None:
        with open_run(store, Description(name, run_tags, about=_ABOUT)) as run:
            yield run
        return
    run = Run(store.client, active.info.run_id, artifact_uri=active.info.artifact_uri)
    run.set_tags(run_tags)
    yield run
    run.flush()


def _log_tables(result: Evaluation, run: Run) -> None:
    run.log_metrics({key: value for key, value in result.metrics.items() if not np.isnan(value)})
    for name, metrics in result.yardsticks.items():
        run.log_metrics({f"{name}_{key}": value for key, value in metrics.items() if not np.isnan(value)})
    run.log_frame(result.answers, ANSWERS)
    run.log_frame(result.members, MEMBERS_TABLE)
    run.log_frame(result.confusion, CONFUSION)
    run.log_frame(result.table.reset_index(), "table.csv")
    run.log_json(result.calibration.to_json(), CALIBRATION)
    if result.val_answers is not None:
        run.log_frame(result.val_answers, VAL_ANSWERS)


def _noise(ensemble: Ensemble) -> np.ndarray:
    """Return an image uint8 (1, H, W, C), where there is no real one."""
    channels, height, width = ensemble.spec.input_shape
    return np.random.default_rng(0).integers(0, 256, (1, height, width, channels), dtype=np.uint8)
