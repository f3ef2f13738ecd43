"""Training passes on a GPU as CUDA graphs: captured once and launched as a whole.

Small members are done with an operator before Python has launched the next one, so that the GPU waits most of the time.
"""

import torch
from torch import Tensor, nn


def captured(model: nn.Module, device: torch.device) -> nn.Module:
    """A model to train: on a GPU with its passes captured, elsewhere as it is."""
    return Captured(model) if device.type == "cuda" else model


class Captured(nn.Module):
    """A model whose forward and backward pass in training are one CUDA graph each, for batches of the shape that came first.

    Other batches (the last of an epoch) and evaluation go through the model as it is. What it answers and what its parameters'
    gradients are is the same either way, but for the order in which libraries add numbers up.
    """

    def __init__(self, model: nn.Module) -> None:
        """Capture nothing yet.

        Args:
            model: on a GPU; its parameters may change in place, but not be replaced.
        """
        super().__init__()
        self.model = model
        self._shape: torch.Size | None = None
        # Not a submodule: a capture is of training, whatever mode the model is in later.
        self._passes: list[nn.Module] = []

    def forward(self, images: Tensor) -> Tensor:
        """The model's answer to images (N, C, H, W) on its device."""
        if not self.training:
            return self.model(images)
        if self._shape is None:
            self._passes, self._shape = [_capture(self.model, images)], images.shape
        return self._passes[0](images) if images.shape == self._shape else self.model(images)


def _capture(model: nn.Module, images: Tensor) -> nn.Module:
    """The passes for images of this shape, in the precision that is in force; the model's buffers are left as they were."""
    before = [buffer.clone() for buffer in model.buffers()]
    kind = images.device.type
    # Weights that are cast once for many passes would lie outside the graph.
    with torch.autocast(
        kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
    ):
        # The gradients come from the stream of the capture, of which torch warns since it has to wait for an event.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        # Within a module of its own, since its `forward` is replaced.
        passes = nn.Sequential(model)
        torch.cuda.make_graphed_callables(passes, (images.clone(),))
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)
    return passes
