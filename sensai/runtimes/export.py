"""Export networks as ONNX models."""

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence

import onnx
import torch
from onnx.utils import Extractor
from torch import Tensor, nn
from torch.fx import GraphModule

from sensai.runtimes.folding import folded

INPUT = "images"


class _Combined(nn.Module):
    """Several networks on one input, and one output of all theirs."""

    def __init__(self, networks: Sequence[nn.Module], combine: Callable[[list[Tensor]], Tensor]) -> None:
        super().__init__()
        self.networks = Together(networks)
        self.combine = combine

    def forward(self, images: Tensor) -> Tensor:
        """Return the combination of their outputs."""
        return self.combine(self.networks(images))


class Together(nn.Module):
    """Several networks on one input."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the outputs of each."""
        return [network(images) for network in self.networks]


def export_onnx(networks: Sequence[nn.Module], example: Tensor) -> list[onnx.ModelProto]:
    """Export networks in eval mode without their batch norms.

    Each model takes any number of images as `images`, and has one output. ONNX Runtime fuses convolution, addition and ReLU in
    its own blocked layout, but not behind a batch norm. All networks are exported at once, since the exporter takes seconds
    to start.

    Args:
        networks: on the CPU; or what `folded` made of them.
        example: any input of at least two images.
    """
    graphs = [network if isinstance(network, GraphModule) else folded(network, example) for network in networks]
    outputs = [f"outputs_{number}" for number in range(len(graphs))]
    model = _exported(Together(graphs), example, outputs)
    extractor = Extractor(model)
    models = [extractor.extract_model([INPUT], [output]) for output in outputs]
    for each in models:
        # The exporter lists input and output among the inner values too. Shapes are inferred again anyway.
        del each.graph.value_info[:]
    return models


def export_combined(
    networks: Sequence[nn.Module], combine: Callable[[list[Tensor]], Tensor], example: Tensor
) -> onnx.ModelProto:
    """Export networks and the combination of their outputs as one model, from `images` to `probabilities`.

    Args:
        networks: on the CPU, in eval mode.
        combine: returns one tensor from the outputs of all networks.
        example: any input of at least two images.
    """
    graphs = [folded(network, example) for network in networks]
    return _exported(_Combined(graphs, combine), example, ["probabilities"])


def _exported(network: nn.Module, example: Tensor, outputs: Sequence[str]) -> onnx.ModelProto:
    """Return a network as an ONNX model that takes any number of images."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # The exporter reports each step, and warns of its own internals.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=[INPUT],
            output_names=list(outputs),
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return program.model_proto
