"""Operations of the exported graph by their effect on channels. An operation in no table may do anything."""

import re
from typing import Any

from torch import nn

from sensai.models.widths import BatchNorm, InstanceNorm

# These work element by element too, although they lack the tag `torch.Tag.pointwise`.
ELEMENTWISE = frozenset({"hardswish", "log_sigmoid"})
UNCHANGED = frozenset(
    {"contiguous", "clone", "alias", "detach", "to", "_to_copy", "lift_fresh_copy"}
    | {"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"}
)
MOVES = frozenset(
    {"view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "repeat"}
    | {"permute", "transpose", "swapaxes", "movedim", "t", "roll", "flip"}
    | {"channel_shuffle", "pixel_shuffle", "pixel_unshuffle"}
    | {"slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind"}
)
REDUCTIONS = frozenset({"mean", "sum", "amax", "amin"})
LAYERS: dict[str, Any] = {
    "conv2d": nn.Conv2d,
    "linear": nn.Linear,
    "batch_norm": BatchNorm,
    "instance_norm": InstanceNorm,
    "prelu": nn.PReLU,
}
# These layers may have no tensors of their own.
NORMS = frozenset({"batch_norm", "instance_norm"})

_POOL = re.compile(
    r"(?:(?:adaptive_)?(?:avg|max)_(?:un)?pool|upsample_(?:nearest|linear|bilinear|bicubic|trilinear)|_upsample_nearest_exact)"
    r"([123])d(?:_with_indices)?"
)
_CONVOLUTION = re.compile(r"conv(_transpose)?[123]d")
OUT_OF_SCOPE = "is out of scope: convolutions are cut where they are two-dimensional and not transposed"


def pooled_axes(name: str) -> int:
    """Return the number of pixel axes that an operation pools or resizes channel by channel; 0 for other operations."""
    match = _POOL.fullmatch(name)
    return int(match[1]) if match else 0


def why_unknown(name: str) -> str:
    """Return the reason why the inputs of an operation that is not followed keep their channels."""
    if name in ("conv2d", "linear"):
        return f"the weights of a {name} are not those of one layer alone"
    if _CONVOLUTION.fullmatch(name):
        return f"{name} {OUT_OF_SCOPE}"
    return f"{name} may mix its channels with others"
