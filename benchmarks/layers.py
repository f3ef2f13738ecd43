"""Prune a small network around every layer of `torch.nn` and every wrapper of `torch.nn.utils.parametrizations`.

The network has two convolutions and a linear layer, for five classes and images (3, 8, 8). The layer stands between the
convolutions. Its outcome is one of:

- "cut": all its input and output channels can be removed, and every member equals the masked network.
- "kept": some of them stay, for the given reason.
- "refused": `baseline` refuses the network.
- "none": no image classifier has this layer.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import utils
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from sensai.errors import InputError
from sensai.models.behaviour import check_modes
from sensai.models.factory import NetworkSpec
from sensai.models.wrappers import materialise, unwrap
from sensai.pruning import provable, pruning_error
from sensai.sites import SiteMap, find_sites

CLASSES = 5
SHAPE = (3, 8, 8)
_SPEC = NetworkSpec("layer", CLASSES, SHAPE[0], SHAPE[1:])
_LOSS = "a loss, which no network holds; the project has losses of its own"
_BASE = "a base class without a computation"

Adapter = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """The outcome of one layer.

    Attributes:
        name: as in `torch.nn`, or the wrapper and the wrapped layer.
        outcome: cut, kept, refused or none.
        reason: why it is not cut; empty if it is.
    """

    name: str
    outcome: str
    reason: str = ""


# ----------------------------------------------------------- from a map (N, C, H, W) to the input of a layer, and back to a map


def on_map(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer that maps (N, C, H, W) to (N, C, H, W)."""
    return layer(x)


