"""Measure the time to read run tables: `sensai.analysis.runs` against MLflow's own pages of the same runs.

python benchmarks/analysis.py [--runs 1000] [--members 10] [--pairs 3] [--more 10]

A SQLite store with so many retrainings and their members is written to a temporary folder. Each pair of measurements reads
the pages and then the tables. Figures are medians of the pairs, in seconds; those with `cpu` are in processor time.

- `pages`: MLflow alone, page by page.
- `tables`: the tables with `fresh=True`, which reads every run and fills the cache.
- `ratio`: tables / pages.
- `second`: the tables from the cache, with nothing new in the store.
- `second_with_new`: the same after `--more` retrainings have finished; `new_missing` rows are not in the tables (0 is right).
- `cache_mib`: the size of the cache.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mlflow
import numpy as np
from mlflow.store.tracking.dbmodels import models
from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine, insert

from sensai.analysis import runs
from sensai.config import CONFIGS
from sensai.evaluation import host
from sensai.tracking import tags

_START = 1_700_000_000_000
_RUN_MS = 60_000
_CURVE = ("train_loss", "loss", "accuracy", "balanced_accuracy", "roc_auc")
_MEMBER = (
    *("binary_accuracy", "balanced_accuracy", "roc_auc", "average_precision"),
    *("params", "flops", "epochs_run", "seconds"),
)


def main() -> None:
    """Print a table for people and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--members", type=int, default=10, help="members of each retraining")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--more", type=int, default=10, help="retrainings that finish before the last reading")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SENSAI_CACHE"] = f"{folder}/cache"
        uri = f"sqlite:///{folder}/mlflow.db"
        mlflow.set_tracking_uri(uri)
        MlflowClient().search_experiments()
        _write_runs(uri, range(arguments.runs), arguments.members)
        figures = _measure(arguments.pairs)
        _write_runs(uri, range(arguments.runs, arguments.runs + arguments.more), arguments.members)
        figures["second_with_new_s"], figures["second_with_new_cpu_s"] = _seconds(_read_tables)
        figures["new_missing"] = (arguments.runs + arguments.more) * (1 + arguments.members) - _read_tables()
        figures["cache_mib"] = sum(file.stat().st_size for file in Path(folder, "cache").rglob("*.parquet")) / 2**20
    for name, value in figures.items():
        print(f"{name:22} {value:10.3f}")
    print(json.dumps({"benchmark": "analysis", "host": host(), **vars(arguments), **figures}))


def _measure(pairs: int) -> dict[str, float]:
    """Return the medians over the pairs: pages, tables, their ratio, and tables from the cache.

    All are measured by the wall clock and in the processor time of this process. The latter is more reliable on a busy machine.
    """
    _read_pages()
    times = [
        (_seconds(_read_pages), _seconds(lambda: _read_tables(fresh=True)), _seconds(_read_tables))
        for _ in range(pairs)
    ]
    figures = {}
    for clock, unit in enumerate(("s", "cpu_s")):
        pages, tables, second = zip(*(tuple(each[clock] for each in row) for row in times), strict=True)
        figures |= {
            f"pages_{unit}": statistics.median(pages),
            f"tables_{unit}": statistics.median(tables),
            f"ratio_{unit}": statistics.median(own / bare for own, bare in zip(tables, pages, strict=True)),
            f"second_{unit}": statistics.median(second),
        }
    return figures


def _read_tables(*, fresh: bool = False) -> int:
    return len(runs.stage_runs("retrain", fresh=fresh, wide=True)) + len(runs.members(fresh=fresh, wide=True))


def _read_pages() -> int:
    """Read the same runs with MLflow alone, and return their number."""
    client, read = MlflowClient(), 0
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for stage in ("retrain", "member"):
        filter_string, token = f"tags.`{tags.STAGE}` = '{stage}' and attributes.status = 'FINISHED'", ""
        while token is not None:
            page = client.search_runs(experiments, filter_string, max_results=1000, page_token=token or None)
            read, token = read + len(page), page.token or None
    return read


