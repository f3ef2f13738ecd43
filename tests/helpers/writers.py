"""A script that makes every writer of files write more than a small disk holds, and prints the messages and leftovers.

Called as `python -m tests.helpers.writers DISK`, it prints a line of JSON for each writer: name, class of the error,
message, leftover files.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sensai.activations.statistics import SiteStatistics, save_statistics
from sensai.data.dataset import Split, load_dataset
from sensai.data.dataset_names import InputRule
from sensai.ensemble import save_ensemble
from sensai.ensemble.calibration import RAW
from sensai.files import make_folder, temporary_folder, whole_file, whole_folder, write_array, write_text, writing
from sensai.models.storage import save_network
from sensai.registry.bundle import export_bundle
from sensai.registry.image_format import ImageFormat
from sensai.stages.contention.job import Job, save_job
from sensai.training.checkpoints import Checkpoints, TrainingHistory
from tests.helpers.ensembles import ensemble_of, images

# This is more than the disk has.
_BYTES = 2**18
_ENSEMBLE = ensemble_of([(0, 1, 2, 3)])
_NETWORK = _ENSEMBLE.members[0].network
_SPLIT = Split(images(4000).transpose(0, 3, 1, 2), np.zeros(4000, np.int64), np.arange(4000))


def _unfinished(folder: Path) -> None:
    with whole_folder(folder / "set") as target:
        (target / "a").write_bytes(bytes(_BYTES))


def _temporary(folder: Path) -> None:
    tempfile.tempdir = str(folder)
    try:
        with temporary_folder() as target:
            (target / "a").write_bytes(bytes(_BYTES))
    finally:
        tempfile.tempdir = None


def _table(folder: Path) -> None:
    frame = pd.DataFrame({"a": np.random.default_rng(0).random(_BYTES // 8)})
    with writing(folder), whole_file(folder / "table.parquet") as target:
        frame.to_parquet(target)


_STATISTICS = {"site": SiteStatistics(*(np.zeros((2, _BYTES // 16)) for _ in range(3)))}
_JOB = Job((1, 9, 8), 4, 4, 1, "none", "cpu")
WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda folder: write_text(folder / "a.txt", "x" * _BYTES),
    "array": lambda folder: write_array(folder / "a.npy", (_BYTES,), np.uint8, [np.zeros(_BYTES, np.uint8)]),
    "folder": _unfinished,
    "temporary folder": _temporary,
    "table": _table,
    "network": lambda folder: save_network(_NETWORK, _ENSEMBLE.spec, folder),
    "ensemble": lambda folder: save_ensemble(_ENSEMBLE, folder),
    "bundle": lambda folder: export_bundle(_ENSEMBLE, RAW, ImageFormat(), folder),
    "statistics": lambda folder: save_statistics(_STATISTICS, folder / "a.safetensors"),
    "checkpoint": lambda folder: Checkpoints(folder).write({"a": torch.zeros(_BYTES)}, TrainingHistory(), {}),
    "data set": lambda folder: load_dataset("digits", "", work_dir=folder, rule=InputRule(None, None)),
    "contention": lambda folder: save_job(_JOB, folder, _SPLIT, _NETWORK, _ENSEMBLE, 1),
}


def main(disk: Path) -> None:
    """Run all writers, each in a folder of its own if one can be made."""
    warnings.simplefilter("ignore")
    for name, write in WRITERS.items():
        folder = disk / name
        try:
            write(make_folder(folder, "work_dir") if not (disk / "read-only").exists() else disk)
            said = ("", "")
        except Exception as error:
            said = (type(error).__name__, str(error))
        left = [str(path.relative_to(disk)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
        sys.stdout.write(json.dumps([name, *said, left]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
