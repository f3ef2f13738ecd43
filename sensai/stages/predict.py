"""predict: Label image files, a folder of them, or frames on standard input.

A registered ensemble answers, or one in a folder. One JSON object a frame on standard output (`label` null where it is none
of the classes), with the milliseconds that its answer took; logs their quantiles. An image that cannot be read has an `error`
instead, and the others are answered.

A folder is answered without the store, so the first answer comes at once, and no run is logged; `mlflow run` opens one anyway.
"""

import json
import logging
import os
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sensai import terminal
from sensai.config import PredictConfig
from sensai.data.images.single_images import STREAMS, Frame, Refused, from_files
from sensai.errors import InputError
from sensai.registry.bundle_folders import is_folder, read_folder
from sensai.registry.bundle_reader import BundleReader, LocalEnsemble
from sensai.registry.image_format import ImageFormat

_log = logging.getLogger(__name__)
_STANDARD_INPUT = "-"
_OPENED_BY_MLFLOW = "MLFLOW_RUN_ID"
_QUANTILES = (50, 95, 99)


def run(config: PredictConfig) -> None:
    """Answer every frame as it comes; print the answers and nothing else.

    Raises:
        InputError: there is no such model, or its files have changed; a stream breaks off; or, after all answers, images could
            not be read.
    """
    if not is_folder(config.model_uri):
        _answer_from_the_store(config)
        return
    ensemble = read_folder(config.model_uri)
    if _OPENED_BY_MLFLOW in os.environ:
        from sensai.pipeline.run_lifecycle import open_entry_run

        with open_entry_run(config, f"{config.stage} {config.model_uri}", __doc__) as (_, run):
            _answer_all(config, _opened(ensemble, config), run.log_metrics)
    else:
        _answer_all(config, _opened(ensemble, config), _tell)


def _answer_from_the_store(config: PredictConfig) -> None:
    from sensai.pipeline.run_lifecycle import open_entry_run
    from sensai.registry.registered import find

    with (
        open_entry_run(config, f"{config.stage} {config.model_uri}", __doc__) as (store, run),
        find(store.client, config.model_uri).bundle() as bundle,
    ):
        _answer_all(config, LocalEnsemble(bundle), run.log_metrics)
    _log.info("%s run: %s", config.stage, run.id)


def _opened(bundle: BundleReader, config: PredictConfig) -> LocalEnsemble:
    try:
        return LocalEnsemble(bundle)
    except (OSError, ValueError) as error:
        raise InputError(f"model_uri={config.model_uri!r}: {error}") from error


def _tell(metrics: Mapping[str, float]) -> None:
    _log.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))


def _answer_all(config: PredictConfig, ensemble: LocalEnsemble, log: Callable[[Mapping[str, float]], None]) -> None:
    image_format = ImageFormat.of_manifest(ensemble.bundle.manifest)
    shape = image_format.pixels_shape(ensemble.bundle.image_shape)
    # Libraries prepare much at the first call, which would count as the first frame's latency.
    ensemble(image_format.of_pixels(np.zeros((1, *shape), np.uint8)))
    milliseconds = array("d")
    refused: list[str] = []
    try:
        for frame in _frames(config, shape):
            if isinstance(frame, Refused):
                answer: dict[str, Any] = {"image": frame.name, "error": frame.reason}
                refused.append(frame.reason)
            else:
                answer = _answer(ensemble, frame, image_format)
                milliseconds.append(answer["ms"])
            # The reader of the answers may have closed its end.
            if not terminal.answer(json.dumps(answer)):
                break
    finally:
        if milliseconds:
            found = np.percentile(milliseconds, _QUANTILES)
            latencies = {f"latency_p{name}_ms": value for name, value in zip(_QUANTILES, found, strict=True)}
            log({"frames": len(milliseconds), **latencies})
    if refused:
        also = f"; and {len(refused) - 1} more of {len(refused) + len(milliseconds)} images" if len(refused) > 1 else ""
        raise InputError(f"{refused[0]}{also}")


def _frames(config: PredictConfig, shape: tuple[int, int, int]) -> Iterator[Frame | Refused]:
    if config.images == _STANDARD_INPUT:
        if sys.stdin is None:
            raise InputError(f"images={config.images!r}: there is no standard input")
        return STREAMS[config.frames](sys.stdin.buffer, shape)
    return from_files(Path(config.images), shape)


def _answer(ensemble: LocalEnsemble, frame: Frame, image_format: ImageFormat) -> dict[str, Any]:
    start = time.perf_counter()
    found = ensemble(image_format.of_pixels(frame.pixels[None]))
    milliseconds = (time.perf_counter() - start) * 1e3
    rejected = ensemble.bundle.rejected(found)
    best = int(found[0].argmax())
    return {
        "image": frame.name,
        "label": None if rejected is not None and rejected[0] else ensemble.bundle.manifest["class_names"][best],
        "probability": round(float(found[0, best]), 6),
        "ms": round(milliseconds, 3),
    }
