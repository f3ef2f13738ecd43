"""Networks as ONNX models."""

import contextlib
import io
import warnings

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from sensai.runtimes.folding import folded

INPUT, OUTPUT = "images", "outputs"


def export_onnx(network: nn.Module, example: Tensor) -> torch.onnx.ONNXProgram:
    """A network in eval mode without its batch norms, for any number of images; input `images`, output `outputs`.

    ONNX Runtime fuses what is left, convolution, addition and ReLU, in its own blocked layout. Behind batch norms, whose
    statistics the exporter leaves to be cast and expanded, it does neither.

    Args:
        network: on the CPU; or what `folded` made of it.
        example: any input of at least two images.
    """
    graph = network if isinstance(network, GraphModule) else folded(network, example)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # The exporter reports each of its steps, and warns of its own internals.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return program