def _seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that a call takes, by the wall clock and in processor time."""
    start, start_cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - start_cpu


def _write_runs(uri: str, numbers: range, members: int) -> None:
    """Write retrainings and their members as the stages log them.

    The rows go directly into the tables of MLflow's store, because MLflow's client takes 30 ms a run.
    """
    rows: dict[type, list[dict[str, object]]] = {
        each: [] for each in (models.SqlRun, models.SqlTag, models.SqlParam, models.SqlLatestMetric)
    }
    for number in numbers:
        _add_retraining(rows, number, members)
    engine = create_engine(uri)
    with engine.begin() as connection:
        for table, values in rows.items():
            connection.execute(insert(table), values)
    engine.dispose()


def _add_retraining(rows: dict[type, list[dict[str, object]]], number: int, members: int) -> None:
    generator = np.random.default_rng(number)
    start = _START + number * _RUN_MS
    config = CONFIGS["retrain"]().model_dump() | {"ratio": round(generator.random(), 3), "epochs": number % 50}
    upstream = {tags.UPSTREAM + stage: uuid.uuid4().hex for stage in ("baseline", "activations", "group", "prune")}
    shared = {
        **upstream,
        tags.CONFIG: json.dumps(config, default=str),
        tags.DATASET: "cifar10",
        tags.ARCH: "resnet20",
        tags.DATA_DIGEST: uuid.uuid4().hex,
        tags.PROCESS: json.dumps({"host": "a-host", "pid": number, "started": start / 1000}),
    }
    metrics = dict(zip(("val_accuracy", "epochs_saved", "images_per_s", "seconds"), generator.random(4), strict=True))
    stage_tags = {**shared, tags.STAGE: "retrain", tags.FINGERPRINT: uuid.uuid4().hex}
    retraining = _add_run(rows, f"retrain {number}", start, stage_tags, metrics)
    rows[models.SqlParam] += [{"run_uuid": retraining, "key": key, "value": str(v)} for key, v in config.items()]
    for member in range(members):
        member_tags = {
            **shared,
            tags.STAGE: "member",
            tags.UPSTREAM + "retrain": retraining,
            tags.MEMBER: str(member),
            tags.CLASSES: json.dumps([f"class {member}"]),
            tags.SPLIT: "val",
            tags.STOPPED_BY: "epochs",
            "mlflow.parentRunId": retraining,
        }
        names = (*_MEMBER, *(f"curve/{name}" for name in _CURVE))
        values = dict(zip(names, generator.random(len(names)), strict=True))
        _add_run(rows, f"member class {member} (val)", start + 1000 * (member + 1), member_tags, values)


def _add_run(
    rows: dict[type, list[dict[str, object]]],
    name: str,
    start: int,
    run_tags: dict[str, str],
    metrics: dict[str, float],
) -> str:
    run_id = uuid.uuid4().hex
    about = {"mlflow.runName": name, "mlflow.user": "a-user", "mlflow.source.name": "entrypoints/main.py"}
    rows[models.SqlRun].append(
        {
            "run_uuid": run_id,
            "name": name,
            "source_type": "UNKNOWN",
            "user_id": "a-user",
            "status": "FINISHED",
            "start_time": start,
            "end_time": start + _RUN_MS,
            "lifecycle_stage": "active",
            "artifact_uri": f"mlflow-artifacts:/0/{run_id}/artifacts",
            "experiment_id": 0,
        }
    )
    both = {**about, **run_tags}
    rows[models.SqlTag] += [{"run_uuid": run_id, "key": key, "value": value} for key, value in both.items()]
    rows[models.SqlLatestMetric] += [
        {"run_uuid": run_id, "key": key, "value": float(value), "timestamp": start, "step": 0, "is_nan": False}
        for key, value in metrics.items()
    ]
    return run_id


if __name__ == "__main__":
    main()
