"""Trained weights of other repositories, adopted without executing anything in them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sensai.errors import InputError

TORCH_SUFFIXES = (".pth", ".tar", ".th", ".pt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
_NESTED_KEYS = ("state_dict", "net", "model")
_PARALLEL_PREFIX = "module."


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, on the CPU, without the `module.` prefix of data-parallel training.

    Args:
        path: `.safetensors`, or a file of `torch.save` read with `weights_only=True`, holding a state dict either
            plainly or under `state_dict`, `net` or `model`.

    Raises:
        InputError: no such file, another kind of file, a corrupt one, or one without a state dict.
    """
    if not path.is_file():
        raise InputError(f"checkpoint={str(path)!r}: there is no such file")
    if path.suffix not in SUFFIXES:
        raise InputError(f"checkpoint={str(path)!r}: allowed file types are {', '.join(SUFFIXES)}")
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else _read_torch(path)
    # torch.load raises many types (pickle, zip, EOF, runtime errors) for a file that is damaged or not plain weights.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"checkpoint={str(path)!r}: cannot be read as plain weights ({reason[:160]})") from error
    for key in _NESTED_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"checkpoint={str(path)!r}: holds no state dict, plainly or under {', '.join(_NESTED_KEYS)}")
    return {key.removeprefix(_PARALLEL_PREFIX): value for key, value in content.items()}


def _read_torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def adopt(model: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Load a state dict into the network, strictly.

    Counters of batch norms (`num_batches_tracked`) may be absent; they do not enter the result.

    Raises:
        InputError: names the first key that is missing, unexpected or of another shape.
    """
    own = model.state_dict()
    counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
    tensors = {**counters, **tensors}
    problems = [
        *(f"missing {key!r}" for key in sorted(own.keys() - tensors.keys())[:1]),
        *(f"unexpected {key!r}" for key in sorted(tensors.keys() - own.keys())[:1]),
        *[
            f"{key!r} has shape {tuple(tensors[key].shape)}, not {tuple(own[key].shape)}"
            for key in own
            if key in tensors and tensors[key].shape != own[key].shape
        ][:1],
    ]
    if problems:
        raise InputError(f"checkpoint={str(source)!r} does not fit the network: first {'; first '.join(problems)}")
    model.load_state_dict(tensors, strict=True)
