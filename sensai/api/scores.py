"""score: Read how the channels of a network respond to each class, in one pass. K classes, C channels of a site."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from sensai.activations import ActivationReader, SiteStatistics, Statistics, TaylorReader
from sensai.api.display import as_html
from sensai.api.parameters import about_model, checked
from sensai.api.user_images import (
    BATCH,
    UserImages,
    first_batch,
    names_of_classes,
    normalization_of,
    split_of,
)
from sensai.config import ActivationsConfig
from sensai.data.batches import AnySplit, Normalization, batches
from sensai.errors import InputError
from sensai.models.live_networks import adopted, weights_digest
from sensai.pipeline.base_model import BaseModel, check_removable
from sensai.pipeline.devices import device_of
from sensai.sites import Scope, SiteMap

# A pixel may be rounded a little beyond.
_SLACK = 1e-3


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Hold how often the channels of a network are zero, and how large they are, by class.

    Attributes:
        base: a copy of the network, with its removable channels.
        sites: site -> its sums by class.
        class_names: the K names.
        normalization: that float images have had.
        is_raw_known: the normalisation leads back to pixels, so that an ensemble can be served.
        images: that were read.
    """

    base: BaseModel
    sites: Statistics
    class_names: tuple[str, ...]
    normalization: Normalization
    is_raw_known: bool
    _digest: str = field(repr=False)
    images: AnySplit = field(repr=False)

    def __getitem__(self, site: str) -> SiteStatistics:
        return self.sites[site]

    def __len__(self) -> int:
        return len(self.sites)

    @property
    def table(self) -> pd.DataFrame:
        """Return a row per site: its name, channels, and their mean share of zeros and mean activation over all classes."""
        everyone = range(len(self.class_names))
        rows = [
            {
                "site": name,
                "channels": values.zeros.shape[1],
                "apoz": float(values.apoz(everyone).mean()),
                "mean": float(values.mean(everyone).mean()),
            }
            for name, values in self.sites.items()
        ]
        return pd.DataFrame(rows)

    def apoz(self, site: str) -> pd.DataFrame:
        """Return the share of zeros of every channel of a site (columns) over the images of every class (rows)."""
        values = self.sites[site]
        rows = [values.apoz([label]) for label in range(len(self.class_names))]
        return pd.DataFrame(rows, index=pd.Index(self.class_names, name="class"))

    def within(self, scope: Scope) -> tuple[SiteMap, Statistics]:
        """Return the sites within a scope, and their statistics.

        Raises:
            InputError: there are none.
        """
        with about_model():
            sites = self.base.sites.within(scope)
            check_removable(sites, self.base.spec.arch)
        return sites, {site.name: self.sites[site.name] for site in sites.sites}

    def check_model(self, model: nn.Module) -> None:
        """Refuse another network, or other weights, than those that were scored.

        Raises:
            InputError: they differ.
        """
        if weights_digest(model) != self._digest:
            raise InputError(
                "model: is not the network that was scored, or its weights have changed since; score it again"
            )

    def __repr__(self) -> str:
        channels = sum(values.zeros.shape[1] for values in self.sites.values())
        return (
            f"ChannelStatistics of {self.base.name}: {channels:,} removable channels in {len(self.sites)} sites, "
            f"{len(self.class_names)} classes, {len(self.images):,} images"
        )

    def _repr_html_(self) -> str:
        return as_html(repr(self), self.table)


def score(
    model: nn.Module,
    data: UserImages,
    num_classes: int | None = None,
    *,
    class_names: Sequence[str] | None = None,
    mean: Any = None,
    std: Any = None,
    criterion: str = "apoz",
    zero_threshold: float = 0.005,
    batch_size: int = BATCH,
    device: str = "auto",
) -> ChannelStatistics:
    """Return per-class statistics of every removable channel of a network, from one pass over images.

    Grouping and pruning need nothing else, and take no further pass.

    Args:
        model: a trained classifier, from images (N, C, H, W) to logits (N, K); it is not changed.
        data: the training images: a DataLoader, a `torch.utils.data.Dataset`, or a pair (images, labels). Floats are taken as
            they are; uint8 is divided by 255 and normalised by `mean` and `std`.
        num_classes: K; None: the number of logits.
        class_names: of the classes; None: those of the data set (`classes`), else their numbers.
        mean: of each channel, with which float images were normalised after their division by 255; only `log` and the
            latencies of `evaluate` need it. None: 0.
        std: likewise; None: 1.
        criterion: by which channels will be ranked; `taylor` also makes a backward pass.
        zero_threshold: largest activation that counts as zero.
        batch_size: of data that are no batches yet.
        device: auto, cpu, cuda or cuda:<n>.

    Raises:
        InputError: the network cannot be followed, has no removable channels, or does not fit the images; or a parameter is not
            allowed.
    """
    config = checked(ActivationsConfig, {"criterion": criterion, "zero_threshold": zero_threshold, "device": device})
    images = first_batch(data, "data")
    shape = (images.shape[1], images.shape[2], images.shape[3])
    normalization = normalization_of(shape[0], mean, std)
    classes = num_classes or _number_of_logits(model, images, normalization)
    names = names_of_classes(data, classes, class_names)
    split = split_of(data, "data", classes, shape, batch_size=batch_size)
    with about_model():
        network, spec = adopted(model, classes, shape)
        target = device_of(config)
        base = BaseModel(network.to(target), spec, target)
        found = base.sites
    as_taken = Normalization(normalization.mean, normalization.std, spec.memory_format)
    reader_kind = TaylorReader if config.needs_backward else ActivationReader
    reader: ActivationReader | None = None
    for batch, labels in tqdm(batches(split, batch_size, as_taken, target), desc="score", unit="batch", leave=False):
        if reader is None:
            # A last batch may be a single image, of which the graph could not be exported.
            example = batch if len(batch) > 1 else torch.cat([batch, batch])
            reader = reader_kind(base.network, found.sites, example[:2], classes, config.zero_threshold)
        reader.read(batch, labels)
    if reader is None:
        raise InputError("data: has no images")
    raw_known = mean is not None or images.dtype == torch.uint8 or _are_pixels(images)
    return ChannelStatistics(base, reader.statistics(), names, as_taken, raw_known, weights_digest(model), split)


def _are_pixels(images: torch.Tensor) -> bool:
    """Return True for floats from 0 to 1, as `ToTensor` of torchvision gives them."""
    return bool(float(images.min()) >= -_SLACK and float(images.max()) <= 1 + _SLACK)


@torch.no_grad()
def _number_of_logits(model: nn.Module, images: torch.Tensor, normalization: Normalization) -> int:
    """Return K, from the answer of the network to an image; the network stays in its mode.

    Raises:
        InputError: it does not take the images, or gives no logits.
    """
    some = images[:2]
    values = normalization(some) if some.dtype == torch.uint8 else some.float()
    was_training, place = model.training, next(model.parameters(), values)
    try:
        logits = model.eval()(values.to(place.device))
    # A user's network may raise any error.
    except Exception as error:
        raise InputError(f"model: takes no images of shape {tuple(some.shape[1:])} ({error})") from error
    finally:
        model.train(was_training)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        given = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InputError(f"model: gives {given} for {len(some)} images, not logits (N, K)")
    return logits.shape[1]
