"""The base model as later stages take it: on the device, with its removable channels."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import nn

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble
from sensai.errors import InputError
from sensai.models.architecture_names import LIVE
from sensai.models.factory import NetworkSpec
from sensai.models.storage import load_network
from sensai.pruning import provable
from sensai.runtimes import Prepared, prepare_base
from sensai.sites import SiteMap, find_sites
from sensai.terminal import waiting

if TYPE_CHECKING:
    # The Python interface has base models too, and no store.
    from sensai.tracking import Store

# The artifact that the stage `baseline` logs.
MODEL = "model"
_PROOF_IMAGES = 8
# An error message gives the reasons of at most this many layers.
_REASONS = 3


@dataclass(frozen=True)
class BaseModel:
    """A trained base model. Stages share it, so none may change it.

    Attributes:
        network: in eval mode, on `device`.
        spec: of the network.
        device: that it lies on.
    """

    network: nn.Module
    spec: NetworkSpec
    device: torch.device
    _prepared: dict[Normalization, Prepared] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Return its architecture, of a network in memory the name of its class."""
        return self.spec.arch.removeprefix(LIVE)

    @cached_property
    def sites(self) -> SiteMap:
        """Return the removable channels, also those that only `scope=all` removes.

        Raises:
            InputError: there are none.
        """
        # Any input shows whether a site can be cut.
        images = torch.randn(_PROOF_IMAGES, *self.spec.input_shape, generator=torch.Generator().manual_seed(0))
        images = images.to(self.device, memory_format=self.spec.memory_format)
        with waiting(f"finds the channels of {self.spec.arch} that can be removed, and proves it"):
            sites = provable(self.network, find_sites(self.network, images), images)
        check_removable(sites, self.spec.arch)
        return sites

    def prepared(self, like: Ensemble) -> Prepared:
        """Return the network for runtimes, with the images of an ensemble made of it; it is exported once a process."""
        if like.normalization not in self._prepared:
            self._prepared[like.normalization] = prepare_base(self.network, like)
        return self._prepared[like.normalization]


def load_base_model(store: "Store", run_id: str) -> tuple[nn.Module, NetworkSpec]:
    """Load the base model of a run of `baseline`, in eval mode, on the CPU."""
    with store.downloaded(run_id, MODEL) as folder:
        return load_network(folder)


def check_removable(sites: SiteMap, arch: str) -> None:
    """Refuse a network that members cannot be made of.

    Raises:
        InputError: there is no site; says why layers are kept whole.
    """
    if not sites.sites:
        reasons = "; ".join(f"{layer}: {reason}" for layer, reason in islice(sites.kept_whole.items(), _REASONS))
        raise InputError(
            f"arch={arch!r}: has no channels that can be removed ({reasons or 'no layer but the last has any'})"
        )
