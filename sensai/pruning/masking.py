"""Compute what a plan leaves in the full network, by setting the removed channels to zero."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sensai.models.widths import channel_axis
from sensai.sites import Plan, SiteMap


@contextmanager
def masked(model: nn.Module, sites: SiteMap, plan: Plan) -> Iterator[nn.Module]:
    """Yield the full network with the plan's channels set to zero behind every layer that makes them."""
    handles = []
    for (layer, side), mask in sites.kept(plan, model).items():
        if side == "out":
            module = model.get_submodule(layer)
            handles.append(module.register_forward_hook(_mask_output(torch.from_numpy(mask), channel_axis(module))))
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


def _mask_output(mask: Tensor, axis: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        shape = [1] * output.ndim
        shape[axis] = -1
        return output * mask.to(output.device).view(shape)

    return hook