def on_sequence(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer that maps (N, C, H x W) to (N, C, L)."""
    return layer(x.flatten(2)).unsqueeze(-1)


def on_volume(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer that maps (N, C, 1, H, W) to (N, C, D, H, W)."""
    return layer(x.unsqueeze(2)).flatten(2, 3)


def on_tokens(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer that maps (N, H x W, C) to (N, L, C)."""
    return _first(layer(x.flatten(2).transpose(1, 2))).transpose(1, 2).unsqueeze(-1)


def on_features(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer that maps (N, C) to (N, C)."""
    return _first(layer(x.mean((2, 3))))[:, :, None, None]


def on_two_maps(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer that takes two maps."""
    y = layer(x, x.flip(3))
    return y if y.ndim == x.ndim else y.flatten(1)[:, :, None, None]


def on_two_sequences(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer that takes tokens as source and as target."""
    tokens = x.flatten(2).transpose(1, 2)
    return layer(tokens, tokens).transpose(1, 2).unsqueeze(-1)


def on_queries(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer that takes tokens as queries, keys and values."""
    tokens = x.flatten(2).transpose(1, 2)
    return layer(tokens, tokens, tokens)[0].transpose(1, 2).unsqueeze(-1)


def unpooled(axes: int) -> Adapter:
    """Apply an unpooling layer to the maxima, and their indices, of a pooling over so many axes."""
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[axes]

    def adapter(layer: nn.Module, x: Tensor) -> Tensor:
        x = {1: x.flatten(2), 2: x, 3: x.unsqueeze(2)}[axes]
        values, indices = pool(x, 2 if axes < 3 else (1, 2, 2), return_indices=True)
        return layer(values, indices).flatten(2).unsqueeze(-1)

    return adapter


def _first(value: Tensor | tuple[Tensor, ...]) -> Tensor:
    return value[0] if isinstance(value, tuple) else value


class Network(nn.Module):
    """A small network around a layer."""

    def __init__(self, layer: nn.Module, adapter: Adapter) -> None:
        super().__init__()
        self.first, self.layer, self.second = nn.Conv2d(3, 8, 3, padding=1), layer, nn.LazyConv2d(6, 1)
        self.adapter, self.head = adapter, nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) for images (N, 3, 8, 8)."""
        x = self.adapter(self.layer, F.relu(self.first(x)))
        return self.head(F.relu(self.second(x)).mean((2, 3)))


# ---------------------------------------------------------------------------------------------------------------- the layers

_MAPS: dict[str, Callable[[], nn.Module]] = {
    **{name: getattr(nn, name) for name in ("Identity", "Dropout", "Dropout2d", "AlphaDropout", "FeatureAlphaDropout")},
    **{
        name: getattr(nn, name)
        for name in (
            *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid"),
            *(
                "Mish",
                "RReLU",
                "ReLU",
                "ReLU6",
                "SELU",
                "SiLU",
                "Sigmoid",
                "Softplus",
                "Softshrink",
                "Softsign",
                "Tanh",
            ),
            *("Tanhshrink", "Softmax2d"),
        )
    },
    "Threshold": partial(nn.Threshold, 0.1, 0.0),
    "PReLU": partial(nn.PReLU, 8),
    "GLU": partial(nn.GLU, 1),
    "Softmax": partial(nn.Softmax, 1),
    "Softmin": partial(nn.Softmin, 1),
    "LogSoftmax": partial(nn.LogSoftmax, 1),
    "Conv2d": partial(nn.Conv2d, 8, 8, 3, padding=1),
    "ConvTranspose2d": partial(nn.ConvTranspose2d, 8, 8, 2, stride=2),
    "BatchNorm2d": partial(nn.BatchNorm2d, 8),
    "SyncBatchNorm": partial(nn.SyncBatchNorm, 8),
    "InstanceNorm2d": partial(nn.InstanceNorm2d, 8, affine=True),
    "GroupNorm": partial(nn.GroupNorm, 2, 8),
    "LayerNorm": partial(nn.LayerNorm, (8, 8, 8)),
    "RMSNorm": partial(nn.RMSNorm, (8, 8, 8)),
    "LocalResponseNorm": partial(nn.LocalResponseNorm, 2),
    "CrossMapLRN2d": partial(nn.CrossMapLRN2d, 2),
    "LazyConv2d": partial(nn.LazyConv2d, 8, 3, padding=1),
    "LazyConvTranspose2d": partial(nn.LazyConvTranspose2d, 8, 2),
    "LazyBatchNorm2d": nn.LazyBatchNorm2d,
    "LazyInstanceNorm2d": nn.LazyInstanceNorm2d,
    "AvgPool2d": partial(nn.AvgPool2d, 2),
    "MaxPool2d": partial(nn.MaxPool2d, 2),
    "LPPool2d": partial(nn.LPPool2d, 2, 2),
    "FractionalMaxPool2d": partial(nn.FractionalMaxPool2d, 2, output_size=5),
    "AdaptiveAvgPool2d": partial(nn.AdaptiveAvgPool2d, 2),
    "AdaptiveMaxPool2d": partial(nn.AdaptiveMaxPool2d, 2),
    **{
        f"{kind}2d": partial(getattr(nn, f"{kind}2d"), 1) for kind in ("CircularPad", "ReflectionPad", "ReplicationPad")
    },
    "ConstantPad2d": partial(nn.ConstantPad2d, 1, 0.5),
    "ZeroPad2d": partial(nn.ZeroPad2d, 1),
    "Upsample": partial(nn.Upsample, scale_factor=2, mode="bilinear"),
    "UpsamplingBilinear2d": partial(nn.UpsamplingBilinear2d, scale_factor=2),
    "UpsamplingNearest2d": partial(nn.UpsamplingNearest2d, scale_factor=2),
    "PixelShuffle": partial(nn.PixelShuffle, 2),
    "PixelUnshuffle": partial(nn.PixelUnshuffle, 2),
    "ChannelShuffle": partial(nn.ChannelShuffle, 2),
    "Sequential": lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()),
    "DataParallel": lambda: nn.DataParallel(nn.Conv2d(8, 8, 1)),
}
_SEQUENCES: dict[str, Callable[[], nn.Module]] = {
    "Dropout1d": nn.Dropout1d,
    "Conv1d": partial(nn.Conv1d, 8, 8, 3),
    "ConvTranspose1d": partial(nn.ConvTranspose1d, 8, 8, 3),
    "LazyConv1d": partial(nn.LazyConv1d, 8, 3),
    "LazyConvTranspose1d": partial(nn.LazyConvTranspose1d, 8, 3),
    "BatchNorm1d": partial(nn.BatchNorm1d, 8),
    "InstanceNorm1d": partial(nn.InstanceNorm1d, 8, affine=True),
    "LazyBatchNorm1d": nn.LazyBatchNorm1d,
    "LazyInstanceNorm1d": nn.LazyInstanceNorm1d,
    "AvgPool1d": partial(nn.AvgPool1d, 2),
    "MaxPool1d": partial(nn.MaxPool1d, 2),
    "LPPool1d": partial(nn.LPPool1d, 2, 2),
    "AdaptiveAvgPool1d": partial(nn.AdaptiveAvgPool1d, 2),
    "AdaptiveMaxPool1d": partial(nn.AdaptiveMaxPool1d, 2),
    **{
        f"{kind}1d": partial(getattr(nn, f"{kind}1d"), 1) for kind in ("CircularPad", "ReflectionPad", "ReplicationPad")
    },
    "ConstantPad1d": partial(nn.ConstantPad1d, 1, 0.5),
    "ZeroPad1d": partial(nn.ZeroPad1d, 1),
}
_BESIDE = (1, 1, 1, 1, 0, 0)
_VOLUMES: dict[str, Callable[[], nn.Module]] = {
    "Dropout3d": nn.Dropout3d,
    "Conv3d": partial(nn.Conv3d, 8, 8, 1),
    "ConvTranspose3d": partial(nn.ConvTranspose3d, 8, 8, 1),
    "LazyConv3d": partial(nn.LazyConv3d, 8, 1),
    "LazyConvTranspose3d": partial(nn.LazyConvTranspose3d, 8, 1),
    "BatchNorm3d": partial(nn.BatchNorm3d, 8),
    "InstanceNorm3d": partial(nn.InstanceNorm3d, 8, affine=True),
    "LazyBatchNorm3d": nn.LazyBatchNorm3d,
    "LazyInstanceNorm3d": nn.LazyInstanceNorm3d,
    "AvgPool3d": partial(nn.AvgPool3d, (1, 2, 2)),
    "MaxPool3d": partial(nn.MaxPool3d, (1, 2, 2)),
    "LPPool3d": partial(nn.LPPool3d, 2, (1, 2, 2)),
    "AdaptiveAvgPool3d": partial(nn.AdaptiveAvgPool3d, (1, 2, 2)),
    "AdaptiveMaxPool3d": partial(nn.AdaptiveMaxPool3d, (1, 2, 2)),
    **{
        f"{kind}3d": partial(getattr(nn, f"{kind}3d"), _BESIDE)
        for kind in ("CircularPad", "ReflectionPad", "ReplicationPad")
    },
    "ConstantPad3d": partial(nn.ConstantPad3d, _BESIDE, 0.5),
    "ZeroPad3d": partial(nn.ZeroPad3d, _BESIDE),
}
_TOKENS: dict[str, Callable[[], nn.Module]] = {
    "Linear": partial(nn.Linear, 8, 8),
    "LazyLinear": partial(nn.LazyLinear, 8),
    "RNN": partial(nn.RNN, 8, 8, batch_first=True),
    "LSTM": partial(nn.LSTM, 8, 8, batch_first=True),
    "GRU": partial(nn.GRU, 8, 8, batch_first=True),
    "TransformerEncoderLayer": partial(nn.TransformerEncoderLayer, 8, 2, 16, batch_first=True),
    "TransformerEncoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1),
}


class Contained(nn.Module):
    """A layer in a container that computes nothing by itself."""

    def __init__(self, container: nn.Module, key: int | str) -> None:
        super().__init__()
        self.container, self.key = container, key

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the layer, or the map times a parameter."""
        entry = self.container[self.key]
        return entry(x) if isinstance(entry, nn.Module) else x * entry


_OTHERS: dict[str, tuple[Callable[[], nn.Module], Adapter]] = {
    "Flatten": (lambda: nn.Flatten(2), lambda layer, x: layer(x).unsqueeze(-1)),
    "Unflatten": (lambda: nn.Unflatten(2, (4, 16)), lambda layer, x: layer(x.flatten(2))),
    "Unfold": (partial(nn.Unfold, 2, stride=2), lambda layer, x: layer(x).unsqueeze(-1)),
    "Fold": (partial(nn.Fold, 16, 2, stride=2), lambda layer, x: layer(x.flatten(2))),
    "FractionalMaxPool3d": (
        partial(nn.FractionalMaxPool3d, (1, 2, 2), output_size=(1, 5, 5)),
        lambda layer, x: layer(torch.stack([x, x], 2)).flatten(2, 3),
    ),
    "MaxUnpool1d": (partial(nn.MaxUnpool1d, 2), unpooled(1)),
    "MaxUnpool2d": (partial(nn.MaxUnpool2d, 2), unpooled(2)),
    "MaxUnpool3d": (partial(nn.MaxUnpool3d, (1, 2, 2)), unpooled(3)),
    "Bilinear": (partial(nn.Bilinear, 8, 8, 8), on_two_maps),
    "CosineSimilarity": (nn.CosineSimilarity, on_two_maps),
    "PairwiseDistance": (nn.PairwiseDistance, on_two_maps),
    "MultiheadAttention": (partial(nn.MultiheadAttention, 8, 2, batch_first=True), on_queries),
    "TransformerDecoderLayer": (partial(nn.TransformerDecoderLayer, 8, 2, 16, batch_first=True), on_two_sequences),
    "TransformerDecoder": (
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 1),
        on_two_sequences,
    ),
    "Transformer": (partial(nn.Transformer, 8, 2, 1, 1, 16, batch_first=True), on_two_sequences),
    "RNNCell": (partial(nn.RNNCell, 8, 8), on_features),
    "LSTMCell": (partial(nn.LSTMCell, 8, 8), on_features),
    "GRUCell": (partial(nn.GRUCell, 8, 8), on_features),
    "ModuleList": (lambda: Contained(nn.ModuleList([nn.Conv2d(8, 8, 1)]), 0), on_map),
    "ModuleDict": (lambda: Contained(nn.ModuleDict({"a": nn.Conv2d(8, 8, 1)}), "a"), on_map),
    "ParameterList": (lambda: Contained(nn.ParameterList([torch.rand(8, 1, 1)]), 0), on_map),
    "ParameterDict": (lambda: Contained(nn.ParameterDict({"a": torch.rand(8, 1, 1)}), "a"), on_map),
}
_NONE = {
    **dict.fromkeys(("Module", "Container", "RNNBase", "RNNCellBase"), _BASE),
    **dict.fromkeys(("Embedding", "EmbeddingBag"), "reads integers, not images"),
}
# These layers prune differently with other arguments, so they have further rows.
_FORMS: dict[str, tuple[Callable[[], nn.Module], Adapter]] = {
    "Conv2d, grouped": (partial(nn.Conv2d, 8, 8, 3, groups=4), on_map),
    "Conv2d, depthwise": (partial(nn.Conv2d, 8, 8, 3, groups=8), on_map),
    "Conv2d, padding_mode='reflect'": (partial(nn.Conv2d, 8, 8, 3, padding=1, padding_mode="reflect"), on_map),
    "PReLU, one slope": (nn.PReLU, on_map),
    "BatchNorm2d, track_running_stats=False": (partial(nn.BatchNorm2d, 8, track_running_stats=False), on_map),
    "InstanceNorm2d, without parameters": (partial(nn.InstanceNorm2d, 8), on_map),
    "LayerNorm over pixels": (partial(nn.LayerNorm, (8, 8)), on_map),
    "Flatten over channels": (nn.Flatten, lambda layer, x: layer(x)[:, :, None, None]),
}
_WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    **{f"parametrizations.{name}": getattr(parametrizations, name) for name in parametrizations.__all__},
    "weight_norm": utils.weight_norm,
    "spectral_norm": utils.spectral_norm,
    "prune.random_unstructured": partial(utils.prune.random_unstructured, name="weight", amount=0.5),
}


def inside(block: Callable[[], AbstractContextManager[object]]) -> Adapter:
    """Return an adapter that runs the layer inside a context manager, as a block of `forward`."""

    def adapter(layer: nn.Module, x: Tensor) -> Tensor:
        with block():
            y = layer(x)
        return y.float()

    return adapter


_BLOCKS: dict[str, Adapter] = {
    "torch.no_grad()": inside(torch.no_grad),
    "torch.enable_grad()": inside(torch.enable_grad),
    "torch.inference_mode()": inside(torch.inference_mode),
    "torch.autocast, off": inside(partial(torch.autocast, "cpu", enabled=False)),
    "torch.autocast, on": inside(partial(torch.autocast, "cpu", torch.bfloat16)),
    "torch.utils.checkpoint": lambda layer, x: checkpoint(layer, x, use_reentrant=False),
}


def networks() -> dict[str, Callable[[], nn.Module]]:
    """Return row -> the function that builds its network, for every row that has one."""
    kinds = ((_MAPS, on_map), (_SEQUENCES, on_sequence), (_VOLUMES, on_volume), (_TOKENS, on_tokens))
    layers = {name: (make, adapter) for makers, adapter in kinds for name, make in makers.items()}
    layers = dict(sorted((layers | _OTHERS | _FORMS).items(), key=lambda entry: entry[0].lower()))
    made: dict[str, Callable[[], nn.Module]] = {
        name: lambda make=make, adapter=adapter: Network(make(), adapter) for name, (make, adapter) in layers.items()
    }
    for name, wrapper in _WRAPPERS.items():
        made[f"{name} of a convolution"] = lambda wrapper=wrapper: Network(wrapper(nn.Conv2d(8, 8, 1)), on_map)
        made[f"{name} of a linear layer"] = lambda wrapper=wrapper: Network(wrapper(nn.Linear(8, 8)), on_tokens)
        made[f"{name} of the head"] = lambda wrapper=wrapper: _head_wrapped(wrapper)
    for name, adapter in _BLOCKS.items():
        made[name] = lambda adapter=adapter: Network(nn.Conv2d(8, 8, 1), adapter)
    return made


def _head_wrapped(wrapper: Callable[[nn.Module], nn.Module]) -> nn.Module:
    network = Network(nn.Identity(), on_map)
    network.head = wrapper(network.head)
    return network


# ------------------------------------------------------------------------------------------------------------------ the outcome


def tried(name: str) -> Row:
    """Prune the network of a row, and return the row with its outcome."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = networks()[name]()
        materialise(network, SHAPE)
        try:
            check_modes(network, _SPEC)
            return _cut(name, unwrap(network))
        except InputError as error:
            return Row(name, "refused", _plain(str(error)))


def _cut(name: str, network: nn.Module) -> Row:
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    sites = provable(network, find_sites(network, images), images)
    for seed in range(3):
        error, tolerance = pruning_error(network, sites, _plan(sites, seed), images)
        if error > tolerance:
            raise RuntimeError(f"{name}: cut and masked differ by {error:.3g} > {tolerance:.3g}")
    reasons = dict.fromkeys(_plain(reason) for reason in sites.kept_whole.values())
    return Row(name, "kept" if reasons else "cut", "; ".join(reasons))


def _plan(sites: SiteMap, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        site.name: np.sort(generator.permutation(site.channels)[: generator.integers(1, site.channels)])
        for site in sites.sites
        if site.channels > 1
    }


def _plain(reason: str) -> str:
    """Return a reason without the figures that differ between machines, and without the network's name."""
    return re.sub(r" by [\d.e+-]+$", "", reason).replace("arch='layer': ", "").replace("arch: ", "")


def rows() -> Iterator[Row]:
    """Yield all rows, in the order of the table."""
    for name in networks():
        yield tried(name)
    yield from (Row(name, "none", why) for name, why in untried().items())


def untried() -> dict[str, str]:
    """Return the layers of `torch.nn` that no image classifier has -> the reason."""
    return dict(sorted({**_NONE, **{name: _LOSS for name in dir(nn) if re.search(r"Loss(2d)?$", name)}}.items()))


_HEADER = """# Layers

The effect of pruning on every layer of `torch.nn`, every wrapper of `torch.nn.utils.parametrizations` and every kind of block
in `forward` of an image classifier. Written by `python benchmarks/exactness.py --layers docs/reference/layers.md` (torch
{version}), which tries each of them between two convolutions:

- **cut**: all its input and output channels can be removed. Each member computes the same as the network with these channels
  masked (difference at most 1e-5 of the largest feature).
- **kept**: the network works, but input or output channels of the layer stay, for the given reason. Others are cut.
- **refused**: `baseline` refuses a network with this layer.
- **none**: no image classifier has this layer.

One- and three-dimensional convolutions, and transposed ones, are out of scope: their channels are kept whole. "cut and masked
differ" means that a masked channel is not zero behind the layer: a sigmoid, for example, turns zero into 1/2.

Wrapped weights (weight, spectral and orthogonal norms, masks of `torch.nn.utils.prune`) are trained with their wrapper in the
base model. The trained model and its members are stored without the wrapper, with the weights that it gives in evaluation mode.
"""


def document(found: list[Row]) -> str:
    """Return the rows as a page of the documentation."""
    lines = [
        _HEADER.format(version=torch.__version__.partition("+")[0]),
        "| layer | outcome | reason |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {row.name} | {row.outcome} | {row.reason} |" for row in found]
    return "\n".join(lines) + "\n"


def documented(page: str) -> dict[str, Row]:
    """Return name -> row, the inverse of `document`."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    return {name: Row(name, outcome, reason) for name, outcome, reason in cells[2:]}
