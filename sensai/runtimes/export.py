"""Export networks as ONNX models."""

import contextlib
import io
import warnings
from collections.abc import Sequence

import onnx
import torch
from onnx.utils import Extractor
from torch import Tensor, nn
from torch.fx import GraphModule

from sensai.runtimes.folding import folded

INPUT = "images"


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
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # The exporter reports each step, and warns of its own internals.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Together(graphs),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=[INPUT],
            output_names=outputs,
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    extractor = Extractor(program.model_proto)
    models = [extractor.extract_model([INPUT], [output]) for output in outputs]
    for model in models:
        # The exporter lists input and output among the inner values too. Shapes are inferred again anyway.
        del model.graph.value_info[:]
    return models
