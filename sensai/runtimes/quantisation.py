"""Quantise members to 8-bit integers by ONNX Runtime's static quantisation.

Their answers differ a little, so their accuracy must be measured too.
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
    """Return the members with integer weights (a scale for each channel) and activations, for ONNX Runtime.

    Args:
        prepared: the exact members; they are not changed.
        images: validation images uint8 (N, H, W, C); their activations give the ranges.
    """
    values = prepared.normalised(images)
    return Prepared([_QuantisedMember(member, values) for member in prepared.members], prepared.normalization)


class _Images(CalibrationDataReader):
    """Feed the calibration one image at a time."""

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
        """Return the model in QDQ form: each integer operator stands between quantise and dequantise."""
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
