"""Make the store of `test_old_store` with the code of another checkout: `python make_store.py CHECKOUT`.

Run it in an empty folder. It leaves `store.tar.xz` (tracking store, artifacts, Optuna's storage and working files) and
`expected.json` (what that code read from the store). Figures, pages and decoded data are left out.
"""

import importlib
import json
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optuna

PACKAGES = ("mlflow", "optuna", "torch", "onnxruntime", "numpy", "pandas", "pydantic", "scikit-learn", "safetensors")

BASE = {"dataset": "digits", "base_epochs": "3", "device": "cpu"}
CUT = BASE | {"method": "min_flops", "n_groups": "2", "ratio": "0.75"}
TRAINING = {"epochs": "2", "jobs": "1", "threads": "1", "precision": "fp32"}
TRAINED = CUT | TRAINING
EVALUATED = TRAINED | {"runtime": "torch"}

# Name -> entry point and parameters.
RUNS: dict[str, tuple[str, dict[str, str]]] = {
    "main": ("main", EVALUATED),
    "joint": ("retrain", TRAINED | {"loss": "joint_kd"}),
    "threshold": ("retrain", TRAINED | {"policy": "threshold", "apoz_threshold": "0.3", "mean_threshold": "1"}),
    "tune": ("tune", TRAINED | {"trials": "2", "space": "space.json", "study": "old"}),
    "study": (
        "grouping_study",
        BASE
        | TRAINING
        | {"methods": "random", "group_counts": "2", "ratios": "0.8", "repeats": "2", "control": "false"},
    ),
}
# The space of `tune`.
SPACE = {"ratio": {"low": 0.8, "high": 0.95}}
CONTINUED = RUNS["tune"][1] | {"trials": "3"}
# This one is killed when a member has been trained for some epochs.
KILLED = TRAINED | {"ratio": "0.9", "epochs": "12", "seed": "1"}
EPOCHS = 3

# Parameters that differ from those of `main`. The old code's fingerprints of each are kept.
VARIANTS: tuple[dict[str, str], ...] = (
    {},
    {"arch": "resnet20"},
    {"arch": "resnet20", "arch_args": '{"shortcut": "projection"}'},
    {"mean": "0.25", "std": "0.5"},
    {"image_size": "16"},
    {"val_fraction": "0.2"},
    {"split_seed": "1"},
    {"base_seed": "1"},
    {"base_epochs": "4"},
    {"base_lr": "0.2"},
    {"base_batch_size": "32"},
    {"base_weight_decay": "0.001"},
    {"base_augmentation": "none"},
    {"zero_threshold": "0.01"},
    {"criterion": "taylor"},
    {"criterion": "random"},
    {"seed": "1"},
    {"n_groups": "3"},
    {"method": "singletons"},
    {"method": "random"},
    {"method": "most_similar"},
    {"method": "most_similar", "similarity": "statistics"},
    {"method": "least_similar", "similarity": "confusion"},
    {"method": "kmeans"},
    {"ratio": "0.5"},
    {"scope": "all"},
    {"policy": "threshold"},
    {"policy": "threshold", "apoz_threshold": "0.3"},
    {"policy": "threshold", "mean_threshold": "0.1"},
    {"target_flops": "0.1"},
    {"target_flops": "0.1", "target_of": "ensemble"},
    {"ranking": "layer"},
    {"min_channels": "2"},
    {"round_to": "4"},
    {"epochs": "0"},
    {"epochs": "3"},
    {"cut_steps": "2"},
    {"cut_steps": "2", "cut_epochs": "2"},
    {"lr": "0.1"},
    {"batch_size": "32"},
    {"weight_decay": "0.001"},
    {"loss": "kd"},
    {"loss": "kd", "kd_weight": "0.9"},
    {"loss": "joint"},
    {"loss": "joint_kd"},
    {"balance": "sample"},
    {"precision": "auto"},
    {"augmentation": "none"},
    {"patience": "3"},
    {"patience": "3", "min_gain": "0.01"},
    {"target": "0.9"},
    {"target": "0.9", "patience": "3"},
    {"budget": "9epochs"},
    {"budget": "600s"},
)
# Up to here results depend on parameters and data alone.
PIPELINE = ("baseline", "activations", "group", "prune", "retrain")

