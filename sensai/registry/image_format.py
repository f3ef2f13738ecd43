"""Formats of the images that a registered ensemble takes. N images of H x W pixels, C channels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

# `predict` and `serve` do without torch.
if TYPE_CHECKING:
    from torch import Tensor

Dtype = Literal["uint8", "float32"]
Layout = Literal["NHWC", "NCHW"]


@dataclass(frozen=True)
class ImageFormat:
    """The format of images.

    Attributes:
        dtype: uint8 from 0 to 255, or float32 from 0 to 1.
        layout: channels last or first.
    """

    dtype: Dtype = "uint8"
    layout: Layout = "NHWC"

    @classmethod
    def of_manifest(cls, manifest: dict[str, Any]) -> "ImageFormat":
        """Return the format in a bundle's manifest."""
        return cls(manifest["dtype"], manifest["layout"])

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape of one image."""
        return (height, width, channels) if self.layout == "NHWC" else (channels, height, width)

    def pixels_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return (H, W, C) of an image of that shape."""
        first, second, third = shape
        return (first, second, third) if self.layout == "NHWC" else (second, third, first)

    def of_pixels(self, images: np.ndarray) -> np.ndarray:
        """Return images uint8 (N, H, W, C) in the format."""
        ordered = images if self.layout == "NHWC" else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        return ordered if self.dtype == "uint8" else ordered.astype(np.float32) / np.float32(255)

    def to_pixels(self, images: "Tensor") -> "Tensor":
        """Return (N, C, H, W) from 0 to 255, as the normalisation takes them."""
        ordered = images.permute(0, 3, 1, 2) if self.layout == "NHWC" else images
        return ordered if self.dtype == "uint8" else ordered * 255

    def example(self, channels: int, height: int, width: int) -> "Tensor":
        """Return two black images."""
        import torch

        return torch.zeros(2, *self.shape(channels, height, width), dtype=getattr(torch, self.dtype))
