"""Warn of a base model that has seen validation images: whatever is chosen by them is then chosen too optimistically."""

import logging

from sensai.evaluation.combinations import Answered, leakage_warning
from sensai.tracking import Run, tags

_log = logging.getLogger(__name__)


def warn_of_leakage(val: Answered, test: Answered, run: Run) -> None:
    """Log the warning of `leakage_warning`, and tag the run with it, if there is one."""
    if warning := leakage_warning(val, test):
        _log.warning(warning)
        run.set_tags({tags.LEAKAGE: warning})
