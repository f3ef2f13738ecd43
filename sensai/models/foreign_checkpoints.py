"""Trained weights of other repositories, adopted without executing anything in them."""

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
# Under which tools keep weights, the first that is there counts; `ema` and its like are averages over the training.
_NESTED_KEYS = (
    *("state_dict", "model_state_dict", "net", "model", "weights"),
    *("state_dict_ema", "model_ema", "ema"),
)
# Of data-parallel training, and of torch.compile.
_PREFIX = re.compile(r"(module\.|_orig_mod\.)+")
# How torch names what it refuses: "Unsupported global: GLOBAL os.system was ...", "unsupported GLOBAL posix.mkdir whose ...".
_REFUSED = re.compile(r"unsupported (?:global|class)\W+(?:global )?([\w.]+)", re.IGNORECASE)
# What training scripts store beside the weights.
_ARGUMENTS = "argparse.Namespace"
_NUMPY = ("scalar", "_reconstruct")
_BESIDE = (
    *(_ARGUMENTS, "numpy.dtype", "numpy.ndarray"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in _NUMPY),
)
# Entries that a message names.
_NAMED = 3

# Key parts that stand in a checkpoint, and those that replace them.
Renames = Sequence[tuple[str, str]]


def read_checkpoint(
    path: Path, renames: Renames = (), *, checkpoint_key: str = "", drop: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint file, on the CPU, without the `module.` prefix of data-parallel training.

    Args:
        path: `.safetensors`, or a file of `torch.save` read with `weights_only=True`, holding a state dict either
            plainly or under the keys that tools use, as `state_dict`, `model`, `ema` or `model.state_dict`.
        renames: see `rename_keys`; they see the keys as they stand in the file.
        checkpoint_key: where the state dict stands, dots between levels; empty: the first place where there is one.
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
    """Stands for what is stored beside the weights and is not needed; it holds values and does nothing."""

    def __init__(self, *_arguments: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


def _read_torch(path: Path) -> Any:
    with torch.serialization.safe_globals([(_Inert, name) for name in _BESIDE]), warnings.catch_warnings():
        # torch warns of kinds of tensors and files that are refused by name.
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if refused := _REFUSED.search(text):
        return f"it holds {refused[1]}, which is code and is not run; save the state dict by itself"
    # Before this, torch advises to read it unsafely.
    lines = text.rpartition("WeightsUnpickler error: ")[2].strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _chosen(content: Any, checkpoint_key: str, path: Path) -> dict[str, Any]:
    """The state dict that `checkpoint_key` names, or the first one.

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
    """The state dict at a place, or the first one below it."""
    inside, rest = content, checkpoint_key
    while rest and isinstance(inside, Mapping):
        # A key may hold dots itself.
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
    """Every state dict that stands where tools put it, by its place; a plain one has the place ""."""
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
        entries: by key, as it stands in the file.
        drop: shell patterns of whole keys, where `*` also stands for dots; `module.` in front of a key does not count.
        source: the file, for the messages.

    Raises:
        InputError: a pattern that fits no key, or that nothing is left.
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
    parameter-free shortcuts. Where nothing else is missing, entries that the network has no place for are left out with a
    warning: profilers leave such, and heads that only training has.

    Args:
        model: filled in place.
        tensors: its state dict.
        source: the file, for the messages.
        auxiliary: first parts of keys that are left out: heads which only training has.

    Raises:
        InputError: names the first key that is missing, unexpected, of another shape or without the values of weights.
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
    """Why an entry cannot be what the network computes with; empty where it can."""
    if given.layout is not torch.strided or given.is_quantized or given.is_meta:
        kind = "without values" if given.is_meta else "quantised" if given.is_quantized else f"{given.layout}"
        return f"is {kind}, not a dense tensor"
    if given.is_complex() or (own.is_floating_point() and not given.is_floating_point()):
        return f"is {_name(given)}, not {_name(own)}"
    # In the network's own precision, in which a large value of float64 is none.
    values = given.to(own.dtype) if own.is_floating_point() else given.double()
    if not bool(values.isfinite().all()):
        return "is not finite (NaN or infinity); take the weights of an earlier epoch"
    if key.rpartition(".")[2] == "running_var" and bool((values < 0).any()):
        return "is negative, which no variance is"
    return ""


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
