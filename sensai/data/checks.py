"""Checks of every data set of arrays: built in, of torchvision, or the user's. N images, K classes."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from sensai.data.dataset_names import SPLITS
from sensai.documents import is_text
from sensai.errors import InputError

_FEWEST = 2


def check_class_names(class_names: Sequence[str], where: str) -> None:
    """Raise an error for names that cannot tell classes apart or cannot be stored.

    Args:
        class_names: the K names.
        where: parameter and value that gave them, for the messages.

    Raises:
        InputError: fewer than two classes, or a name that is empty, given twice, or no text that can be stored.
    """
    if len(class_names) < _FEWEST:
        only = f", the one class is {class_names[0]!r}" if class_names else ""
        raise InputError(f"{where}: must have at least two classes{only}")
    for name in class_names:
        if not name or not is_text(name):
            raise InputError(
                f"{where}: a class is called {name!r}; a name must be text that UTF-8 can store, not empty"
            )
    if twice := sorted(name for name, count in Counter(class_names).items() if count > 1):
        raise InputError(f"{where}: two classes are called {twice[0]!r}")


def checked(result: object, where: str) -> tuple[tuple[str, ...], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return class names and splits from the result of a data set function.

    Args:
        result: a mapping: `train`, and optionally `val` and `test`, each a pair (images uint8 (N, H, W) or
            (N, H, W, C), integer labels (N,)); and, optionally, `classes`, the K names.
        where: parameter and value that named the function, for the messages.

    Returns:
        The names, and split -> (images uint8 (N, C, H, W), labels int64 (N,)).

    Raises:
        InputError: the result is not such a mapping, or a label is out of range.
    """
    if not isinstance(result, Mapping) or "train" not in result:
        raise InputError(f"{where}: the function must return a mapping with 'train'")
    pairs = {name: result[name] for name in SPLITS if result.get(name) is not None}
    if "train" not in pairs:
        raise InputError(f"{where}: the function must return a mapping with 'train', not None")
    splits = {name: _split(pair, name, where) for name, pair in pairs.items()}
    lowest = min(int(labels.min()) for _, labels in splits.values())
    highest = max(int(labels.max()) for _, labels in splits.values())
    count = sum(len(labels) for _, labels in splits.values())
    # A stray label, such as 255 or 10**10 for "unknown", would otherwise create as many classes.
    if "classes" not in result and highest >= count:
        raise InputError(
            f"{where}: labels run from {lowest} to {highest}, but there are {count} images; number the classes from 0, "
            "or give their names as 'classes'"
        )
    class_names = _names(result["classes"], where) if "classes" in result else tuple(map(str, range(highest + 1)))
    if lowest < 0 or highest >= len(class_names):
        raise InputError(f"{where}: labels run from {lowest} to {highest}, but there are {len(class_names)} classes")
    check_class_names(class_names, where)
    return class_names, {name: (images, labels.astype(np.int64)) for name, (images, labels) in splits.items()}


def _split(pair: Any, name: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 (N, C, H, W), and labels of any integer type (N,)."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError(f"{where}: {name} must be a pair (images, labels), not {type(pair).__name__}")
    try:
        images, labels = (np.asarray(part) for part in pair)
    # Ragged lists, tensors on a GPU and objects of other libraries fail with different errors.
    except Exception as error:
        raise InputError(f"{where}: {name} must be a pair of arrays (images, labels) ({error!r})") from error
    if (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or labels.ndim != 1
        or not np.issubdtype(labels.dtype, np.integer)
        or len(images) != len(labels)
        or not images.size
    ):
        raise InputError(
            f"{where}: {name} must be images uint8 (N, H, W) or (N, H, W, C) and as many integer "
            f"labels (N,), but got {images.dtype} {images.shape} and {labels.dtype} {labels.shape} labels"
        )
    return (images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)), labels


def _names(given: object, where: str) -> tuple[str, ...]:
    """Return class names, which may be given as numbers."""
    # Sets have no order, and the letters of one string are not names.
    listed = isinstance(given, Collection) and not isinstance(given, str | bytes | Mapping | set | frozenset)
    if not listed or (isinstance(given, np.ndarray) and given.ndim != 1):
        raise InputError(f"{where}: classes must be a list of names, not {_described(given)}")
    assert isinstance(given, Collection)
    for name in given:
        if not isinstance(name, str | int | np.integer) or isinstance(name, bool):
            raise InputError(f"{where}: classes must be a list of names, but one is {_described(name)}")
    return tuple(map(str, given))


def _described(value: object) -> str:
    return repr(value) if value is None or isinstance(value, int | float | str) else type(value).__name__
