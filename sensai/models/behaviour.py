"""Check how the user's own network behaves in evaluation and in training, when it is first used."""

import copy

import torch
from torch import Tensor, nn

from sensai.errors import InputError
from sensai.models.factory import NetworkSpec

# There are two calls in each mode, since an error in the state after one call shows only in the next one.
_CALLS = 2
_IMAGES = 2
# Largest difference between two equal calls, and between batches of different sizes, as a share of the largest output.
_SAME, _SAME_ALONE = 1e-5, 1e-3
# Noise is added to the weights, because layers that start at zero would hide random behaviour.
_NOISE = 0.01
# Most characters of an error that a message repeats.
_LONGEST = 160


def check_modes(network: nn.Module, spec: NetworkSpec) -> None:
    """Check that a network does what evaluation and training rely on. A copy is used; the network is not changed.

    Raises:
        InputError: it has no parameters or cannot be copied; it fails, or does not return one logit a class; in
            evaluation the outputs differ from call to call or depend on the rest of the batch; in training there is no
            gradient.
    """
    if next(network.parameters(), None) is None:
        raise _refused(spec, "has no parameters: there is nothing to train and nothing to cut")
    try:
        tried = copy.deepcopy(network)
    # A user's network may raise any error.
    except Exception as error:
        raise _refused(spec, f"cannot be copied, as members are out of it ({_shortened(error)})") from error
    images = torch.randn(_IMAGES, *spec.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _add_noise(tried)
        _check_evaluation(tried.eval(), spec, images)
        _check_training(tried.train(), spec, images)


@torch.no_grad()
def _add_noise(network: nn.Module) -> None:
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.add_(_NOISE * torch.randn_like(parameter))


@torch.no_grad()
def _check_evaluation(network: nn.Module, spec: NetworkSpec, images: Tensor) -> None:
    first, *others = (_logits(network, spec, images) for _ in range(_CALLS))
    if not all(_close(first, other, _SAME) for other in others):
        raise _refused(
            spec,
            "its answers to the same images differ from call to call in evaluation mode (dropout that is always on?)",
        )
    alone = torch.cat([_logits(network, spec, image) for image in images.split(1)])
    if not _close(first, alone, _SAME_ALONE):
        raise _refused(
            spec, "its answer to an image depends on the others of the batch in evaluation mode (a norm of the batch?)"
        )


def _check_training(network: nn.Module, spec: NetworkSpec, images: Tensor) -> None:
    trained = any(parameter.requires_grad for parameter in network.parameters())
    for _ in range(_CALLS):
        output = _logits(network, spec, images)
        if trained and not output.requires_grad:
            raise _refused(spec, "its logits carry no gradient in training mode (no_grad around all of it?)")
        if trained:
            _check_backward(output, spec)


def _check_backward(output: Tensor, spec: NetworkSpec) -> None:
    try:
        output.sum().backward()
    except Exception as error:
        raise _refused(spec, f"fails in the backward pass ({_shortened(error)})") from error


def _logits(network: nn.Module, spec: NetworkSpec, images: Tensor) -> Tensor:
    """Return the logits float (N, K) for images (N, C, H, W)."""
    mode = "training" if network.training else "evaluation"
    expected = (len(images), spec.num_classes)
    try:
        output = network(images.clone())
    except Exception as error:
        raise _refused(spec, f"fails in {mode} mode on a batch of {len(images)} ({_shortened(error)})") from error
    if isinstance(output, Tensor) and output.shape == expected and output.is_floating_point():
        return output
    given = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise _refused(spec, f"gives {given} for a batch of {len(images)} in {mode} mode, not floats {expected}")


def _close(first: Tensor, second: Tensor, tolerance: float) -> bool:
    scale = max(1.0, float(first.abs().max()))
    return torch.allclose(first, second, rtol=0, atol=tolerance * scale, equal_nan=True)


def _shortened(error: Exception) -> str:
    return repr(error)[:_LONGEST]


def _refused(spec: NetworkSpec, why: str) -> InputError:
    return InputError(f"arch={spec.arch!r}: {why}")
