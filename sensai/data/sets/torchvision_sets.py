"""Data sets that torchvision downloads."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sensai.data.sets import DATASETS

if TYPE_CHECKING:
    from sensai.data.sources import Arrays, Source


class _Form(NamedTuple):
    """One class of `torchvision.datasets`.

    Attributes:
        class_name: its name.
        files: what must lie in the folder where nothing can be downloaded.
        splits: split -> the arguments that choose it.
    """

    class_name: str
    files: str
    splits: Mapping[str, Mapping[str, Any]] = {"train": {"train": True}, "test": {"train": False}}


_IDX_FILES = "{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"


def _source(name: str, form: _Form, download_dir: Path) -> "Source":
    from sensai.data.sources import ArraySource

    return ArraySource(f"{name} {download_dir.resolve()}", partial(_load, name, form, download_dir))


def _load(name: str, form: _Form, folder: Path) -> "Arrays":
    import urllib.error

    import numpy as np
    import torchvision

    from sensai.data.checks import checked
    from sensai.data.sources import Arrays
    from sensai.errors import InputError

    make = getattr(torchvision.datasets, form.class_name)
    result: dict[str, Any] = {}
    for split, arguments in form.splits.items():
        try:
            data = make(root=folder, download=True, **arguments)
        except (RuntimeError, OSError, urllib.error.URLError) as error:
            raise InputError(
                f"dataset={name!r}: not found under data_dir={str(folder)!r} and it cannot be downloaded; "
                f"put {form.files} there ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
            ) from error
        # The files may hold anything, since torchvision does not check those that lie there already.
        except Exception as error:
            raise InputError(
                f"dataset={name!r}: the files under data_dir={str(folder)!r} are broken ({error!r})"
            ) from error
        images = np.asarray(data.data)
        if images.ndim == 4 and images.shape[-1] != 3:
            images = images.transpose(0, 2, 3, 1)
        result[split] = (images, np.asarray(data.labels if hasattr(data, "labels") else data.targets))
        if hasattr(data, "classes"):
            result["classes"] = data.classes
    return Arrays(*checked(result, f"dataset={name!r}: data_dir={str(folder)!r}"))


def _register(name: str, help: str, form: _Form, *, mirrored: bool) -> None:
    # A partial function has the parameters that are still to be given: `download_dir`.
    DATASETS.register(name, help, mirrored=mirrored)(partial(_source, name, form))


_register("mnist", "handwritten digits, 28 x 28", _Form("MNIST", f"MNIST/raw/{_IDX_FILES}"), mirrored=False)
_register(
    "fashion_mnist",
    "pieces of clothing, 28 x 28",
    _Form("FashionMNIST", f"FashionMNIST/raw/{_IDX_FILES}"),
    mirrored=True,
)
_register("cifar10", "10 classes of things, 32 x 32", _Form("CIFAR10", "cifar-10-python.tar.gz"), mirrored=True)
_register("cifar100", "100 classes of things, 32 x 32", _Form("CIFAR100", "cifar-100-python.tar.gz"), mirrored=True)
_register(
    "svhn",
    "house numbers, 32 x 32",
    _Form("SVHN", "train_32x32.mat and test_32x32.mat", {"train": {"split": "train"}, "test": {"split": "test"}}),
    mirrored=False,
)