# Names of artifacts that only people look at.
FOR_PEOPLE = {".png", ".html"}
LEFT_OUT = ("data", "locks")
STAGES = (
    "baseline",
    "activations",
    "group",
    "prune",
    "retrain",
    "evaluate",
    "register",
    "member",
    "tune",
    "trial",
    "cell",
)


def command(checkout: Path, stage: str, parameters: Mapping[str, str]) -> list[str]:
    """Return the command line of an entry point."""
    arguments = [part for name, value in parameters.items() for part in (f"--{name}", value)]
    return [sys.executable, str(checkout / "entrypoints" / f"{stage}.py"), *arguments]


def make(checkout: Path) -> None:
    """Run the entry points in this folder, the last one until it is killed."""
    Path("space.json").write_text(json.dumps(SPACE))
    for stage, parameters in RUNS.values():
        subprocess.run(command(checkout, stage, parameters), check=True)
    with subprocess.Popen(command(checkout, "retrain", KILLED), start_new_session=True) as process:
        while not [*Path(".sensai/checkpoints").glob(f"**/*{EPOCHS}.safetensors")]:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)


def tables(runs: Any, curves: Any, **wide: bool) -> dict[str, str]:
    """Return all run tables as CSV.

    Args:
        runs: the package of run tables, of the old code or of the new.
        curves: the module of learning curves.
        wide: `wide=True` for new code, whose tables are narrow by default.
    """
    stages = {stage: runs.stage_runs(stage, finished_only=False, **wide) for stage in STAGES}
    retrained = list(stages["retrain"]["run_id"])
    (registered,) = stages["register"]["run_id"]
    others = {
        "members": runs.members(retrained, **wide),
        "layers": runs.layers(registered),
        "sizes": runs.sizes(registered),
        "lineage": runs.lineage(registered),
        "compare": runs.compare(retrained),
        "studies": runs.studies(),
        "ensembles": runs.ensembles(**wide),
        "curves": curves.curves(retrained),
    }
    return {name: table.to_csv() for name, table in (stages | others).items()}


def old_images() -> np.ndarray:
    """Return the images uint8 (8, 8, 8, 1) that the registered version has answered."""
    return np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8)


def read(checkout: Path) -> dict[str, Any]:
    """Return what the code of the checkout reads from the store."""
    sys.path.insert(0, str(checkout))
    os.environ["SENSAI_CACHE"] = str(Path("cache").absolute())
    import mlflow

    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    runs, curves = importlib.import_module("analysis.runs"), importlib.import_module("analysis.curves")
    model = mlflow.pyfunc.load_model("models:/sensai-ensemble/1")
    return {
        "commit": git(checkout, "rev-parse", "HEAD"),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "folder": str(Path.cwd()),
        "tables": tables(runs, curves),
        "probabilities": model.predict(old_images()).to_numpy().tolist(),
        "fingerprints": old_fingerprints(),
    }


def variants(config: Any) -> list[Any]:
    """Return a stage's configurations of all variants."""
    return [
        config(**{name: value for name, value in (EVALUATED | each).items() if name in config.model_fields})
        for each in VARIANTS
    ]


def old_fingerprints() -> dict[str, list[str]]:
    """Return stage -> the fingerprints of all variants."""
    configs = importlib.import_module("sensai.stages.configs").CONFIGS
    stages = {name: importlib.import_module(f"sensai.stages.{name}").stage for name in PIPELINE}
    return {name: [stage.fingerprint(config) for config in variants(configs[name])] for name, stage in stages.items()}


def pack() -> None:
    """Write the archive of what the tests need."""
    for path in [*Path("mlruns").rglob("*")]:
        if path.suffix in FOR_PEOPLE:
            path.unlink()
    for name in LEFT_OUT:
        shutil.rmtree(Path(".sensai") / name)
    for database in ("mlflow.db", "optuna.db"):
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM")
    with tarfile.open("store.tar.xz", "w:xz", preset=9) as archive:
        for name in ("mlflow.db", "optuna.db", "mlruns", ".sensai"):
            archive.add(name)


def go_on(checkout: Path) -> list[dict[str, float]]:
    """Return the parameters of all trials after the study has gone on."""
    subprocess.run(command(checkout, "tune", CONTINUED), check=True)
    return [trial.params for trial in optuna.load_study(study_name="old", storage="sqlite:///optuna.db").trials]


def git(checkout: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(checkout), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def main() -> None:
    checkout = Path(sys.argv[1]).absolute()
    make(checkout)
    expected = read(checkout)
    pack()
    expected["trials"] = go_on(checkout)
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
