"""Which images a registered ensemble takes. N images of H x W pixels, C channels."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Dtype = Literal["uint8", "float32"]
Layout = Literal["NHWC", "NCHW"]


@dataclass(frozen=True)
class ImageFormat:
    """How images come.

    Attributes:
        dtype: uint8 from 0 to 255, or float32 from 0 to 1.
        layout: channels last or first.
    """

    dtype: Dtype = "uint8"
    layout: Layout = "NHWC"

    @classmethod
    def of_manifest(cls, manifest: dict[str, Any]) -> "ImageFormat":
        """What a bundle's manifest says."""
        return cls(manifest["dtype"], manifest["layout"])

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """Of one image."""
        return (height, width, channels) if self.layout == "NHWC" else (channels, height, width)

    def pixels_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(H, W, C) of an image of that shape."""
        first, second, third = shape
        return (first, second, third) if self.layout == "NHWC" else (second, third, first)

    def of_pixels(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 (N, H, W, C) as they are taken."""
        ordered = images if self.layout == "NHWC" else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        return ordered if self.dtype == "uint8" else ordered.astype(np.float32) / np.float32(255)

    def to_pixels(self, images: Tensor) -> Tensor:
        """(N, C, H, W) from 0 to 255, as normalisation takes them."""
        ordered = images.permute(0, 3, 1, 2) if self.layout == "NHWC" else images
        return ordered if images.dtype == torch.uint8 else ordered * 255

    def example(self, channels: int, height: int, width: int) -> Tensor:
        """Two black images."""
        return torch.zeros(2, *self.shape(channels, height, width), dtype=getattr(torch, self.dtype))
