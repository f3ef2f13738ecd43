"""Networks by name: one kind a file, which may register a row of sizes.

An architecture is a function that returns a freshly initialised `torch.nn.Module`, from images float32
(N, in_channels, H, W) to logits (N, num_classes). Weights come from torch's global generator. The function's parameters say
what it uses:

| parameter | what it is |
| --- | --- |
| `num_classes` | K, the outputs |
| `in_channels` | channels of the images |
| `image_size` | their height and width |
| `arch_args` | what the user set of the arguments that the architecture declares |

| trait | what it declares | default |
| --- | --- | --- |
| `side` | side in pixels that images are brought to where none is asked for | the images' own |
| `channels` | channels that it takes | those of the images |
| `smallest` | the least side that it takes | any |
| `arguments` | argument of `arch_args` -> the values that it may take | no arguments |
| `channels_last` | it computes the same with channels last in memory; otherwise that is tried | False |

Imports without torch, so that the command line is parsed at once: heavy imports stand inside the functions.
"""

from sensai.parts import Family

ARCHITECTURES = Family(
    "architecture",
    __name__,
    "sensai.architectures",
    ("num_classes", "in_channels", "image_size", "arch_args"),
    {"side": None, "channels": None, "smallest": None, "arguments": {}, "channels_last": False},
)
# The traits of networks for the images of CIFAR.
CIFAR = {"side": 32, "channels": 3, "smallest": 32, "channels_last": True}
