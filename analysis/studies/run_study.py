"""Train and evaluate the cells of a study, each into a file of its own.

python analysis/studies/run_study.py analysis/studies/decomposition_resnet20.yaml --data_dir part --checkpoint FILE

A study lists its rows in order of value: each is a way to build and train networks. All rows are run with the first seed, then
with the second. A finished cell has a file in analysis/results/<study>, so a study that was stopped goes on, on any machine
with the repository. Runs go to MLflow's current store. `--minutes` ends the study before a cell that would begin later.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow.entities import Run

from sensai.analysis.cell_shards import has_shard, write_shard
from sensai.config import EvaluateConfig
from sensai.pipeline.session import Session
from sensai.stages import evaluate
from sensai.terminal import say
from sensai.tracking import Store, tags
from sensai.tracking.artifact_names import ANSWERS
from sensai.tracking.code_version import code_commit

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "analysis/results"
# Parameters that change no result.
_OF_THIS_MACHINE = ("data_dir", "checkpoint", "work_dir", "jobs", "threads")
_METRICS = ("flops_base", "flops_max", "flops_total", "params_max", "params_total", "base_accuracy")
_VALIDATED = ("val_accuracy", "seconds", "epochs_saved")


def main() -> None:
    """Run the cells that have no file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="YAML file: seeds, parameters of all rows, rows")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell later (default: no limit)")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--checkpoint", default="")
    parser.add_argument("--work_dir", default=".sensai")
    parser.add_argument("--jobs", default="", help="workers of a training; with --threads 1, one a core")
    parser.add_argument(
        "--threads", default="", help="threads of each worker; 1 beside other work, where threads wait for each other"
    )
    parser.add_argument(
        "--results", type=Path, default=ROOT / RESULTS, help=f"folder of all studies (default: {RESULTS})"
    )
    given = parser.parse_args()
    study = yaml.safe_load(given.study.read_text())
    shared = {**study["parameters"], **{name: getattr(given, name) for name in _OF_THIS_MACHINE}}
    folder, start = given.results / given.study.stem, time.monotonic()
    for cell, config in cells(study, shared):
        if has_shard(folder, cell):
            continue
        if (time.monotonic() - start) / 60 > given.minutes:
            break
        began = time.monotonic()
        measured, answers = finished(config, given.study.stem, cell)
        write_shard(
            folder, cell, measured, answers["label"].to_numpy(), {str(config.combine): answers["ensemble"].to_numpy()}
        )
        right = (answers["label"] == answers["ensemble"]).mean()
        say(f"{cell['row']}, seed {cell['seed']}: {right:.4f} in {time.monotonic() - began:.0f} s")


def cells(study: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], EvaluateConfig]]:
    """Yield each cell and the configuration of its evaluation, seed by seed."""
    for seed in study["seeds"]:
        for row in study["rows"]:
            # A yardstick that is needed for the first seeds alone ends early.
            if seed in row.get("seeds", study["seeds"]):
                cell = {"row": row["row"], "role": row["role"], "seed": seed}
                yield cell, EvaluateConfig(**{**shared, **row["parameters"], "seed": seed})


def finished(config: EvaluateConfig, study: str, cell: Mapping[str, Any]) -> tuple[dict[str, Any], pd.DataFrame]:
    """Run a cell's stages; return what is worth a column, and label and answer of each test image."""
    run_id = evaluate.run(config)
    session = Session(Store.connect())
    store = session.store
    run = store.client.get_run(run_id)
    retrained = store.client.get_run(run.data.tags[f"{tags.UPSTREAM}retrain"])
    with store.downloaded(run_id, ANSWERS) as file:
        answers = pd.read_csv(file)
    measured = {
        "study": study,
        "members": int(store.metrics_of(run.data.tags[f"{tags.UPSTREAM}prune"])["members"]),
        "epochs": config.epochs,
        "loss": config.loss,
        "train_images": len(session.dataset(config).train),
        "scope": config.scope,
        "precision": retrained.data.tags.get(tags.PRECISION, config.precision),
        "device": "cpu" if config.device == "auto" else config.device,
        "commit": code_commit(),
        "run_id": run_id,
        **_of(run, _METRICS),
        **_of(retrained, _VALIDATED),
    }
    return measured, answers


def _of(run: Run, names: tuple[str, ...]) -> dict[str, float]:
    return {name: run.data.metrics[name] for name in names if name in run.data.metrics}


if __name__ == "__main__":
    main()
