"""Load trained weights of other repositories without executing anything in them."""

import logging
import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sensai.errors import InputError, suggestion
from sensai.files import regular_file
from sensai.models.resnet import ParameterFreeShortcut
from sensai.models.widths import load_tensors

_log = logging.getLogger(__name__)

TORCH_SUFFIXES = (".pth", ".tar", ".th", ".pt", ".ckpt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
# Keys under which tools keep weights; the first one present counts. `ema` and similar keys hold averages over the training.
_NESTED_KEYS = (
    *("state_dict", "model_state_dict", "net", "model", "weights"),
    *("state_dict_ema", "model_ema", "ema"),
)
# Prefixes of data-parallel training and of torch.compile.
_PREFIX = re.compile(r"(module\.|_orig_mod\.)+")
# The words in which torch names what it refuses: "Unsupported global: GLOBAL os.system was ...", "unsupported GLOBAL
# posix.mkdir whose ...".
_REFUSED = re.compile(r"unsupported (?:global|class)\W+(?:global )?([\w.]+)", re.IGNORECASE)
# Training scripts store their arguments beside the weights.
_ARGUMENTS = "argparse.Namespace"
_NUMPY = ("scalar", "_reconstruct")
_BESIDE = (
    *(_ARGUMENTS, "numpy.dtype", "numpy.ndarray"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in _NUMPY),
)
# Most entries that a message names.
_NAMED = 3

# Key parts in a checkpoint, and their replacements.
Renames = Sequence[tuple[str, str]]


def read_checkpoint(
    path: Path, renames: Renames = (), *, checkpoint_key: str = "", drop: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint file, on the CPU, without the `module.` prefix of data-parallel training.

    Args:
        path: `.safetensors`, or a file of `torch.save` read with `weights_only=True`, holding a state dict either
            directly or under keys that tools use, such as `state_dict`, `model`, `ema` or `model.state_dict`.
        renames: see `rename_keys`; they apply to the keys as in the file.
        checkpoint_key: key of the state dict, dots between levels; empty: the first state dict.
        drop: see `without_dropped`.

    Raises:
        InputError: no such file, another kind of file, a corrupt one, one without a state dict there, or a renaming or a
            pattern that changes nothing.
    """
    regular_file(path, "checkpoint")
    if path.suffix not in SUFFIXES:
        raise InputError(f"checkpoint={str(path)!r}: allowed file types are {', '.join(SUFFIXES)}")
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else _read_torch(path)
    # torch.load raises many types (pickle, zip, EOF, runtime errors) for a file that is damaged or not plain weights.
    except Exception as error:
        raise InputError(f"checkpoint={str(path)!r}: cannot be read as plain weights ({_reason(error)})") from error
    entries = without_dropped(_chosen(content, checkpoint_key, path), drop, path)
    if wrong := next((key for key, value in entries.items() if not isinstance(value, Tensor)), None):
        kind = type(entries[wrong]).__name__
        raise InputError(f"checkpoint={str(path)!r}: {wrong!r} is {kind}, not a tensor; drop={wrong} leaves it out")
    renamed = rename_keys(entries, renames, path)
    return {_plain(key): value for key, value in renamed.items()}


def _plain(key: str) -> str:
    wrapper = _PREFIX.match(key)
    return key[wrapper.end() :] if wrapper else key


class _Inert:
    """Replaces objects beside the weights that are not needed; it takes values and does nothing."""

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


def _read_torch(path: Path) -> Any:
    with torch.serialization.safe_globals([(_Inert, name) for name in _BESIDE]), warnings.catch_warnings():
        # torch warns of kinds of tensors and files that are refused by name below.
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if refused := _REFUSED.search(text):
        return f"it holds {refused[1]}, which is code and is not run; save the state dict by itself"
    # The text before this marker advises to read the file unsafely.
    lines = text.rpartition("WeightsUnpickler error: ")[2].strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _chosen(content: Any, checkpoint_key: str, path: Path) -> dict[str, Any]:
    """Return the state dict that `checkpoint_key` names, or the first one.

    Raises:
        InputError: there is none.
    """
    found = dict(_state_dicts(content))
    if checkpoint_key:
        return _under(content, checkpoint_key, found, path)
    if not found:
        places = ", ".join(_NESTED_KEYS)
        raise InputError(f"checkpoint={str(path)!r}: holds no state dict, plainly or under {places}{_odd_key(content)}")
    first, *others = found
    if others:
        _log.warning(
            "checkpoint=%r: holds weights under %s; %s is taken, checkpoint_key names another",
            *(str(path), ", ".join(found), first),
        )
    return found[first]


def _under(content: Any, checkpoint_key: str, found: Collection[str], path: Path) -> dict[str, Any]:
    """Return the state dict at a key, or the first one below it."""
    inside, rest = content, checkpoint_key
    while rest and isinstance(inside, Mapping):
        # A key may contain dots itself.
        key = next((each for each in (rest, rest.partition(".")[0]) if each in inside), None)
        inside, rest = (None, rest) if key is None else (inside[key], rest[len(key) + 1 :])
    below = dict(_state_dicts(inside))
    if not below:
        places = (
            suggestion(checkpoint_key, [each for each in found if each])
            if any(found)
            else "it holds its weights plainly"
        )
        raise InputError(f"checkpoint_key={checkpoint_key!r}: {str(path)!r} holds no state dict there; {places}")
    return next(iter(below.values()))


def _state_dicts(content: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every state dict under the keys that tools use, with its key; a direct one has the key ""."""
    if not isinstance(content, dict):
        return
    nested = [key for key in _NESTED_KEYS if isinstance(content.get(key), dict)]
    for key in nested:
        yield from _state_dicts(content[key], f"{place}.{key}" if place else key)
    named = all(isinstance(key, str) for key in content)
    if not nested and named and any(isinstance(value, Tensor) for value in content.values()):
        yield place, content


def _odd_key(content: Any) -> str:
    odd = next((key for key in content if not isinstance(key, str)), None) if isinstance(content, dict) else None
    return "" if odd is None else f" (its key {odd!r} is no name)"


def without_dropped(entries: Mapping[str, Any], drop: Sequence[str], source: Path) -> dict[str, Any]:
    """Return the entries of a state dict that no pattern names.

    Args:
        entries: by key, as in the file.
        drop: shell patterns of whole keys, where `*` also matches dots; a leading `module.` of a key is ignored.
        source: the file, for the messages.

    Raises:
        InputError: a pattern fits no key, or nothing is left.
    """
    kept = dict(entries)
    for pattern in drop:
        gone = [key for key in entries if fnmatchcase(key, pattern) or fnmatchcase(_plain(key), pattern)]
        if not gone:
            raise InputError(f"drop={pattern!r}: fits no key of {str(source)!r}; the first is {next(iter(entries))!r}")
        kept = {key: value for key, value in kept.items() if key not in gone}
    if not kept:
        raise InputError(f"drop={','.join(drop)!r}: leaves nothing of {str(source)!r}")
    return kept


def rename_keys(tensors: dict[str, Tensor], renames: Renames, source: Path) -> dict[str, Tensor]:
    """Return a state dict with renamed keys.

    A pair (old, new) replaces `old`, one or more whole dot-separated parts, at any place in a key. An empty `new` removes
    the parts. Pairs apply one after the other: `linear` -> `fc` makes `fc.weight` of `linear.weight` and does not touch
    `linear1.weight`; `module.encoder` -> `features` makes `features.0.bias` of `module.encoder.0.bias`.

    Raises:
        InputError: a pair changes no key, or two keys become equal.
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

    Two kinds of entries may be missing: counters of batch norms (`num_batches_tracked`), which do not affect the result,
    and the constants of parameter-free shortcuts. If nothing else is missing, entries without a place in the network are
    ignored with a warning: profilers add such entries, and so do heads that only training uses.

    Args:
        model: filled in place.
        tensors: its state dict.
        source: the file, for the messages.
        auxiliary: first parts of keys that are ignored: heads that only training uses.

    Raises:
        InputError: a key is missing, unexpected, of another shape, or its values cannot be weights; the first is named.
    """
    own = model.state_dict()
    tensors = {key: value for key, value in tensors.items() if key.partition(".")[0] not in auxiliary}
    constants = {f"{name}.weight" for name, each in model.named_modules() if isinstance(each, ParameterFreeShortcut)}
    untrained = {key: value for key, value in own.items() if key in constants or key.endswith("num_batches_tracked")}
    tensors = {**untrained, **tensors}
    unexpected = sorted(tensors.keys() - own.keys())
    problems = [
        *(f"missing {key!r}" for key in sorted(own.keys() - tensors.keys())[:1]),
        *[
            f"{key!r} has shape {tuple(tensors[key].shape)}, not {tuple(own[key].shape)}"
            for key in own
            if key in tensors and tensors[key].shape != own[key].shape
        ][:1],
    ]
    if problems:
        problems[1:1] = [f"unexpected {key!r}" for key in unexpected[:1]]
        raise InputError(f"checkpoint={str(source)!r} does not fit the network: first {'; first '.join(problems)}")
    for key, value in own.items():
        if wrong := _why_no_weights(key, tensors[key], value):
            raise InputError(f"checkpoint={str(source)!r}: {key!r} {wrong}")
    if unexpected:
        named = ", ".join(unexpected[:_NAMED]) + (", ..." if len(unexpected) > _NAMED else "")
        _log.warning("checkpoint=%r: left out what fits no module (%d): %s", str(source), len(unexpected), named)
    load_tensors(model, {key: tensors[key] for key in own})


def _why_no_weights(key: str, given: Tensor, own: Tensor) -> str:
    """Return why an entry cannot be weights of the network; empty if it can."""
    if given.layout is not torch.strided or given.is_quantized or given.is_meta:
        kind = "without values" if given.is_meta else "quantised" if given.is_quantized else f"{given.layout}"
        return f"is {kind}, not a dense tensor"
    if given.is_complex() or (own.is_floating_point() and not given.is_floating_point()):
        return f"is {_name(given)}, not {_name(own)}"
    # The check uses the network's own precision, in which a large value of float64 is infinite.
    values = given.to(own.dtype) if own.is_floating_point() else given.double()
    if not bool(values.isfinite().all()):
        return "is not finite (NaN or infinity); take the weights of an earlier epoch"
    if key.rpartition(".")[2] == "running_var" and bool((values < 0).any()):
        return "is negative, which no variance is"
    return ""


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
