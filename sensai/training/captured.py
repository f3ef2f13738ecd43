"""Training passes on a GPU as CUDA graphs: captured once and launched as a whole.

Kernel launches dominate for small members: the GPU finishes an operator before Python has launched the next one.
"""

import torch
from torch import Tensor, nn


def captured(model: nn.Module, device: torch.device) -> nn.Module:
    """Return a model to train: on a GPU with its passes captured, elsewhere unchanged."""
    return Captured(model) if device.type == "cuda" else model


class Captured(nn.Module):
    """A model whose forward and backward pass in training are one CUDA graph each, for batches of the first one's shape.

    Other batches (the last of an epoch) and evaluation use the model itself. Logits and gradients are the same, except
    for the order in which libraries add numbers up.
    """

    def __init__(self, model: nn.Module) -> None:
        """Capture nothing yet.

        Args:
            model: on a GPU; its parameters may change in place, but not be replaced.
        """
        super().__init__()
        self.model = model
        self._shape: torch.Size | None = None
        # A list hides the captured module: it always trains, so it must not follow the mode of this one.
        self._passes: list[nn.Module] = []

    def forward(self, images: Tensor) -> Tensor:
        """Return the model's output for images (N, C, H, W) on its device."""
        if not self.training:
            return self.model(images)
        if self._shape is None:
            self._passes, self._shape = [_capture(self.model, images)], images.shape
        return self._passes[0](images) if images.shape == self._shape else self.model(images)


def _capture(model: nn.Module, images: Tensor) -> nn.Module:
    """Return the passes for images of this shape in the current precision; the model's buffers stay as they were."""
    before = [buffer.clone() for buffer in model.buffers()]
    kind = images.device.type
    # A cache of cast weights would lie outside the graph.
    with torch.autocast(
        kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
    ):
        # Gradients come from the stream of the capture. torch warns of that, because it must wait for an event.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        # The capture replaces `forward`, so the model is wrapped.
        passes = nn.Sequential(model)
        torch.cuda.make_graphed_callables(passes, (images.clone(),))
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)
    return passes
