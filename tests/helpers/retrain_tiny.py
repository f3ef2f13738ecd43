"""Retrain members of a tiny ensemble in workers, with averaged weights and mixed images, for tests that kill it.

python -m tests.helpers.retrain_tiny <folder> <loss> <jobs> [<address of a Ray cluster, or own>]
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from sensai.cluster.cores import deal
from sensai.cluster.ray_cluster import RayCluster, ray_cluster
from sensai.data.batches import Normalization
from sensai.data.dataset import load_dataset
from sensai.data.dataset_names import InputRule
from sensai.data.transforms import Mixing
from sensai.ensemble import Ensemble, save_ensemble
from sensai.ensemble.building import build_ensemble
from sensai.sites import find_sites
from sensai.training.members import Workers, retrain_members
from sensai.training.training_config import BatchConfig, ObjectiveConfig, OptimizerConfig, TrainingConfig
from tests.helpers.networks import images_for, make

# This is not imported from tests.conftest, because every worker would then import MLflow.
ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 20
GROUPS = [(0,), (1,), (2,)]


def retrain(folder: Path, loss: str, jobs: int, cluster: RayCluster | None = None) -> Ensemble:
    """Return the ensemble after all epochs; checkpoints lie in `folder`/checkpoints, the result in `folder`/result."""
    rule = InputRule(None, None)
    dataset = load_dataset(f"{ROOT}/tests/helpers/tiny_data.py:tiny", "", work_dir=folder, rule=rule, val_fraction=0.25)
    model, spec = make("small_cnn", num_classes=3)
    sites = find_sites(model, images_for(spec, 2))
    plan = {site.name: np.arange(site.channels // 2) for site in sites.sites}
    normalization = Normalization(dataset.mean, dataset.std)
    ensemble = build_ensemble(model, spec, sites, [(g, plan) for g in GROUPS], dataset.class_names, normalization)
    members = deal([1.0] * len(GROUPS), jobs)
    devices = [torch.device("cpu")] * len(members)
    workers = _on_ray(members, devices, cluster) if cluster else Workers(members, devices, 1)
    retrain_members(
        ensemble,
        dataset,
        TrainingConfig(
            OptimizerConfig(epochs=EPOCHS, lr=0.01, weight_decay=5e-4, metric="accuracy", weight_averaging="ema"),
            BatchConfig(8, "crop", 0, mixing=Mixing("cutmix", 1.0, len(dataset.class_names))),
            ObjectiveConfig(loss),
        ),
        workers,
        teacher=None,
        folder=folder / "checkpoints",
        on_epoch=lambda *_: None,
    )
    save_ensemble(ensemble, folder / "result")
    return ensemble


def _on_ray(members: list[list[int]], devices: list[torch.device], cluster: RayCluster) -> Workers:
    from sensai.training.backends.ray_tasks import run_on_ray

    return Workers(members, devices, 1, partial(run_on_ray, cluster), cluster.loopback)


def start(folder: Path, loss: str, jobs: int, *address: str) -> subprocess.Popen[str]:
    """Start `retrain` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.retrain_tiny", str(folder), loss, str(jobs), *address]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait while the process runs; it must not end before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def epochs_of(folder: Path) -> list[int]:
    """Return the number of epochs in the checkpoints of each member."""
    members = [(folder / "checkpoints" / f"member_{number:03d}").glob("*.safetensors") for number in range(len(GROUPS))]
    return [max((int(path.stem) for path in paths), default=0) for paths in members]


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of the result."""
    return {path.name: path.read_bytes() for path in sorted((folder / "result").iterdir())}


def main(folder: Path, loss: str, jobs: int, address: str = "") -> None:
    """Retrain on this machine, or on a cluster."""
    if not address:
        retrain(folder, loss, jobs)
        return
    with ray_cluster("" if address == "own" else address) as cluster:
        retrain(folder, loss, jobs, cluster)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
