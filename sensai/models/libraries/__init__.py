"""Networks of other packages, named `<package>:<name>` and built without weights, so that nothing is downloaded.

Each module has `names`, `input_rule`, `auxiliary_heads` and `build`. A package is imported when one of its networks is asked
for, since that takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from sensai.data.dataset_names import InputRule
from sensai.models.libraries.library_names import TIMM, TORCHVISION

if TYPE_CHECKING:
    from torch import nn

_MODULES = {TORCHVISION: "torchvision_networks", TIMM: "timm_networks"}


class Library(Protocol):
    """The networks of one package."""

    def names(self) -> list[str]:
        """Return all names."""

    def input_rule(self, name: str) -> InputRule:
        """Return what a network asks of its input; raise an InputError for an unknown one."""

    def auxiliary_heads(self, name: str) -> tuple[str, ...]:
        """Return the first parts of keys of checkpoints that belong to heads that only training uses."""

    def build(
        self, name: str, num_classes: int, input_shape: tuple[int, int, int], arguments: dict[str, Any]
    ) -> "nn.Module":
        """Return a freshly initialised network for images (C, H, W); raise an InputError if that cannot be."""


class Found(NamedTuple):
    """A package, and the name of a network in it."""

    library: Library
    name: str


def is_of_library(arch: str) -> bool:
    """Return True for the name of a network of another package."""
    return arch.startswith(tuple(_MODULES))


def find(arch: str) -> Found | None:
    """Return the package of a network and the network's name in it; None for other names.

    Raises:
        InputError: the package is not installed.
    """
    for prefix, module in _MODULES.items():
        if arch.startswith(prefix):
            return Found(cast(Library, import_module(f"{__name__}.{module}")), arch.removeprefix(prefix))
    return None
