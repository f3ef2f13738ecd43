"""Store networks: safetensors for the weights, JSON for the specification and the widths."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sensai.files import whole_file, write_text, writing
from sensai.models.factory import NetworkSpec, build
from sensai.models.widths import load_narrow, widths
from sensai.models.wrappers import unwrap

WEIGHTS_FILE = "weights.safetensors"
SPEC_FILE = "network.json"


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the state dict of a network.

    Raises:
        StorageError: it cannot be written.
    """
    # The tensors are cloned, because a layer with two names shares its memory, which safetensors refuses.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    with whole_file(path, size_of(tensors)) as temporary:
        save_file(tensors, temporary)


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """Return the bytes of tensors, which are nearly all of their file."""
    return sum(tensor.nbytes for tensor in tensors.values())


def describe(model: nn.Module, spec: NetworkSpec) -> dict[str, Any]:
    """Return the specification and widths of a network as JSON values."""
    return {"spec": spec.to_json(), "widths": {name: list(sizes) for name, sizes in widths(model).items()}}


def rebuild(
    description: dict[str, Any], weights: Path, network: nn.Module | None = None
) -> tuple[nn.Module, NetworkSpec]:
    """Return the network of a description and a weights file, in eval mode, bit for bit as it was saved.

    Args:
        description: see `describe`.
        weights: see `save_weights`.
        network: of the same architecture, where no name makes one; it is not changed.
    """
    spec = replace(NetworkSpec.from_json(description["spec"]), network=network)
    target = {name: tuple(sizes) for name, sizes in description["widths"].items()}
    tensors = load_file(weights)
    # Weights are stored without their wrappers, except by versions that did not unwrap layers.
    return load_narrow(unwrap(build(spec), tensors), target, tensors).eval(), spec


def save_network(model: nn.Module, spec: NetworkSpec, folder: Path) -> None:
    """Write a network into a folder, the JSON last.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / WEIGHTS_FILE)
    write_text(folder / SPEC_FILE, json.dumps(describe(model, spec), indent=1))


def load_network(folder: Path, network: nn.Module | None = None) -> tuple[nn.Module, NetworkSpec]:
    """Return the network that `save_network` wrote, with its specification (see `rebuild`)."""
    return rebuild(json.loads((folder / SPEC_FILE).read_text()), folder / WEIGHTS_FILE, network)
