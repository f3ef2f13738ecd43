"""What the user's own network must do at every call, in evaluation and in training: held when it is adopted."""

import copy

import torch
from torch import Tensor, nn

from sensai.errors import InputError
from sensai.models.factory import NetworkSpec

# Twice in each mode: what goes wrong with the state that a call leaves shows in the next one.
_CALLS = 2
_IMAGES = 2
# Of the largest answer: what the same call, and what the same images in a batch of another size, may differ by.
_SAME, _SAME_ALONE = 1e-5, 1e-3
# Noise on the weights, so that chance shows behind layers which start at zero.
_NOISE = 0.01
# Characters of an error that a message repeats.
_LONGEST = 160


def check_modes(network: nn.Module, spec: NetworkSpec) -> None:
    """Hold a network to what evaluation and training take for granted. It is copied, and stays as it is.

    Raises:
        InputError: it has no parameters or cannot be copied; it fails, or gives something else than one logit a class; in
            evaluation the answers differ from call to call or depend on the rest of the batch; in training no gradient comes
            back.
    """
    if next(network.parameters(), None) is None:
        raise _refused(spec, "has no parameters: there is nothing to train and nothing to cut")
    try:
        tried = copy.deepcopy(network)
    # The user's own network may raise anything.
    except Exception as error:
        raise _refused(spec, f"cannot be copied, as members are out of it ({_told(error)})") from error
    images = torch.randn(_IMAGES, *spec.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _shake(tried)
        _check_evaluation(tried.eval(), spec, images)
        _check_training(tried.train(), spec, images)


@torch.no_grad()
def _shake(network: nn.Module) -> None:
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.add_(_NOISE * torch.randn_like(parameter))


@torch.no_grad()
def _check_evaluation(network: nn.Module, spec: NetworkSpec, images: Tensor) -> None:
    first, *others = (_answer(network, spec, images) for _ in range(_CALLS))
    if not all(_close(first, other, _SAME) for other in others):
        raise _refused(
            spec,
            "its answers to the same images differ from call to call in evaluation mode (dropout that is always on?)",
        )
    alone = torch.cat([_answer(network, spec, image) for image in images.split(1)])
    if not _close(first, alone, _SAME_ALONE):
        raise _refused(
            spec, "its answer to an image depends on the others of the batch in evaluation mode (a norm of the batch?)"
        )


def _check_training(network: nn.Module, spec: NetworkSpec, images: Tensor) -> None:
    trained = any(parameter.requires_grad for parameter in network.parameters())
    for _ in range(_CALLS):
        output = _answer(network, spec, images)
        if trained and not output.requires_grad:
            raise _refused(spec, "its logits carry no gradient in training mode (no_grad around all of it?)")
        if trained:
            _go_back(output, spec)


def _go_back(output: Tensor, spec: NetworkSpec) -> None:
    try:
        output.sum().backward()
    except Exception as error:
        raise _refused(spec, f"fails in the backward pass ({_told(error)})") from error


def _answer(network: nn.Module, spec: NetworkSpec, images: Tensor) -> Tensor:
    """Logits float (N, K) for images (N, C, H, W)."""
    mode = "training" if network.training else "evaluation"
    expected = (len(images), spec.num_classes)
    try:
        output = network(images.clone())
    except Exception as error:
        raise _refused(spec, f"fails in {mode} mode on a batch of {len(images)} ({_told(error)})") from error
    if isinstance(output, Tensor) and output.shape == expected and output.is_floating_point():
        return output
    given = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise _refused(spec, f"gives {given} for a batch of {len(images)} in {mode} mode, not floats {expected}")


def _close(first: Tensor, second: Tensor, tolerance: float) -> bool:
    scale = max(1.0, float(first.abs().max()))
    return torch.allclose(first, second, rtol=0, atol=tolerance * scale, equal_nan=True)


def _told(error: Exception) -> str:
    return repr(error)[:_LONGEST]


def _refused(spec: NetworkSpec, why: str) -> InputError:
    return InputError(f"arch={spec.arch!r}: {why}")
