"""Fit images to the size and channel count of a network, by one rule.

The size is `image_size` if given, else what the architecture asks for, else the images' own, if all have one size. Images
that grow by at most a quarter are padded evenly with zeros (28 -> 32). All others are scaled until the shorter side fits
(bilinear, antialiased) and cropped at the centre. Grey images are repeated for a network of three channels; colour images
for a network of one channel are refused.
"""

from collections.abc import Callable

import numpy as np

from sensai.data.dataset_names import InputRule
from sensai.errors import InputError

# Returns images uint8 (N, C, h, w) in another height and width.
Scale = Callable[[np.ndarray, tuple[int, int]], np.ndarray]

_LARGEST_PADDING = 1.25


def target_size(requested: int | None, rule: InputRule, native: tuple[int, int] | None) -> tuple[int, int]:
    """Return the height and width of the fitted images.

    Args:
        requested: the parameter `image_size`, if given.
        rule: what the architecture asks for.
        native: the size of all images, or None if they differ.

    Raises:
        InputError: neither is given and the images differ in size, or the size is too small for the network.
    """
    if requested and rule.smallest and requested < rule.smallest:
        raise InputError(f"image_size={requested}: the network takes {rule.smallest} and more")
    side = requested or rule.image_size
    if side is not None:
        return (side, side)
    if native is None:
        raise InputError("image_size='': the images differ in size; give the side in pixels, e.g. image_size=32")
    return native


def target_channels(rule: InputRule, native: int) -> int:
    """Return the number of channels of the fitted images.

    Raises:
        InputError: colour images for a network of one channel.
    """
    channels = rule.channels or native
    if channels not in (native, 3) or (native not in (1, channels)):
        raise InputError(f"dataset: its images have {native} channels, the network takes {channels}")
    return channels


def fit(images: np.ndarray, size: tuple[int, int], channels: int, scale: Scale | None = None) -> np.ndarray:
    """Return images of one size fitted to another by the module's rule.

    Args:
        images: uint8, shape (N, C, h, w).
        size: height and width of the result.
        channels: channel count of the result, C or (from C = 1) 3.
        scale: returns images in another height and width; default: torch does, as fast as can be.

    Returns:
        uint8, shape (N, channels, *size).
    """
    if images.shape[2:] != size:
        images = _resize(images, size, scale or _by_torch)
    if images.shape[1] != channels:
        images = np.repeat(images, channels, axis=1)
    return images


def _resize(images: np.ndarray, size: tuple[int, int], scale: Scale) -> np.ndarray:
    height, width = images.shape[2:]
    (to_height, to_width) = size
    enlargement = max(to_height / height, to_width / width)
    if to_height >= height and to_width >= width and enlargement <= _LARGEST_PADDING:
        top, left = (to_height - height) // 2, (to_width - width) // 2
        return np.pad(images, ((0, 0), (0, 0), (top, to_height - height - top), (left, to_width - width - left)))
    images = scale(images, (max(round(height * enlargement), to_height), max(round(width * enlargement), to_width)))
    top, left = (images.shape[2] - to_height) // 2, (images.shape[3] - to_width) // 2
    return images[:, :, top : top + to_height, left : left + to_width]


def _by_torch(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # Imported here, since cached results are found without torch.
    import torch
    import torch.nn.functional as F

    tensor = torch.from_numpy(np.ascontiguousarray(images))
    scaled: np.ndarray = F.interpolate(tensor, size, mode="bilinear", antialias=True).numpy()
    return scaled
