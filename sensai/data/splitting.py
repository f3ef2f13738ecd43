"""The validation split where the data have none of their own. N images, K classes."""

from collections.abc import Sequence

import numpy as np


def why_no_validation(labels: np.ndarray, class_names: Sequence[str], fraction: float) -> str:
    """Return why no stratified split can be taken off; empty where one can.

    Args:
        labels: int64 (N,), of the training images.
        class_names: the K names.
        fraction: of the images, to be taken off.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    present = int((counts > 0).sum())
    if len(alone := np.flatnonzero(counts == 1)):
        more = f" and {len(alone) - 1} more classes have" if len(alone) > 1 else " has"
        return f"class {class_names[alone[0]]!r}{more} one training image only"
    if (held_out := round(fraction * len(labels))) < present:
        return f"val_fraction={fraction:g} of {len(labels)} training images is {held_out}, fewer than the {present} classes"
    return ""


def split_off(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted positions, int64, of the images that stay, and of a stratified share of them."""
    from sklearn.model_selection import train_test_split

    kept, validation = train_test_split(
        np.arange(len(labels)), test_size=round(fraction * len(labels)), stratify=labels, random_state=seed
    )
    return np.sort(kept), np.sort(validation)
