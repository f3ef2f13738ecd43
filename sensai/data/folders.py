"""Image folders: `<split>/<class>/`, files of any format that Pillow decodes."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sensai.data.fitting import target_channels, target_size
from sensai.data.names import InputRule
from sensai.data.sources import SPLITS, Arrays
from sensai.data.streaming import ImageFiles, image_suffixes, opened
from sensai.errors import InputError


@dataclass(frozen=True)
class FolderSource:
    """Images in `<split>/<class>/`, taken as RGB.

    Attributes:
        folder: what holds the splits.
        class_names: the K labels.
        files: split -> (names relative to `folder`, labels int64 (N,)).
    """

    folder: Path
    class_names: tuple[str, ...]
    files: dict[str, tuple[list[str], np.ndarray]]

    @property
    def identity(self) -> str:
        """Digest of every file's name, size and time of change."""
        listing = hashlib.sha256(str(self.folder.resolve()).encode())
        for split, (names, labels) in self.files.items():
            for name, label in zip(names, labels, strict=True):
                status = os.stat(f"{self.folder}/{name}")
                listing.update(f"{split} {name} {label} {status.st_size} {status.st_mtime_ns}".encode())
        return listing.hexdigest()

    def read(self, requested_size: int | None, rule: InputRule) -> Arrays:
        """The files, to be fitted to the size and channels that the network takes as they are read."""
        channels = target_channels(rule, 3)
        size = target_size(requested_size, rule, None if requested_size or rule.image_size else self._common_size())
        return self.fitted_to((channels, *size))

    def fitted_to(self, image_shape: tuple[int, int, int]) -> Arrays:
        """The files, to be brought to a shape (C, H, W) as they are read."""
        splits = {
            split: (ImageFiles(self.folder, names, image_shape), labels)
            for split, (names, labels) in self.files.items()
        }
        return Arrays(self.class_names, dict(splits))

    def digest(self, image_shape: tuple[int, int, int]) -> str:
        """SHA-256 of class names, image shape, and every file's relative name, label and size: nothing is decoded.

        A copy of the folder has the same digest; another content of the same name and size goes unnoticed.
        """
        content = hashlib.sha256("\0".join((*self.class_names, str(image_shape))).encode())
        for split in sorted(self.files):
            for name, label in zip(*self.files[split], strict=True):
                size = os.stat(f"{self.folder}/{name}").st_size
                content.update(f"\0{split}\0{name}\0{label}\0{size}".encode())
        return content.hexdigest()

    def _common_size(self) -> tuple[int, int] | None:
        sizes = set()
        for names, _ in self.files.values():
            for name in names:
                with opened(self.folder / name) as image:
                    sizes.add((image.height, image.width))
                if len(sizes) > 1:
                    return None
        return sizes.pop()


def image_folder(folder: Path) -> FolderSource:
    """The images below `folder`, laid out as `train/`, `val/`, `test/`, then one folder a class.

    With only one of `val/` and `test/` that one is the test split.

    Raises:
        InputError: no folder, no `train/`, no images, or splits with different classes.
    """
    if not folder.is_dir():
        raise InputError(f"data_dir={str(folder)!r}: there is no such folder (dataset=imagefolder needs one)")
    present = [split for split in SPLITS if (folder / split).is_dir()]
    if "train" not in present:
        raise InputError(f"data_dir={str(folder)!r}: has no folder train/ with one folder a class in it")
    class_names = tuple(sorted(entry.name for entry in _class_folders(folder / "train")))
    files = {split: _listed(folder, split, class_names) for split in present}
    if not files["train"][0]:
        raise InputError(f"data_dir={str(folder)!r}: train/ holds no images in class folders")
    if present == ["train", "val"]:
        files["test"] = files.pop("val")
    return FolderSource(folder, class_names, {split: found for split, found in files.items() if found[0]})


def _listed(folder: Path, split: str, class_names: tuple[str, ...]) -> tuple[list[str], np.ndarray]:
    labels = {name: label for label, name in enumerate(class_names)}
    names: list[str] = []
    counts = np.zeros(len(class_names), np.int64)
    for entry in _class_folders(folder / split):
        if entry.name not in labels:
            raise InputError(f"data_dir: class folder {str(entry)!r} has no counterpart in train/")
        found = _images_below(entry)
        names += [f"{split}/{entry.name}/{name}" for name in found]
        counts[labels[entry.name]] = len(found)
    # Class folders and class names are in the same order.
    return names, np.repeat(np.arange(len(class_names)), counts)


def _images_below(folder: Path) -> list[str]:
    """Names relative to the folder, in the order of their parts."""
    readable = image_suffixes()
    found = []
    for path, _, names in os.walk(folder):
        below = os.path.relpath(path, folder)
        images = [name for name in names if os.path.splitext(name)[1].lower() in readable]
        found += images if below == "." else [f"{below}/{name}" for name in images]
    return sorted(found, key=lambda name: name.split("/"))


def _class_folders(split: Path) -> list[Path]:
    return sorted(entry for entry in split.iterdir() if entry.is_dir() and not entry.name.startswith("."))
