"""Train members to their end by both schedules at several lengths, for `analysis/stop_rules.py`.

python analysis/studies/stop_curves.py FOLDER [--seeds 18] [--epochs 12] [--shorter 6,9] [--decay_epochs 3] [--minutes 90]
    [parameters of `retrain` ...]

The longest trainings by the one-cycle schedule come first, one for each seed. Then each seed gets the shorter ones, and all
lengths by `warmup_stable_decay`. Every finished retraining leaves a Parquet file in FOLDER, and is not done again. After
`--minutes` no further retraining begins, and the status is 1; the next call goes on from there. The tracking store is the one
that MLflow is set to.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sensai.analysis.curves import curves
from sensai.analysis.stop_regret import COLUMNS, ONE_CYCLE, WITH_DECAY
from sensai.cli import parse
from sensai.config import RetrainConfig
from sensai.files import whole_file
from sensai.stages import retrain


class Cell(NamedTuple):
    """One retraining of the study.

    Attributes:
        seed: of plans, order and augmentation.
        schedule: of the learning rate.
        epochs: of each member.
    """

    seed: int
    schedule: str
    epochs: int

    @property
    def file(self) -> str:
        """Return the name of its Parquet file."""
        return f"{self.schedule}_{self.epochs:03d}_seed_{self.seed:03d}.parquet"


def cells(seeds: int, epochs: int, shorter: list[int]) -> Iterator[Cell]:
    """Yield all retrainings, the most important first."""
    for seed in range(seeds):
        yield Cell(seed, ONE_CYCLE, epochs)
    for seed in range(seeds):
        for length in shorter:
            yield Cell(seed, ONE_CYCLE, length)
        for length in (*shorter, epochs):
            yield Cell(seed, WITH_DECAY, length)


def train(cell: Cell, decay_epochs: int, parameters: list[str], folder: Path) -> None:
    """Retrain all members of one cell, and write their curves."""
    values: dict[str, Any] = {
        "seed": cell.seed,
        "schedule": cell.schedule,
        "epochs": cell.epochs,
        "decay_epochs": decay_epochs,
    }
    config = parse("retrain", [*parameters, *(f"--{name}={value}" for name, value in values.items())])
    assert isinstance(config, RetrainConfig)
    frame = curves([retrain.run(config)]).assign(**values)
    with whole_file(folder / cell.file) as temporary:
        frame[["run_id", "classes", *COLUMNS]].to_parquet(temporary, index=False)


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=18)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--shorter", type=lambda text: [int(part) for part in text.split(",")], default=[6, 9])
    parser.add_argument("--decay_epochs", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=90.0)
    given, parameters = parser.parse_known_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * given.minutes
    every = list(cells(given.seeds, given.epochs, given.shorter))
    missing = [cell for cell in every if not (given.folder / cell.file).exists()]
    while missing and time.monotonic() < end:
        train(missing.pop(0), given.decay_epochs, parameters, given.folder)
    if missing:
        sys.exit(f"{len(missing)} of {len(every)} retrainings are left")


if __name__ == "__main__":
    main()
