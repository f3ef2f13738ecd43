"""Members in 8-bit integers, by ONNX Runtime's static quantisation. They answer a little differently, so that they are worth
nothing without their accuracy.
"""

import copy
from functools import cached_property

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from sensai.files import temporary_folder
from sensai.runtimes.export import INPUT
from sensai.runtimes.prepared import Prepared, PreparedMember


def quantised(prepared: Prepared, images: np.ndarray) -> Prepared:
    """The same members with integer weights (a scale for each channel) and activations, for the runtimes of ONNX Runtime.

    Args:
        prepared: stays as it is.
        images: uint8 (N, H, W, C), whose activations give the ranges; of validation data.
    """
    values = prepared.normalised(images)
    return Prepared([_QuantisedMember(member, values) for member in prepared.members], prepared.normalization)


class _Images(CalibrationDataReader):
    """One image at a time."""

    def __init__(self, images: np.ndarray) -> None:
        self._next = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._next, None)
        return None if image is None else {INPUT: image[None]}


class _QuantisedMember(PreparedMember):
    def __init__(self, exact: PreparedMember, images: np.ndarray) -> None:
        super().__init__(exact.network, exact.flops, exact._forms, exact._number)
        self._exact = exact
        self._images = images

    @cached_property
    def onnx(self) -> onnx.ModelProto:
        """Each integer operator between those that quantise and dequantise (QDQ)."""
        with temporary_folder() as folder:
            path = folder / "member.onnx"
            quantize_static(
                copy.deepcopy(self._exact.onnx),  # which it moves the weights out of
                path,
                _Images(self._images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return onnx.load(path)
