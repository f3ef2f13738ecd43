"""Networks of timm (PyTorch Image Models), which is optional, built without weights."""

from typing import Any

from torch import nn

from sensai.data.dataset_names import InputRule
from sensai.errors import InputError, suggestion
from sensai.models.libraries.library_names import TIMM

try:
    import timm
    from timm.models import get_pretrained_cfg
except ModuleNotFoundError as error:
    raise InputError(
        f"arch='{TIMM}<name>': needs the package timm, which is not installed (pip install timm)"
    ) from error

# Arguments of `timm.create_model` that data and parameters decide, that change what a network returns, or that would download.
_GIVEN = ("num_classes", "in_chans", "img_size")
_REFUSED = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
    *("features_only", "out_indices", "scriptable", "exportable", "no_jit"),
)


def names() -> list[str]:
    """Return all names."""
    return timm.list_models()


def input_rule(name: str) -> InputRule:
    """Return three channels, and the image size of the network's default weights.

    Raises:
        InputError: timm has no such network.
    """
    _check_name(name)
    configuration = get_pretrained_cfg(name)
    if configuration is None:
        return InputRule(image_size=None, channels=3)
    side = configuration.input_size[1]
    least = configuration.min_input_size
    smallest = side if configuration.fixed_input_size else max(least[1:]) if least else None
    return InputRule(image_size=side, channels=3, smallest=smallest)


def auxiliary_heads(_name: str) -> tuple[str, ...]:
    """Return nothing: timm's checkpoints hold what its networks hold."""
    return ()


def build(name: str, num_classes: int, input_shape: tuple[int, int, int], arguments: dict[str, Any]) -> nn.Module:
    """Return a freshly initialised network.

    Args:
        name: its name in timm.
        num_classes: K, the outputs.
        input_shape: (C, H, W) of one image.
        arguments: keyword arguments of `timm.create_model` for this network.

    Raises:
        InputError: there is no such network, or it does not take an argument or a value.
    """
    _check_name(name)
    for key in arguments:
        if key in (*_GIVEN, *_REFUSED):
            raise InputError(f"arch_args: {TIMM}{name} takes arguments of the network, not {key!r}")
    channels, height, width = input_shape
    configuration = get_pretrained_cfg(name)
    # Only these, mostly transformers, take the size; others refuse the argument.
    sized: dict[str, Any] = {"img_size": (height, width)} if configuration and configuration.fixed_input_size else {}
    try:
        return timm.create_model(name, num_classes=num_classes, in_chans=channels, **sized, **arguments)
    # The constructors may raise any error for values that they cannot use.
    except Exception as error:
        raise InputError(f"arch_args={arguments!r}: timm cannot build {name} of these ({error!r})") from error


def _check_name(name: str) -> None:
    if name not in names():
        raise InputError(f"arch={TIMM + name!r}: timm has no such network; {suggestion(name, names())}")
