"""The tags of runs and of registered versions. `TAGS` gives the runs that have each, and its meaning."""

from typing import NamedTuple

from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NAME,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
)

STAGE = "sensai.stage"
FINGERPRINT = "sensai.fingerprint"
CONFIG = "sensai.config"
UPSTREAM = "sensai.upstream."
REUSED = "sensai.reused"
# With the name of a yardstick: its evaluate run.
YARDSTICK = "sensai.yardstick."
ROLE = "sensai.role"
VERDICT = "sensai.verdict"
STUDY = "sensai.study"
CELL = "sensai.cell"
TRIAL = "sensai.trial"
DATASET = "sensai.dataset"
DATA_DIGEST = "sensai.data_digest"
VAL_DIGEST = "sensai.val_digest"
ARCH = "sensai.arch"
CLASSES = "sensai.classes"
MEMBER = "sensai.member"
MEMBER_RUN = "sensai.member_run"
SPLIT = "sensai.split"
THRESHOLDS = "sensai.thresholds"
CUTS = "sensai.cuts"
STOPPED_BY = "sensai.stopped_by"
RETRIED = "sensai.retried"
PRECISION = "sensai.precision"
DEVICE = "sensai.device"
COMMIT = "sensai.commit"
PROCESS = "sensai.process"
HOST = "sensai.host"
RUNTIME = "sensai.runtime"
MANIFEST = "sensai.manifest"
REPLACED = "sensai.replaced"
CHAMPIONS = "sensai.champions"
FAILURE = "sensai.failure"
LEAKAGE = "sensai.leakage"
# MLflow's own tag: its UI shows it as the description, in Markdown.
NOTE = "mlflow.note.content"
# Metrics that versions have as tags too, by which people tell them apart.
VERSION_METRICS = ("accuracy", "base_accuracy", "latency_ensemble_ms", "latency_base_ms")


class Tag(NamedTuple):
    """One entry of `TAGS`.

    Attributes:
        stages: the stages whose runs have it; "any": of all of them; "member" is a member's run, "trial" one of `tune`, "cell"
            one of `grouping_study`; "version" is a registered version, "registered model" what holds the versions.
        meaning: its value, in one line.
    """

    stages: tuple[str, ...]
    meaning: str


_PIPELINE = ("baseline", "activations", "group", "prune", "retrain", "evaluate", "register", "report")
_STUDIES = ("contention", "grouping_study")
_OF_DATA = ("main", *_PIPELINE, "tune", *_STUDIES, "member", "trial", "cell")
TAGS = {
    STAGE: Tag(("any",), "the entry point that made the run; `member`, `trial` or `cell` for a run below it"),
    CONFIG: Tag(("any",), "all parameters with their types, as JSON; of a `report` by itself what it is about"),
    FINGERPRINT: Tag((*_PIPELINE, *_STUDIES, "cell"), "digest of all that the result depends on"),
    f"{UPSTREAM}<stage>": Tag(
        ("any", "version"), "id of the run of that stage on which the run stands; of a version its evaluation"
    ),
    REUSED: Tag(("any",), "id of the stored run that answered; the run was opened by `mlflow run` and has its metrics"),
    f"{YARDSTICK}<yardstick>": Tag(("main",), "id of the evaluation of that yardstick"),
    ROLE: Tag(("evaluate",), "`ensemble`, `control`, `replicas` or `base`: the kind of network that is evaluated"),
    VERDICT: Tag(("main", "evaluate"), "the best choice, by how much, how surely, and the next command"),
    STUDY: Tag(("any",), "name of the study of `tune` or `grouping_study`, on its run and all below it"),
    CELL: Tag(("cell",), "method, number of groups, ratio and seed of the cell, as JSON"),
    TRIAL: Tag(("any",), "number of the trial, on its run and all below it"),
    DATASET: Tag(_OF_DATA, "the parameter `dataset`"),
    DATA_DIGEST: Tag(_OF_DATA, "digest of images, labels and splits; of a streamed folder of names, classes and sizes"),
    VAL_DIGEST: Tag(("evaluate",), "digest of the validation split"),
    ARCH: Tag(_OF_DATA, "the parameter `arch`"),
    CLASSES: Tag(("member",), "names of the member's classes, as JSON; of many the first and their number"),
    MEMBER: Tag(("member",), "number of the member in its ensemble"),
    MEMBER_RUN: Tag(("member",), "of `evaluate`: id of the run in which the member was trained"),
    SPLIT: Tag(("member",), "`val`: by `retrain`; `test`: by `evaluate`"),
    THRESHOLDS: Tag(("member",), "`fitted`, `cross-fitted` or `natural`: where the thresholds of its metrics are from"),
    CUTS: Tag(("member",), "epochs before which it was cut further, as JSON (`cut_steps`)"),
    STOPPED_BY: Tag(("member",), "why its training ended: `epochs`, `budget` or the name of a stop rule"),
    RETRIED: Tag(("member",), "the failure after which it was trained again at half the learning rate"),
    PRECISION: Tag(("retrain",), "the precision that `precision=auto` has chosen"),
    DEVICE: Tag(("retrain",), "`cpu` or `cuda`: where its members were trained"),
    COMMIT: Tag((*_PIPELINE, *_STUDIES), "commit of the code; ends with `-dirty` where files differ from it"),
    PROCESS: Tag(("any",), "machine, process id and start of the process that writes the run, as JSON"),
    HOST: Tag(
        ("evaluate", "contention", "trial"), "CPU, cores and library versions of the machine that timed, as JSON"
    ),
    RUNTIME: Tag(("evaluate",), "the fastest runtime, and its threads, of each network, as JSON"),
    FAILURE: Tag(("any",), "why the run FAILED or was KILLED"),
    LEAKAGE: Tag(("evaluate", "promote"), "a warning: the base model seems to have been trained on validation images"),
    MANIFEST: Tag(("version",), "SHA-256 of the manifest, which has that of every other file"),
    REPLACED: Tag(("version",), "the version that it replaced as champion; empty: none"),
    CHAMPIONS: Tag(("registered model",), "numbers of the versions that have been champion, in order"),
    "dataset": Tag(("version",), "name of the data set"),
    "arch": Tag(("version",), "name of the architecture"),
    "pruning": Tag(("version",), "how the members were cut"),
    "members": Tag(("version",), "number of members"),
    **{name: Tag(("version",), "the metric of that name, to three digits") for name in VERSION_METRICS},
    NOTE: Tag(("any",), "the description that the UI shows, in Markdown"),
    MLFLOW_RUN_NAME: Tag(("any",), "the name that the UI shows"),
    MLFLOW_PARENT_RUN_ID: Tag(("any",), "id of the run that the run is nested below"),
    MLFLOW_SOURCE_NAME: Tag(("any",), "the entry point, or the project of `mlflow run`"),
    MLFLOW_SOURCE_TYPE: Tag(("any",), "`LOCAL`, or `PROJECT` of `mlflow run`"),
    MLFLOW_GIT_COMMIT: Tag(("any",), "commit of the code"),
}
