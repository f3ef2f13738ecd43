"""Classification networks of torchvision, built without weights, so that nothing is downloaded."""

import inspect
from typing import Any

from torch import nn
from torchvision import models

from sensai.data.dataset_names import InputRule
from sensai.errors import InputError, suggestion
from sensai.models.libraries.library_names import TORCHVISION

# Only training uses these heads; without them every network returns one plain tensor (N, K).
_WITHOUT_HEADS: dict[str, Any] = {"aux_logits": False, "init_weights": False}
_AUXILIARY_HEADS = ("aux1", "aux2", "AuxLogits")
# Names of the parameter for the size of the input in constructors of transformers.
_SIDE, _SIZE = "image_size", "input_size"


def names() -> list[str]:
    """Return all names."""
    return models.list_models(module=models)


def input_rule(name: str) -> InputRule:
    """Return three channels, and the image size at which the network's default weights are evaluated.

    Raises:
        InputError: torchvision has no such network.
    """
    _check_name(name)
    weights = models.get_model_weights(name).DEFAULT
    return InputRule(image_size=weights.transforms().crop_size[0], channels=3, smallest=max(weights.meta["min_size"]))


def auxiliary_heads(name: str) -> tuple[str, ...]:
    """Return the first parts of keys that torchvision's checkpoints of this network have and the network here does not."""
    return _AUXILIARY_HEADS if "aux_logits" in _constructor(name) else ()


def build(name: str, num_classes: int, input_shape: tuple[int, int, int], arguments: dict[str, Any]) -> nn.Module:
    """Return a freshly initialised network.

    Args:
        name: its name in torchvision.
        num_classes: K, the outputs.
        input_shape: (C, H, W) of one image.
        arguments: keyword arguments of the network's constructor that have a default.

    Raises:
        InputError: there is no such network, or it does not take an argument or a value.
    """
    _check_name(name)
    parameters, image_size = _constructor(name), input_shape[1:]
    given = _WITHOUT_HEADS if "aux_logits" in parameters else {}
    given = given | {key: size for key, size in {_SIDE: image_size[0], _SIZE: image_size}.items() if key in parameters}
    allowed = [
        key for key, each in parameters.items() if each.default is not each.empty and key not in {*given, "num_classes"}
    ]
    for key in arguments:
        if key not in allowed:
            raise InputError(f"arch_args: {TORCHVISION}{name} takes {', '.join(allowed)}, not {key!r}")
    try:
        return models.get_model_builder(name)(weights=None, num_classes=num_classes, **given, **arguments)
    # The constructors may raise any error for values that they cannot use.
    except Exception as error:
        raise InputError(f"arch_args={arguments!r}: torchvision cannot build {name} of these ({error!r})") from error


def _check_name(name: str) -> None:
    if name not in names():
        raise InputError(
            f"arch={TORCHVISION + name!r}: torchvision has no such classification network; {suggestion(name, names())}"
        )


def _constructor(name: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of the network's class; the builder passes its keyword arguments on to it."""
    network = inspect.signature(models.get_model_builder(name)).return_annotation
    return dict(inspect.signature(network).parameters)
