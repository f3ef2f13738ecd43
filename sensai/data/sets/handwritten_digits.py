"""The small data set that scikit-learn brings."""

from typing import TYPE_CHECKING

from sensai.data.sets import DATASETS

if TYPE_CHECKING:
    from sensai.data.sources import Arrays, Source


@DATASETS.register("digits", "1,797 handwritten digits of 8 x 8 pixels, which need no download", mirrored=False)
def digits() -> "Source":
    """Return the handwritten digits of scikit-learn (8x8, grey); a fixed stratified fifth is the test split."""
    from sensai.data.sources import ArraySource

    return ArraySource("digits", _load)


def _load() -> "Arrays":
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from sensai.data.checks import checked
    from sensai.data.sources import Arrays

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    train, test = train_test_split(
        np.arange(len(images)), test_size=0.2, stratify=bunch.target, random_state=np.random.RandomState(0)
    )
    splits = {"train": (images[train], bunch.target[train]), "test": (images[test], bunch.target[test])}
    return Arrays(*checked({**splits, "classes": bunch.target_names}, "dataset='digits'"))
