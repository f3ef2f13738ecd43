"""Measure how soon an answer comes, beside `import mlflow`, and what a call in process takes beyond the members' sessions.

python benchmarks/start.py [--repeats 5] [--calls 3000] [--members 10] [--document docs/results/start.md]

The commands take turns, each in a process of its own, from files that are in memory already:

- `import mlflow`: `python -c "import mlflow"`.
- `MLflow's store`: this, and one request to the SQLite store, as every cached stage makes it.
- `cached <stage>`: a stage whose run is in that store; its data set is decoded.
- `predict, folder` and `predict, models:/`: one image file, from a folder with the files of a version, and from the registry.

`seconds` are those until the first line of the answer, or to the end without one; `processor_s` those of all cores of the whole
process; both are medians. `above_mlflow_s` is processor_s less that of `import mlflow`.

In process, a call of `LocalEnsemble` with one image is compared with the time that its busiest thread spends in the members'
sessions within the same call; `overhead_us` is the median of the difference.

With `--document` the tables are written into it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import mlflow
import numpy as np
import pandas as pd
from PIL import Image

from sensai.analysis.markdown import write_table
from sensai.evaluation import host
from sensai.registry.bundle_folders import manifest_digest
from sensai.registry.bundle_reader import ARTIFACT, BundleReader, LocalEnsemble, Run

_NAME = "start"
_STAGES = ("prune", "evaluate", "register")
_RECIPE = ["--base_epochs", "1", "--epochs", "1", "--yardsticks", "none", "--model_name", _NAME]
_WARM_UPS = 200
_QUANTILES = (10, 50, 90)
# The memory of a new process counts from that of its parent, so a small one starts it.
_MEASURED = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
process.stdout.readline()
seconds = time.perf_counter() - start
process.communicate()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
sys.exit(process.returncode)
"""


@dataclass(frozen=True)
class Started:
    """Hold the seconds and the memory that a process took.

    Attributes:
        seconds: until the first line that it printed, or until its end.
        processor_s: of all its threads.
        peak_mib: the most memory that it had.
    """

    seconds: float
    processor_s: float
    peak_mib: float


def main() -> None:
    """Print two tables for people, and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="processes of each kind")
    parser.add_argument("--calls", type=int, default=3000, help="calls in process")
    parser.add_argument("--members", type=int, default=10, help="number of members, of the ten classes of digits")
    parser.add_argument("--document", type=Path, help="document whose tables are replaced")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        commands = _prepared(place, arguments.members)
        starts = _starts(commands, place, arguments.repeats)
        calls = _calls(place / ARTIFACT, arguments.calls)
    for table in (starts, calls):
        print(table.to_string(index=False))
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    if arguments.document:
        write_table(arguments.document, "start", starts.astype(str))
        write_table(arguments.document, "calls", calls.astype(str))
    rows = {"starts": starts.to_dict("records"), "calls": calls.to_dict("records")}
    print(json.dumps({"benchmark": "start", "host": host(), "arguments": vars(arguments), **rows}, default=str))


def _prepared(place: Path, members: int) -> dict[str, list[str]]:
    """Make a store with a registered ensemble, the folder of its bundle and an image; return name -> command."""
    os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db", "PYTHONPATH": str(ROOT)}
    sensai = [sys.executable, "-m", "sensai"]
    recipe = [*_RECIPE, "--method", "kmeans", "--n_groups", str(members)] if members < 10 else _RECIPE
    subprocess.run([*sensai, "main", *recipe, "--quiet", "true"], cwd=place, check=True, stdout=subprocess.DEVNULL)
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    downloaded = Path(mlflow.artifacts.download_artifacts(f"models:/{_NAME}/1", dst_path=str(place / "version")))
    shutil.copytree(downloaded / "artifacts" / ARTIFACT, place / ARTIFACT)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(place / "image.png")
    request = "import mlflow; mlflow.MlflowClient().search_experiments()"
    commands = {
        "import mlflow": [sys.executable, "-c", "import mlflow"],
        "MLflow's store": [sys.executable, "-c", request],
    }
    commands |= {f"cached {stage}": [*sensai, stage, *_of_stage(recipe, stage)] for stage in _STAGES}
    uris = {"folder": str(place / ARTIFACT), "models:/": f"models:/{_NAME}/1"}
    return commands | {
        f"predict, {kind}": [*sensai, "predict", "--model_uri", uri, "--images", str(place / "image.png")]
        for kind, uri in uris.items()
    }


def _of_stage(recipe: list[str], stage: str) -> list[str]:
    """Return the parameters of `main` that a stage takes."""
    from sensai.config import CONFIGS

    pairs = zip(recipe[::2], recipe[1::2], strict=True)
    return [text for name, value in pairs if name[2:] in CONFIGS[stage].model_fields for text in (name, value)]


def _starts(commands: dict[str, list[str]], place: Path, repeats: int) -> pd.DataFrame:
    """Return a row a command; the first process of each warms up."""
    started: dict[str, list[Started]] = {name: [] for name in commands}
    for _ in range(1 + repeats):
        for name, command in commands.items():
            started[name].append(_start(command, place))
    medians = {
        name: {key: float(np.median([getattr(one, key) for one in each[1:]])) for key in Started.__annotations__}
        for name, each in started.items()
    }
    mlflow_s = medians["import mlflow"]["processor_s"]
    rows = [
        {
            "command": name,
            "seconds": round(each["seconds"], 2),
            "processor_s": round(each["processor_s"], 2),
            "above_mlflow_s": round(each["processor_s"] - mlflow_s, 2),
            "peak_mib": round(each["peak_mib"]),
        }
        for name, each in medians.items()
    ]
    return pd.DataFrame(rows)


def _start(command: list[str], place: Path) -> Started:
    done = subprocess.run(
        [sys.executable, "-S", "-c", _MEASURED, *command], cwd=place, capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.decode()}")
    return Started(*json.loads(done.stdout))


class _TimedBundle(BundleReader):
    """A bundle whose members note how long each thread spends in them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, manifest_digest(folder))
        self.spent: dict[int, int] = {}

    def open_member(self, number: int, threads: int = 1) -> Run:
        """Return a member that notes its nanoseconds."""
        run = super().open_member(number, threads)

        def timed(images: np.ndarray) -> np.ndarray:
            start = time.perf_counter_ns()
            outputs = run(images)
            thread = threading.get_ident()
            self.spent[thread] = self.spent.get(thread, 0) + time.perf_counter_ns() - start
            return outputs

        return timed


def _calls(folder: Path, calls: int) -> pd.DataFrame:
    bundle = _TimedBundle(folder)
    ensemble = LocalEnsemble(bundle)
    image = np.random.default_rng(0).integers(0, 256, (1, *bundle.image_shape), np.uint8)
    whole, sessions = [], []
    for _ in range(_WARM_UPS + calls):
        bundle.spent.clear()
        start = time.perf_counter_ns()
        ensemble(image)
        whole.append(time.perf_counter_ns() - start)
        sessions.append(max(bundle.spent.values()))
    times = np.array([whole, sessions])[:, _WARM_UPS:] / 1e3
    rows = {"call_us": times[0], "sessions_us": times[1], "overhead_us": times[0] - times[1]}
    return pd.DataFrame(
        [
            {
                "quantile": f"{quantile} %",
                **{name: round(float(np.percentile(each, quantile)), 1) for name, each in rows.items()},
            }
            for quantile in _QUANTILES
        ]
    )


if __name__ == "__main__":
    main()
