"""A base model that has seen validation images: `evaluate` says so, where it is sure and where it matters."""

import logging

import numpy as np
import pytest

from sensai.evaluation import Outputs
from sensai.evaluation.combinations import Answered, leakage_warning
from sensai.stages import evaluate
from sensai.tracking import tags
from tests.conftest import ROOT
from tests.helpers.pipeline import Place


def answered(accuracy: float, images: int) -> Answered:
    """Return the answers of a base model of two classes that is right on a share of the images."""
    right = np.arange(images) < round(accuracy * images)
    return Answered(Outputs(np.zeros(images, np.int64), []), np.stack([right, ~right], axis=1).astype(np.float64))


@pytest.mark.parametrize(
    ("val", "test", "warned"),
    [
        # The case for which the warning was made.
        ((0.944, 5000), (0.876, 10_000), True),
        ((1.0, 50), (0.7, 400), True),
        # An honest base model, and one that is better on test images.
        ((0.876, 5000), (0.876, 10_000), False),
        ((0.876, 5000), (0.944, 10_000), False),
        # So few images may differ by chance.
        ((0.944, 50), (0.876, 100), False),
        ((1.0, 1), (0.0, 1), False),
        # The difference is sure but too small to matter.
        ((0.885, 1_000_000), (0.876, 1_000_000), False),
    ],
)
def test_it_is_warned_of_a_difference_that_is_sure_and_relevant(
    val: tuple[float, int], test: tuple[float, int], warned: bool
) -> None:
    warning = leakage_warning(answered(*val), answered(*test))
    assert bool(warning) == warned
    if warned:
        assert f"accuracy is {val[0]:.4f} on validation images and {test[0]:.4f} on test images" in warning
        assert "\n" not in warning


def test_evaluate_says_it_and_its_run_keeps_it(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    # Half of the labels of the test images are wrong, so the base model seems to have learnt the validation images.
    own = {"dataset": f"{ROOT}/tests/helpers/tiny_data.py:mislabelled_test", "val_fraction": 0.5, "epochs": 0}
    with caplog.at_level(logging.WARNING):
        run = place.run(evaluate.run(place.config("evaluate", **own)))
    metrics, warning = run.data.metrics, run.data.tags[tags.LEAKAGE]
    assert f"accuracy is {metrics['base_val_accuracy']:.4f} on validation images and " in warning
    assert f"{metrics['base_accuracy']:.4f} on test images" in warning
    assert warning in caplog.messages
