"""Data sets of many classes: 8x8 grey images, each class a pattern of its own with some noise.

Their name in sensAI is `tests/helpers/many_classes.py:classes_300`.
"""

import numpy as np

# The names are as long as ImageNet's, so that a thousand of them do not fit into a tag.
_NAME = "n{:08d} a class with a name of some length"


def _data(classes: int) -> dict:
    patterns = np.random.default_rng(0).integers(0, 200, (classes, 8, 8), dtype=np.uint8)

    def split(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(classes), images)
        noise = np.random.default_rng(seed).integers(0, 50, (len(labels), 8, 8), dtype=np.uint8)
        return patterns[labels] + noise, labels

    names = [_NAME.format(number) for number in range(classes)]
    return {"train": split(4, 1), "test": split(1, 2), "classes": names}


def classes_300(data_dir: str) -> dict:
    """Return 4 images of each class for training, 1 for test."""
    return _data(300)


def classes_1000(data_dir: str) -> dict:
    """Return 4 images of each class for training, 1 for test."""
    return _data(1000)
