"""A user's data set: 8x8 grey images, three classes that differ in which third of the rows is bright.

Its name in sensAI is `tests/helpers/tiny_data.py:tiny`.
"""

import numpy as np

CLASSES = ["top", "middle", "bottom"]
_ROWS = {0: slice(0, 2), 1: slice(3, 5), 2: slice(6, 8)}


def _split(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    images = generator.integers(0, 60, (count, 8, 8), dtype=np.uint8)
    for position, label in enumerate(labels):
        images[position, _ROWS[int(label)]] += 150
    return images, labels


def tiny(data_dir: str) -> dict:
    """Return 96 images for training, 30 for test; the classes are separable."""
    return {"train": _split(96, 0), "test": _split(30, 1), "classes": CLASSES}


def mislabelled_test(data_dir: str) -> dict:
    """Return the same with 60 images for test, every second of them under the label of another class."""
    images, labels = _split(60, 1)
    return {"train": _split(96, 0), "test": (images, (labels + np.arange(60) % 2) % 3), "classes": CLASSES}


def without_test(data_dir: str) -> dict:
    """Return the same without a test split."""
    return {"train": _split(96, 0), "classes": CLASSES}


def one_of_each(data_dir: str) -> dict:
    """Return so few images for training that none can be spared for validation."""
    return {"train": _split(3, 0), "test": _split(30, 1), "classes": CLASSES}
