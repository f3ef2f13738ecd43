"""Image folders: `<split>/<class>/`, files of any format that Pillow decodes."""

import hashlib
import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sensai.data.checks import check_class_names
from sensai.data.dataset_names import InputRule
from sensai.data.images.decoding import READER_VERSION, upright_size
from sensai.data.images.resizing import target_channels, target_size
from sensai.data.listing import entries, images_below, in_words
from sensai.data.sources import Arrays
from sensai.data.streaming import ImageFiles
from sensai.errors import InputError
from sensai.input_paths import searched

_log = logging.getLogger(__name__)
# Folder names of each split.
_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class FolderSource:
    """Images in `<split>/<class>/`, read as RGB, or as grey if the network takes one channel.

    Attributes:
        folder: the folder of the splits.
        class_names: the K labels.
        files: split -> (names relative to `folder`, labels int64 (N,)).
    """

    folder: Path
    class_names: tuple[str, ...]
    files: dict[str, tuple[list[str], np.ndarray]]

    @property
    def identity(self) -> str:
        """Return a digest of the reader's version and of every file's name, size and time of change."""
        listing = hashlib.sha256(os.fsencode(f"{READER_VERSION} {self.folder.resolve()}"))
        for split, (names, labels) in self.files.items():
            for name, label in zip(names, labels, strict=True):
                status = os.stat(f"{self.folder}/{name}")
                listing.update(os.fsencode(f"{split}\0{name}\0{label}\0{status.st_size}\0{status.st_mtime_ns}\0"))
        return listing.hexdigest()

    def read(self, requested_size: int | None, rule: InputRule) -> Arrays:
        """Return the files, to be fitted to the size and channels of the network while they are read."""
        channels = 1 if rule.channels == 1 else target_channels(rule, 3)
        size = target_size(requested_size, rule, None if requested_size or rule.image_size else self._common_size())
        return self.fitted_to((channels, *size))

    def fitted_to(self, image_shape: tuple[int, int, int]) -> Arrays:
        """Return the files, to be fitted to a shape (C, H, W) while they are read."""
        splits = {
            split: (ImageFiles(self.folder, names, image_shape), labels)
            for split, (names, labels) in self.files.items()
        }
        return Arrays(self.class_names, dict(splits))

    def digest(self, image_shape: tuple[int, int, int]) -> str:
        """Return the SHA-256 of the folder's list of files, without decoding them.

        It covers the reader's version, class names, image shape, and every file's relative name, label and size. A copy of
        the folder has the same digest. Changed content of the same name and size is not noticed.
        """
        content = hashlib.sha256("\0".join((str(READER_VERSION), *self.class_names, str(image_shape))).encode())
        for split in sorted(self.files):
            for name, label in zip(*self.files[split], strict=True):
                size = os.stat(f"{self.folder}/{name}").st_size
                content.update(os.fsencode(f"\0{split}\0{name}\0{label}\0{size}"))
        return content.hexdigest()

    def _common_size(self) -> tuple[int, int] | None:
        sizes = set()
        for names, _ in self.files.values():
            for name in names:
                sizes.add(upright_size(self.folder / name))
                if len(sizes) > 1:
                    return None
        return sizes.pop()


def image_folder(folder: Path) -> FolderSource:
    """Return the images below `folder`, laid out as `train/`, `val/`, `test/`, then one folder a class.

    `valid/` and `validation/` are read as `val/`. If only one of validation and test exists, it is the test split. One log
    line lists the omitted entries.

    Raises:
        InputError: no folder, no `train/`, two validation splits, a class of `train/` without images, fewer than two
            classes, splits with different classes, a special file, or a broken link.
    """
    if not folder.is_dir():
        raise InputError(
            f"data_dir={str(folder)!r}: there is no such folder{searched(folder)} (dataset=imagefolder needs one)"
        )
    omitted: Counter[str] = Counter()
    places = _split_folders(folder, omitted)
    labels = {name: label for label, name in enumerate(_class_folders(folder / places["train"], omitted))}
    if not labels:
        raise InputError(f"data_dir={str(folder)!r}: train/ holds no images in class folders")
    class_names = tuple(map(_class_name, labels))
    check_class_names(class_names, f"data_dir={str(folder)!r}")
    files = {split: _labelled(folder, place, labels, omitted) for split, place in places.items()}
    if omitted:
        _log.warning("data_dir=%r: %s", str(folder), in_words(omitted))
    if list(places) == ["train", "val"]:
        files["test"] = files.pop("val")
    return FolderSource(folder, class_names, {split: found for split, found in files.items() if found[0]})


def _split_folders(folder: Path, omitted: Counter[str]) -> dict[str, str]:
    """Return each split -> the name of its folder, in the order of `_FOLDERS`."""
    found = entries(str(folder))
    _refuse(found.problems, folder)
    omitted += found.omitted
    places = {split: [name for name in known if name in found.folders] for split, known in _FOLDERS.items()}
    if len(places["val"]) > 1:
        given = " and ".join(f"{name}/" for name in places["val"])
        raise InputError(f"data_dir={str(folder)!r}: {given} are both the validation split; leave one of them")
    if not places["train"]:
        raise InputError(f"data_dir={str(folder)!r}: has no folder train/ with one folder a class in it")
    for name in found.folders:
        if not any(name in names for names in places.values()):
            omitted[f"as the folder {name!r}, which is no split"] += 1
    if found.files:
        omitted["beside the splits"] += len(found.files)
    return {split: names[0] for split, names in places.items() if names}


def _class_folders(split: Path, omitted: Counter[str]) -> list[str]:
    """Return the names of the folders of a split's classes, in order."""
    found = entries(str(split))
    _refuse(found.problems, split)
    omitted += found.omitted
    if found.files:
        omitted[f"outside the class folders of {split.name}/"] += len(found.files)
    return found.folders


def _labelled(folder: Path, place: str, labels: dict[str, int], omitted: Counter[str]) -> tuple[list[str], np.ndarray]:
    """Return names relative to the folder, and labels int64 (N,), of the images of one split."""
    names: list[str] = []
    counts = np.zeros(len(labels), np.int64)
    # Entries of `train` were counted when the classes were listed.
    for entry in _class_folders(folder / place, Counter() if place == "train" else omitted):
        if entry not in labels:
            raise InputError(f"data_dir: class folder {str(folder / place / entry)!r} has no counterpart in train/")
        found = images_below(str(folder / place / entry))
        _refuse(found.problems, folder / place / entry)
        if place == "train" and not found.files:
            why = f" ({in_words(found.omitted)})" if found.omitted else ""
            raise InputError(f"data_dir: class folder {str(folder / place / entry)!r} holds no images{why}")
        omitted += found.omitted
        names += [f"{place}/{entry}/{name}" for name in found.files]
        counts[labels[entry]] = len(found.files)
    # Class folders and labels have the same order.
    return names, np.repeat(np.arange(len(labels)), counts)


def _refuse(problems: dict[str, str], folder: Path) -> None:
    """Raise an error for the first entry of a folder that is neither file nor folder, with the number of others."""
    if problems:
        (name, why), *more = problems.items()
        also = f"; and {len(more)} more such entries" if more else ""
        raise InputError(f"data_dir: {str(folder / name)!r} {why}{also}")


def _class_name(name: str) -> str:
    """Return the name of a class folder as text that can be stored; bytes that are not UTF-8 are written in hexadecimal."""
    return os.fsencode(name).decode(errors="backslashreplace")
