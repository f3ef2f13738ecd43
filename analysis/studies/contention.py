"""Measure what trainings at once do to each other, bound by computation and by loading, and collect the results.

python analysis/studies/contention.py [--sample imagenet-sample.tar] [--folder FOLDER]

The images of the case bound by loading are JPEG files: those of the archive (train/<class>/<name>.jpg), or else generated ones.
Both are as large as most of ImageNet's. The study takes about 40 minutes on 2 cores that have nothing else to do. Started
again after a kill, it goes on with the repeats that are missing. `python -m analysis` then makes the figures and tables of the
documents.
"""

import argparse
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sensai.analysis.runs import table
from sensai.files import whole_folder
from sensai.tracking.artifact_names import CONTENTION

RESULTS = Path(__file__).resolve().parents[1] / "results/contention.csv"
REPEATS = 5
# Case -> parameters of `contention`.
CASES: dict[str, dict[str, object]] = {
    "contention_digits": {"trainings": "1,4,8"},
    "contention_loading": {
        # Members of a two-hundredth of AlexNet leave loading the larger part, as GPUs do.
        **{"dataset": "imagefolder", "image_size": 224, "arch": "torchvision:alexnet", "base_epochs": 0},
        **{"method": "random", "n_groups": 8, "scope": "all", "target_flops": 0.005},
        **{"trainings": "1,4,8", "tasks": "training", "contention_images": 256, "batch_size": 32, "jobs": 1},
    },
}
_CLASSES, _SHORTER_SIDE = 8, 375


def main() -> None:
    """Measure the cases that the store lacks, and collect all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=Path, help="archive of an image folder (default: images are generated)")
    parser.add_argument("--folder", type=Path, default=Path(".sensai/contention_study"), help="of the image files")
    arguments = parser.parse_args()
    make_images(arguments.folder, arguments.sample)
    for case, parameters in CASES.items():
        of_data = {"data_dir": arguments.folder} if "dataset" in parameters else {}
        run_id = run({**parameters, **of_data, "repeats": REPEATS})
        collect(case, run_id, table(run_id, CONTENTION), RESULTS)


def make_images(folder: Path, sample: Path | None) -> None:
    """Unpack the sample and scale its images, or generate some, unless the folder is there."""
    if folder.exists():
        return
    with whole_folder(folder) as temporary:
        if sample is None:
            generate(temporary)
        else:
            with tarfile.open(sample) as archive:
                archive.extractall(temporary, filter="data")
            for path in sorted(temporary.rglob("*.jpg")):
                scale(path)


def scale(path: Path) -> None:
    """Scale an image file so that its shorter side has as many pixels as with most of ImageNet's photographs."""
    with Image.open(path) as image:
        factor = _SHORTER_SIDE / min(image.size)
        size = (round(image.width * factor), round(image.height * factor))
        scaled = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    scaled.save(path, quality=95)


def generate(folder: Path, images_a_class: int = 64) -> None:
    """Write JPEG files that take about as long to decode as photographs of their size: smooth, with a little noise."""
    generator = np.random.default_rng(0)
    for label in range(_CLASSES):
        place = folder / "train" / f"class_{label}"
        place.mkdir(parents=True)
        for number in range(images_a_class):
            coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), np.uint8))
            smooth = np.asarray(
                coarse.resize((_SHORTER_SIDE * 4 // 3, _SHORTER_SIDE), Image.Resampling.BICUBIC), np.float64
            )
            noisy = np.clip(smooth + generator.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(place / f"{number}.jpg", quality=85)


def run(parameters: dict[str, object]) -> str:
    """Run `contention`, or take its finished run from the store; return the id of the run."""
    options = [text for name, value in parameters.items() for text in (f"--{name}", str(value))]
    # Its progress is shown on standard error.
    done = subprocess.run(  # noqa: S603  (our own command)
        [sys.executable, "-m", "sensai", "contention", *options], stdout=subprocess.PIPE, text=True, check=True
    )
    found = re.findall(r"contention run: (\w+)", done.stdout)
    return str(found[-1])


def collect(case: str, run_id: str, measured: pd.DataFrame, results: Path) -> None:
    """Put the table of a run into the collected results, in place of an earlier run of the same case."""
    collected = pd.read_csv(results)
    own = measured.assign(case=case, run_id=run_id)[["case", "run_id", *measured.columns]]
    pd.concat([collected[collected["case"] != case], own], ignore_index=True).to_csv(results, index=False)


if __name__ == "__main__":
    main()
