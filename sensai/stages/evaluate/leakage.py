"""Warn of a base model that has seen validation images: choices that are made by them would be too optimistic."""

import logging

from sensai import evaluation
from sensai.stages.evaluate.combining import Answered
from sensai.tracking import Run, tags

_log = logging.getLogger(__name__)

# Honest splits may differ by as much, e.g. in near-duplicates, and the best epoch was chosen on validation data.
_RELEVANT = 0.01


def warn_of_leakage(test: Answered, val: Answered | None, run: Run) -> None:
    """Log a warning, and tag the run with it, where the base model is surely and relevantly better on validation data.

    Surely: in all of the one-sided 99.9 % interval of the difference, the accuracy is more than 0.01 higher than on test data.
    """
    if val is None:
        return
    least = evaluation.least_difference(val.base_right, test.base_right)
    if least <= _RELEVANT:
        return
    warning = (
        f"the base model has an accuracy of {val.base_right.mean():.4f} on validation images and of "
        f"{test.base_right.mean():.4f} on test images, at least {least:.4f} lower: it was probably trained on validation "
        "images, so do not trust choices that are made by validation accuracy"
    )
    _log.warning(warning)
    run.set_tags({tags.LEAKAGE: warning})
