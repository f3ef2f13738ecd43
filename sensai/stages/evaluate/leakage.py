"""Warn of a base model that has seen validation images: whatever is chosen by them is then chosen too optimistically."""

import logging

from sensai import evaluation
from sensai.stages.evaluate.combining import Answered
from sensai.tracking import Run, tags

_log = logging.getLogger(__name__)

# Splits of one collection may differ by as much, and the best epoch of an honest base model is chosen on validation images.
_RELEVANT = 0.01


def warn_of_leakage(val: Answered, test: Answered, run: Run) -> None:
    """Log the warning of `leakage_warning`, and tag the run with it, if there is one."""
    if warning := leakage_warning(val, test):
        _log.warning(warning)
        run.set_tags({tags.LEAKAGE: warning})


def leakage_warning(val: Answered, test: Answered) -> str:
    """Return a line where the base model is better on validation than on test images, surely and by a relevant amount.

    That is where the lower bound of the one-sided 99.9 % interval of the difference in accuracy is above 0.01; else it is
    empty.
    """
    least = evaluation.least_difference(val.base_right, test.base_right)
    if least <= _RELEVANT:
        return ""
    return (
        f"the base model's accuracy is {val.base_right.mean():.4f} on validation images and {test.base_right.mean():.4f} on "
        f"test images, at least {least:.4f} less: it was probably trained on validation images, so do not trust validation "
        "accuracies, nor what is chosen by them"
    )
