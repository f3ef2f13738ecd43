"""Compare members in 8-bit integers with the exact ones: the time that they save, and the accuracy that they cost."""

import numpy as np
import torch
from sklearn.metrics import accuracy_score

from sensai.data.dataset import Split
from sensai.ensemble.calibration import Calibration
from sensai.grouping.partitions import Group
from sensai.runtimes import Prepared, Runtime, in_turn, open_runtime, quantised

_RUNTIME = "onnx-sessions"
# The number of images that give the ranges of activations; the docs of ONNX Runtime take about a hundred.
_RANGE_IMAGES = 128
_REPEATS = 30


def metrics(
    prepared: Prepared, groups: list[Group], calibration: Calibration, val: Split, test: Split, batch_size: int
) -> dict[str, float]:
    """Return the metrics of the members in integers.

    These are `val_accuracy_int8` and `accuracy_int8`, with the calibration of the exact members; `latency_ensemble_int8_ms` of
    one image; and `speedup_int8`, the time of the exact members in the same runtime over that.
    """
    spread = np.linspace(0, len(val) - 1, min(_RANGE_IMAGES, len(val))).round().astype(np.int64)
    variant = quantised(prepared, _images(val, val.rows[spread]))
    image = _images(test, test.rows[:1])
    threads = torch.get_num_threads()
    with open_runtime(_RUNTIME, prepared, threads) as exact, open_runtime(_RUNTIME, variant, threads) as integers:
        seconds = in_turn({"exact": lambda: exact(image), "integers": lambda: integers(image)}, _REPEATS)
        accuracies = {
            f"{name}accuracy_int8": _accuracy(integers, groups, calibration, split, batch_size)
            for name, split in (("val_", val), ("", test))
        }
    milliseconds = {name: float(np.median(each) * 1e3) for name, each in seconds.items()}
    return {
        **accuracies,
        "latency_ensemble_int8_ms": milliseconds["integers"],
        "speedup_int8": milliseconds["exact"] / milliseconds["integers"],
    }


def _accuracy(runtime: Runtime, groups: list[Group], calibration: Calibration, split: Split, batch_size: int) -> float:
    parts = np.array_split(split.rows, -(-len(split) // batch_size))
    answers = [calibration(runtime(_images(split, rows)), groups).argmax(1) for rows in parts]
    return float(accuracy_score(split.labels, np.concatenate(answers)))


def _images(split: Split, rows: np.ndarray) -> np.ndarray:
    """Return the images of these rows: uint8 (N, H, W, C)."""
    return np.ascontiguousarray(split.images[rows].transpose(0, 2, 3, 1))
