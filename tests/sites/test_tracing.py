"""Networks that are easy to prune wrongly: each is pruned exactly, kept whole with the reason, or refused in one line.

A network is two convolutions and a linear layer, five classes. Its body is one function of these and of the layers that it
adds.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensai.activations import ActivationReader, TaylorReader
from sensai.errors import InputError
from sensai.pruning import head_rows, masked, member_network, provable, pruning_error
from sensai.sites import SiteMap, SizePrediction, count_flops, count_params, find_sites

CLASSES = 5
SHAPE = (3, 6, 6)


class Network(nn.Module):
    def __init__(self, body: Callable[["Network", Tensor], Tensor], **more: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.body = body
        self.first, self.second, self.linear = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 1), nn.Linear(6, CLASSES)
        for name, each in more.items():
            setattr(self, name, each)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)

    def tail(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.second(x)).mean((2, 3)))


conv = partial(nn.Conv2d, kernel_size=3, padding=1)


def _global_maximum(net: Network, x: Tensor) -> Tensor:
    return net.linear(F.adaptive_max_pool2d(F.relu(net.second(F.relu(net.first(x)))), 1).flatten(1))


def _maximum_with_places(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.max_pool2d(F.relu(net.first(x)), 2, return_indices=True)[0])


def _pyramid(mode: str) -> Callable[[Network, Tensor], Tensor]:
    def body(net: Network, x: Tensor) -> Tensor:
        x = F.relu(net.first(x))
        return net.tail(x + F.interpolate(net.coarse(F.max_pool2d(x, 2)), size=x.shape[2:], mode=mode))

    return body


def _scaled_from_the_left(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.scale * net.first(x)))


def _frozen_norm(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.first(x) * (net.scale * (net.shift + 1).rsqrt()) + net.shift))


def _weighted_by_place(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(2 * net.places * net.first(x)))


def _sum_of_everything(net: Network, x: Tensor) -> Tensor:
    x = F.relu(net.first(x))
    return net.tail(x + 0.01 * x.sum(dim=[]))


def _in_parallel(net: Network, x: Tensor) -> Tensor:
    x = F.relu(net.first(x))
    return net.tail(F.relu(net.left(x) + net.right(x.flip(3))))


def _weight_read_outside(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.left(F.relu(net.first(x)))) * net.left.weight.abs().mean())


def _functional(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(F.conv2d(x, net.first.weight, net.first.bias, padding=1)))


def _head_twice(net: Network, x: Tensor) -> Tensor:
    # The sigmoid of a removed channel is a half, which only the first of the two calls shows.
    return net.linear(torch.sigmoid(net.other(x)).mean((2, 3))) + net.tail(F.relu(net.first(x)))


def _gated_head(net: Network, x: Tensor) -> Tensor:
    return net.linear(torch.sigmoid(net.second(F.relu(net.first(x)))).mean((2, 3)))


def _along_rows(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.other(F.relu(net.first(x)))))


def _image_normalised(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.first(net.norm(x))))


def _normalised_behind(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.norm(net.other(F.relu(net.first(x))))))


def _largest_over_channels(net: Network, x: Tensor) -> Tensor:
    x = F.relu(net.first(x))
    return net.tail(x * x.amax(1, keepdim=True))


def _centred(net: Network, x: Tensor) -> Tensor:
    x = net.first(x)
    return net.tail(F.relu(x - x.mean((2, 3), True)))


def _pooled_tokens(net: Network, x: Tensor) -> Tensor:
    # This pools over pairs of channels, since they stand where pixels belong.
    return net.tail(F.avg_pool2d(F.relu(net.first(x)).permute(0, 2, 3, 1), (1, 2)).permute(0, 3, 1, 2))


def _grouped_across(net: Network, x: Tensor) -> Tensor:
    # The third group of three reads the last two channels of one layer and the first one of the other.
    return net.tail(F.relu(net.grouped(torch.cat([net.first(x), net.other(x)], 1))))


def _nothing_removable(net: Network, x: Tensor) -> Tensor:
    return net.linear(F.prelu(net.second(F.prelu(net.first(x), net.slope)), net.slope[:6]).mean((2, 3)))


def _reflected(net: Network, x: Tensor) -> Tensor:
    return net.tail(net.first(x))


def _discarded(net: Network, x: Tensor) -> Tensor:
    x = F.relu(net.first(x))
    net.other(x.mean((2, 3)))
    return net.tail(x)


def _detached(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.first(x)).detach())


def _sloped(net: Network, x: Tensor) -> Tensor:
    return net.linear(net.slope(net.second(net.act(net.first(x))).mean((2, 3))))


def _sloped_twice(net: Network, x: Tensor) -> Tensor:
    return net.tail(net.act(net.other(net.act(net.first(x)))))


def _sloped_sum(net: Network, x: Tensor) -> Tensor:
    return net.tail(net.act(net.first(x) + net.norm(net.other(x))))


def _normalised(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.norm(net.first(x))))


def _under(block: Callable[[], AbstractContextManager[None]]) -> Callable[[Network, Tensor], Tensor]:
    def body(net: Network, x: Tensor) -> Tensor:
        with block():
            x = F.relu(net.first(x))
        return net.tail(x.float())

    return body


def _under_nested_blocks(net: Network, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = net.first(x)
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            # The operation has two results, one of which is never read.
            x, _, y = F.relu(x.float()), x.abs(), x.mean((2, 3), keepdim=True)
    return net.tail(x - y)


def _tied(name: str, bias: bool) -> Network:
    net = Network(_in_parallel, left=conv(8, 8, bias=bias), right=conv(8, 8, bias=bias))
    setattr(net.right, name, getattr(net.left, name))
    return net


ALL = {"first": 8, "second": 6}
CASES: dict[str, tuple[Callable[[], Network], dict[str, int], dict[str, str]]] = {
    "global maximum": (lambda: Network(_global_maximum), ALL, {}),
    "maximum with places": (lambda: Network(_maximum_with_places), ALL, {}),
    "bicubic": (lambda: Network(_pyramid("bicubic"), coarse=conv(8, 8)), ALL, {}),
    "nearest-exact": (lambda: Network(_pyramid("nearest-exact"), coarse=conv(8, 8)), ALL, {}),
    "scaled from the left": (
        lambda: Network(_scaled_from_the_left, scale=nn.Parameter(torch.rand(8, 1, 1))),
        {"second": 6},
        {"first": "a tensor outside the layers (scale)"},
    ),
    "frozen norm": (
        lambda: Network(_frozen_norm, scale=nn.Parameter(torch.rand(8, 1, 1)), shift=nn.Parameter(torch.rand(8, 1, 1))),
        {"second": 6},
        {"first": "a tensor outside the layers (scale)"},
    ),
    "weighted by place": (lambda: Network(_weighted_by_place, places=nn.Parameter(torch.rand(6, 6))), ALL, {}),
    "sum of everything": (lambda: Network(_sum_of_everything), {"second": 6}, {"first": "sum may mix its channels"}),
    "tied weights": (
        lambda: _tied("weight", bias=False),
        {"second": 6},
        {"first": "the weights of a conv2d are not"},
    ),
    "tied biases": (
        lambda: _tied("bias", bias=True),
        {"second": 6},
        {"first": "the weights of a conv2d are not"},
    ),
    "weight read outside": (
        lambda: Network(_weight_read_outside, left=conv(8, 8)),
        {"second": 6},
        {"first": "the weights of a conv2d are not"},
    ),
    "functional": (lambda: Network(_functional), {"second": 6}, {}),
    "head called twice": (
        lambda: Network(_head_twice, other=conv(3, 6)),
        {"first": 8},
        {"other": "cut and masked differ"},
    ),
    "the head reads gates": (lambda: Network(_gated_head), {"first": 8}, {"second": "cut and masked differ"}),
    "along rows": (
        lambda: Network(_along_rows, other=nn.Linear(6, 6)),
        {"second": 6},
        {"first": "other does not read one channel everywhere"},
    ),
    "image normalised": (
        lambda: Network(_image_normalised, norm=nn.BatchNorm2d(3)),
        ALL,
        {"norm": "norm reads the image"},
    ),
    "normalised behind another layer": (
        lambda: Network(_normalised_behind, other=nn.ConvTranspose2d(8, 8, 1), norm=nn.BatchNorm2d(8)),
        {"second": 6},
        {"norm": "conv_transpose2d is out of scope"},
    ),
    "largest over channels": (
        lambda: Network(_largest_over_channels),
        {"second": 6},
        {"first": "amax may mix its channels with others"},
    ),
    "centred": (lambda: Network(_centred), ALL, {}),
    "pooled over channels": (
        lambda: Network(_pooled_tokens, second=nn.Conv2d(4, 6, 1)),
        {"second": 6},
        {"first": "avg_pool2d may mix its channels with others"},
    ),
    "groups across a concatenation": (
        lambda: Network(_grouped_across, other=conv(3, 4), grouped=conv(12, 12, groups=4), second=nn.Conv2d(12, 6, 1)),
        {"second": 6},
        dict.fromkeys(("first", "other", "grouped"), "its channels are used in different ways"),
    ),
    "nothing removable": (
        lambda: Network(_nothing_removable, slope=nn.Parameter(torch.rand(8))),
        {},
        {"first": "a tensor outside the layers (slope)", "second": "a tensor outside the layers (slope)"},
    ),
    "padded by reflection": (
        lambda: Network(_reflected, first=conv(3, 8, padding_mode="reflect")),
        ALL,
        {},
    ),
    "a result thrown away": (lambda: Network(_discarded, other=nn.Linear(8, 4)), ALL | {"other": 4}, {}),
    "detached": (lambda: Network(_detached), ALL, {}),
    "a slope a channel": (lambda: Network(_sloped, act=nn.PReLU(8), slope=nn.PReLU(6)), ALL, {}),
    "one slope": (lambda: Network(_sloped, act=nn.PReLU(), slope=nn.PReLU()), ALL, {}),
    "a slope a channel, called twice": (
        lambda: Network(_sloped_twice, act=nn.PReLU(8), other=conv(8, 8)),
        {"first": 8, "second": 6},
        {},
    ),
    "a slope a channel behind a sum": (
        lambda: Network(_sloped_sum, act=nn.PReLU(8), other=conv(3, 8), norm=nn.BatchNorm2d(8)),
        ALL,
        {},
    ),
    "instances normalised": (lambda: Network(_normalised, norm=nn.InstanceNorm2d(8)), ALL, {}),
    "instances normalised and scaled": (
        lambda: Network(_normalised, norm=nn.InstanceNorm2d(8, affine=True, track_running_stats=True)),
        ALL,
        {},
    ),
    "normalised over processes": (lambda: Network(_normalised, norm=nn.SyncBatchNorm(8)), ALL, {}),
    "under no_grad": (lambda: Network(_under(torch.no_grad)), ALL, {}),
    "under nested blocks": (lambda: Network(_under_nested_blocks), ALL, {}),
    "under autocast that is off": (lambda: Network(_under(partial(torch.autocast, "cpu", enabled=False))), ALL, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_form_is_cut_exactly_or_kept_whole_and_can_be_read(case: str) -> None:
    torch.manual_seed(0)
    build, removable, whole = CASES[case]
    network, images = build().eval(), torch.randn(8, *SHAPE)
    sites = provable(network, find_sites(network, images), images[:2])
    assert {site.name: site.channels for site in sites.sites} == removable
    assert all(reason in sites.kept_whole[layer] for layer, reason in whole.items())
    assert_exact(network, sites, images)
    for reader_type in (ActivationReader, TaylorReader):
        assert_read(reader_type(network, sites.sites, images[:2], CLASSES), network, sites, images)


def test_layers_that_autocast_makes_coarse_are_kept_whole() -> None:
    torch.manual_seed(0)
    network = Network(_under(partial(torch.autocast, "cpu", torch.bfloat16))).eval()
    sites = find_sites(network, torch.randn(2, *SHAPE))
    assert [site.name for site in sites.sites] == ["second"]
    assert sites.kept_whole == {"first": "first computes in bfloat16 (autocast), too coarse to prove a cut"}


def assert_exact(network: nn.Module, sites: SiteMap, images: Tensor) -> None:
    """Assert that random members compute what the masked network does, and have the predicted sizes."""
    prediction = SizePrediction(network, sites, SHAPE)
    generator = np.random.default_rng(0)
    for classes in ((4,), (0, 2), (0, 1, 2, 3, 4)):
        plan = {s.name: np.sort(generator.permutation(s.channels)[: s.channels // 2]) for s in sites.sites}
        error, tolerance = pruning_error(network, sites, plan, images)
        assert error <= tolerance
        member = member_network(network, sites, plan, classes, CLASSES)
        with torch.no_grad(), masked(network, sites, plan):
            expected = network(images)[:, list(classes)]
        assert torch.allclose(member(images)[:, -len(classes) :], expected, atol=1e-5)
        size = prediction(plan, head_rows(len(classes), CLASSES))
        assert size == (count_params(member), count_flops(member, SHAPE))


def assert_read(reader: ActivationReader, network: nn.Module, sites: SiteMap, images: Tensor) -> None:
    labels = torch.arange(len(images)) % CLASSES
    with torch.no_grad():
        assert torch.allclose(reader.read(images, labels), network(images), atol=1e-5)
    for site in sites.sites:
        values = reader.statistics()[site.name]
        assert values.zeros.shape == (CLASSES, site.channels)
        assert (values.elements > 0).all()
        assert (values.zeros <= values.elements[:, None]).all()


def _with_written_classes(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.first(x))).view(-1, CLASSES)


def _with_bias_outside(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.first(x))) + net.bias


def _with_image(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.first(x))) + x[:, 0, 0, :CLASSES]


def _with_second_head(net: Network, x: Tensor) -> Tensor:
    x = F.relu(net.first(x))
    second = net.other(x.mean((2, 3)))
    return net.tail(x) + second


def _functional_head(net: Network, x: Tensor) -> Tensor:
    return F.linear(F.relu(net.second(F.relu(net.first(x)))).mean((2, 3)), net.linear.weight, net.linear.bias)


def _dictionary(net: Network, x: Tensor) -> dict[str, Tensor]:
    return {"logits": net.tail(F.relu(net.first(x)))}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Network(_with_written_classes), "'linear' cannot be cut to the row of one class .*invalid for input"),
        (Network(_with_bias_outside, bias=nn.Parameter(torch.rand(CLASSES))), r"answers with shape \(2, 5\)"),
        (Network(_with_image), r"answers with shape \(2, 5\)"),
        (Network(_with_second_head, other=nn.Linear(8, CLASSES)), "must end in one linear layer or convolution"),
        (Network(_functional_head), "must end in one linear layer or convolution"),
        (Network(_dictionary), "must return its logits as one tensor, not as a dict"),
    ],
)
def test_a_head_that_cannot_be_cut_by_class_is_refused(network: Network, message: str) -> None:
    images = torch.randn(2, *SHAPE)
    with pytest.raises(InputError, match=message):
        provable(network, find_sites(network, images), images)


def _one_batch_size(net: Network, x: Tensor) -> Tensor:
    return net.tail(F.relu(net.first(x))).view(len(x), -1)


def _mixed_batch(net: Network, x: Tensor) -> Tensor:
    straight, flipped = net.tail(F.relu(net.first(torch.cat([x, x.flip(3)])))).chunk(2)
    return straight + flipped


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_one_batch_size, "cannot follow the network with any number of images"),
        (_mixed_batch, "'first' mixes the images of a batch"),
    ],
)
def test_networks_that_cannot_be_read_by_class_are_refused(
    body: Callable[[Network, Tensor], Tensor], message: str
) -> None:
    network, images = Network(body).eval(), torch.randn(4, *SHAPE)
    sites = provable(network, find_sites(network, images), images[:2])
    with pytest.raises(InputError, match=message):
        ActivationReader(network, sites.sites, images[:2], CLASSES)
