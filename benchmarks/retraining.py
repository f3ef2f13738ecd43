"""Measure four ways to retrain many members: in turn, as processes at once (naive, or with pinned threads), and by the engine.

python benchmarks/retraining.py [--arch resnet20] [--members 1 4 10] [--images 1024] [--batch 64] [--workers 2]

Binary members have random weights and half of their channels. They train on random 32x32 images with crops and mirroring. The
entry point `contention` measures the same four ways. Figures are members x images a second.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from sensai.data.batches import Normalization
from sensai.data.dataset import Split
from sensai.ensemble.building import build_ensemble
from sensai.evaluation import host
from sensai.models.factory import NetworkSpec, build
from sensai.models.layout import with_memory_format
from sensai.sites import find_sites
from sensai.stages.contention.job import Job, save_job
from sensai.stages.contention.measuring import WAYS, measure

_CLASSES = 10


def main() -> None:
    """Print a table for people and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--members", type=int, nargs="*", default=[1, 4, 10])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _save(arguments, Path(folder))
        table = measure(Path(folder), ["training"], arguments.members)
    print(f"{arguments.arch}: members x images a second")
    speeds = table.pivot(index="n", columns="way", values="images_per_s")[list(WAYS)]
    ratios = {f"engine / {way}": speeds["engine"] / speeds[way] for way in WAYS[:-1]}
    print(speeds.round().assign(**{name: ratio.round(2) for name, ratio in ratios.items()}).to_string())
    rows = table.to_dict("records")
    print(json.dumps({"benchmark": "retraining", "arch": arguments.arch, "host": host(), "rows": rows}))


def _save(arguments: argparse.Namespace, folder: Path) -> None:
    spec = NetworkSpec(arguments.arch, _CLASSES, 3, (32, 32))
    torch.manual_seed(0)
    model = build(spec)
    spec = with_memory_format(model, spec)
    sites = find_sites(model, torch.zeros(1, *spec.input_shape)).within("inner")
    plan = {site.name: np.arange(site.channels // 2) for site in sites.sites}
    names = tuple(str(label) for label in range(_CLASSES))
    plans = [((label,), plan) for label in range(_CLASSES)]
    ensemble = build_ensemble(model, spec, sites, plans, names, Normalization((0.5,) * 3, (0.25,) * 3))
    images = np.random.default_rng(0).integers(0, 256, (arguments.images, 3, 32, 32), np.uint8)
    split = Split(images, np.arange(arguments.images) % _CLASSES, np.arange(arguments.images))
    job = Job(spec.input_shape, arguments.batch, 256, arguments.workers, "crop_flip", "cpu")
    save_job(job, folder, split, model, ensemble, max(arguments.members))


if __name__ == "__main__":
    main()
