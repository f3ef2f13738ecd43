"""Trained weights of other repositories, adopted without executing anything in them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sensai.documents import shown
from sensai.errors import InputError
from sensai.models.resnet import ParameterFreeShortcut
from sensai.models.widths import load_tensors

TORCH_SUFFIXES = (".pth", ".tar", ".th", ".pt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
_NESTED_KEYS = ("state_dict", "model_state_dict", "net", "model")
_PARALLEL_PREFIX = "module."
# How torch names what it refuses: "Unsupported global: GLOBAL os.system was ...", "unsupported GLOBAL posix.mkdir whose ...".
_REFUSED = re.compile(r"unsupported (?:global|class)\W+(?:global )?([\w.]+)", re.IGNORECASE)

# Key parts that stand in a checkpoint, and those that replace them.
Renames = Sequence[tuple[str, str]]


def read_checkpoint(path: Path, renames: Renames = ()) -> dict[str, Tensor]:
    """The state dict in a checkpoint file, on the CPU, without the `module.` prefix of data-parallel training.

    Args:
        path: `.safetensors`, or a file of `torch.save` read with `weights_only=True`, holding a state dict either
            plainly or under `state_dict`, `model_state_dict`, `net` or `model`.
        renames: see `rename_keys`; they see the keys as they stand in the file.

    Raises:
        InputError: no such file, another kind of file, a corrupt one, one without a state dict, or a renaming that
            changes nothing.
    """
    if not path.is_file():
        raise InputError(f"checkpoint={str(path)!r}: there is no such file")
    if path.suffix not in SUFFIXES:
        raise InputError(f"checkpoint={str(path)!r}: allowed file types are {', '.join(SUFFIXES)}")
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else _read_torch(path)
    # torch.load raises many types (pickle, zip, EOF, runtime errors) for a file that is damaged or not plain weights.
    except Exception as error:
        raise InputError(f"checkpoint={str(path)!r}: cannot be read as plain weights ({_reason(error)})") from error
    for key in _NESTED_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"checkpoint={str(path)!r}: holds no state dict, plainly or under {', '.join(_NESTED_KEYS)}")
    if unnamed := [key for key in content if not isinstance(key, str)]:
        raise InputError(f"checkpoint={str(path)!r}: its keys must be names, but one is {shown(unnamed[0])}")
    renamed = rename_keys(content, renames, path)
    return {key.removeprefix(_PARALLEL_PREFIX): value for key, value in renamed.items()}


class _Arguments:
    """Stands for the command line that training scripts store beside the weights; it holds values and does nothing."""


def _read_torch(path: Path) -> Any:
    with torch.serialization.safe_globals([(_Arguments, "argparse.Namespace")]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if refused := _REFUSED.search(text):
        return f"it holds {refused[1]}, which is code and is not run; save the state dict by itself"
    # Before this, torch advises to read it unsafely.
    lines = text.rpartition("WeightsUnpickler error: ")[2].strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def rename_keys(tensors: dict[str, Tensor], renames: Renames, source: Path) -> dict[str, Tensor]:
    """A state dict under other keys.

    A pair (old, new) replaces `old`, one or more whole dot-separated parts, wherever in a key it stands; an empty `new`
    leaves it out. Pairs apply one after the other: `linear` -> `fc` makes `fc.weight` of `linear.weight` and leaves
    `linear1.weight` alone; `module.encoder` -> `features` makes `features.0.bias` of `module.encoder.0.bias`.

    Raises:
        InputError: a pair that changes no key, or two keys that become one.
    """
    for old, new in renames:
        parts = re.compile(rf"(?<![^.]){re.escape(old)}(?![^.])")
        if not any(map(parts.search, tensors)):
            first = next(iter(tensors))
            raise InputError(f"rename='{old}={new}': no key of {str(source)!r} has this part; the first is {first!r}")
        renamed = {_replaced(key, parts, new): value for key, value in tensors.items()}
        if len(renamed) < len(tensors):
            raise InputError(f"rename='{old}={new}': makes two keys of {str(source)!r} the same")
        tensors = renamed
    return tensors


def _replaced(key: str, parts: re.Pattern[str], new: str) -> str:
    return ".".join(part for part in parts.sub(lambda _: new, key).split(".") if part)


def adopt(model: nn.Module, tensors: dict[str, Tensor], source: Path, auxiliary: Sequence[str] = ()) -> None:
    """Load a state dict into the network, strictly.

    Counters of batch norms (`num_batches_tracked`) may be absent, which do not enter the result, and the constants of
    parameter-free shortcuts.

    Args:
        model: filled in place.
        tensors: its state dict.
        source: the file, for the messages.
        auxiliary: first parts of keys that are left out: heads which only training has.

    Raises:
        InputError: names the first key that is missing, unexpected or of another shape.
    """
    own = model.state_dict()
    tensors = {key: value for key, value in tensors.items() if key.partition(".")[0] not in auxiliary}
    constants = {f"{name}.weight" for name, each in model.named_modules() if isinstance(each, ParameterFreeShortcut)}
    untrained = {key: value for key, value in own.items() if key in constants or key.endswith("num_batches_tracked")}
    tensors = {**untrained, **tensors}
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
    load_tensors(model, tensors)
