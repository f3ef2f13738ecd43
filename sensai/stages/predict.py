"""predict: Label image files, a folder of them, or frames on standard input.

A registered ensemble answers. One JSON object a frame on standard output (`label` null where it is none of the classes), with
the milliseconds that its answer took; logs their quantiles. An image that cannot be read has an `error` instead, and the
others are answered.
"""

import json
import logging
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sensai import terminal
from sensai.config import PredictConfig
from sensai.data.single_images import STREAMS, Frame, Refused, from_files
from sensai.errors import InputError
from sensai.pipeline.run_lifecycle import open_entry_run
from sensai.registry.image_format import ImageFormat
from sensai.registry.pyfunc_model import REJECTED, EnsembleModel
from sensai.registry.registered import open_model
from sensai.tracking import Run

_log = logging.getLogger(__name__)
_STANDARD_INPUT = "-"
_QUANTILES = (50, 95, 99)


def run(config: PredictConfig) -> None:
    """Answer every frame as it comes; print the answers and nothing else.

    Raises:
        InputError: there is no such model, or its files have changed; a stream breaks off; or, after all answers, images could
            not be read.
    """
    with (
        open_entry_run(config, f"{config.stage} {config.model_uri}", __doc__) as (store, run),
        open_model(store.client, config.model_uri) as model,
    ):
        _answer_all(config, model, run)
    _log.info("%s run: %s", config.stage, run.id)


def _answer_all(config: PredictConfig, model: EnsembleModel, run: Run) -> None:
    image_format = ImageFormat.of_manifest(model.bundle.manifest)
    shape = image_format.pixels_shape(model.bundle.image_shape)
    # Libraries prepare much at the first call, which would count as the first frame's latency.
    model.predict(None, image_format.of_pixels(np.zeros((1, *shape), np.uint8)))
    milliseconds = array("d")
    refused: list[str] = []
    try:
        for frame in _frames(config, shape):
            if isinstance(frame, Refused):
                answer: dict[str, Any] = {"image": frame.name, "error": frame.reason}
                refused.append(frame.reason)
            else:
                answer = _answer(model, frame, image_format)
                milliseconds.append(answer["ms"])
            # The reader of the answers may have closed its end.
            if not terminal.answer(json.dumps(answer)):
                break
    finally:
        if milliseconds:
            found = np.percentile(milliseconds, _QUANTILES)
            latencies = {f"latency_p{name}_ms": value for name, value in zip(_QUANTILES, found, strict=True)}
            run.log_metrics({"frames": len(milliseconds), **latencies})
    if refused:
        also = f"; and {len(refused) - 1} more of {len(refused) + len(milliseconds)} images" if len(refused) > 1 else ""
        raise InputError(f"{refused[0]}{also}")


def _frames(config: PredictConfig, shape: tuple[int, int, int]) -> Iterator[Frame | Refused]:
    if config.images == _STANDARD_INPUT:
        if sys.stdin is None:
            raise InputError(f"images={config.images!r}: there is no standard input")
        return STREAMS[config.frames](sys.stdin.buffer, shape)
    return from_files(Path(config.images), shape)


def _answer(model: EnsembleModel, frame: Frame, image_format: ImageFormat) -> dict[str, Any]:
    start = time.perf_counter()
    answers = model.predict(None, image_format.of_pixels(frame.pixels[None]))
    milliseconds = (time.perf_counter() - start) * 1e3
    probabilities = answers[model.bundle.manifest["class_names"]].iloc[0]
    rejected = REJECTED in answers and bool(answers[REJECTED].iloc[0])
    return {
        "image": frame.name,
        "label": None if rejected else probabilities.idxmax(),
        "probability": round(float(probabilities.max()), 6),
        "ms": round(milliseconds, 3),
    }
