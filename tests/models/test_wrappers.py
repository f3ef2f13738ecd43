"""Lazy layers, and weights that a wrapper computes anew at every call."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from sensai.models.wrappers import materialise, unwrap

SHAPE = (3, 6, 6)


class _Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def _doubled(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "bias", _Doubled())


def _twice(layer: nn.Module) -> nn.Module:
    return _doubled(parametrizations.spectral_norm(parametrizations.weight_norm(layer)))


def _thinned(layer: nn.Module) -> nn.Module:
    return prune.random_unstructured(layer, "weight", 0.5)


WRAPPERS: list[Callable[[nn.Module], nn.Module]] = [
    *(parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal),
    *(_doubled, _twice, _thinned),
    *(weight_norm, spectral_norm),
]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda wrapper: f"{wrapper.__module__}.{wrapper.__name__}")
def test_unwrapped_weights_give_the_same_answers(wrapper: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    network, images = copy.deepcopy(plain), torch.randn(4, *SHAPE)
    for layer in (0, 3):
        network[layer] = wrapper(network[layer])
    network.train()(images)
    expected = network.eval()(images)
    # Unwrapping must not make a step of a spectral norm's iteration.
    unwrapped = unwrap(network.train())
    assert unwrapped is network
    assert torch.allclose(network(images), expected, atol=1e-6)
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert [type(each) for each in network] == [type(each) for each in plain]
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in network.parameters())


def test_only_the_weights_that_are_named_are_unwrapped() -> None:
    network = nn.Sequential(*(parametrizations.weight_norm(nn.Linear(4, 4)) for _ in range(2)))
    unwrap(network, {"1.weight"})
    assert [parametrize.is_parametrized(each) for each in network] == [True, False]


def test_tensors_that_are_called_like_those_of_a_wrapper_stay() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale_g, self.scale_v = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
            self.scale_orig = nn.Parameter(torch.ones(1))
            self.register_buffer("scale_mask", torch.ones(1))

    network = Named()
    before = set(network.state_dict())
    assert set(unwrap(network).state_dict()) == before


def test_lazy_layers_get_their_shapes_and_nothing_else_changes() -> None:
    network = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.Dropout(), nn.LazyLinear(4))
    torch.manual_seed(0)
    assert materialise(network, SHAPE) == ""
    assert (network[0].weight.shape, network[4].weight.shape) == ((8, 3, 3, 3), (4, 128))
    assert network.training
    assert network[1].num_batches_tracked == 0
    torch.manual_seed(0)
    again = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.Dropout(), nn.LazyLinear(4))
    materialise(again, SHAPE)
    assert torch.equal(network[4].weight, again[4].weight)


def test_a_lazy_layer_that_no_image_comes_by_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3))
    network[0].unused = nn.LazyLinear(4)
    assert materialise(network, SHAPE) == "0.unused.weight"
