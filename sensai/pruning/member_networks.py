"""Make the network of a member: a pruned network with the head's rows of the member's classes."""

import numpy as np
import torch
from torch import nn

from sensai.models.widths import layer_widths, set_layer_widths
from sensai.pruning.cutting import prune, set_widths
from sensai.sites import Plan, SiteMap


def head_rows(group_size: int, num_classes: int) -> int:
    """Return the number of outputs of a member: 1 for one class, K for all K, else 1 + g."""
    return group_size if group_size in (1, num_classes) else 1 + group_size


def member_network(
    model: nn.Module, sites: SiteMap, plan: Plan, classes: tuple[int, ...], num_classes: int
) -> nn.Module:
    """Return the pruned network of one member.

    It keeps the rows of the head that belong to its classes. A group of more than one class, but not of all, gets a row at
    index 0 for "none of mine", with zero weight and bias.
    """
    network = prune(model, sites, plan)
    head = network.get_submodule(sites.head)
    _keep_rows(head, classes)
    if head_rows(len(classes), num_classes) > len(classes):
        _prepend_none(head)
    return network


def _keep_rows(head: nn.Module, classes: tuple[int, ...]) -> None:
    rows = torch.tensor(classes)
    for name, parameter in list(head.named_parameters(recurse=False)):
        setattr(head, name, nn.Parameter(parameter.detach()[rows.to(parameter.device)]))
    set_widths(head, {"out": np.array(classes)})


def _prepend_none(head: nn.Module) -> None:
    for name, parameter in list(head.named_parameters(recurse=False)):
        none = parameter.detach().new_zeros(1, *parameter.shape[1:])
        setattr(head, name, nn.Parameter(torch.cat([none, parameter.detach()])))
    out, *rest = layer_widths(head) or ()
    set_layer_widths(head, (out + 1, *rest))
