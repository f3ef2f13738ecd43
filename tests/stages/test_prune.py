"""prune: pruned members of data without a validation split for their "none" rows."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from sensai.data.batches import Normalization
from sensai.pipeline.session import dataset_of
from sensai.stages import retrain
from sensai.tracking import Store
from tests.helpers.pipeline import Place

CLASSES = 40
DATA = f"""
import numpy as np

def one_of_each(data_dir):
    images = np.random.default_rng(0).integers(0, 256, ({CLASSES}, 8, 8), dtype=np.uint8)
    return {{"train": (images, np.arange({CLASSES})), "test": (images, np.arange({CLASSES}))}}
"""


def balanced_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the cross entropy averaged within each outcome, then over the outcomes."""
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(targets)), targets]
    return float(np.mean([each[targets == outcome].mean() for outcome in np.unique(targets)]))


def test_with_one_image_a_class_none_is_fitted_on_training_images_and_this_is_said_once(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data.py").write_text(DATA)
    caplog.set_level(logging.WARNING, "sensai")
    config = place.config(
        "retrain",
        dataset=f"{tmp_path}/data.py:one_of_each",
        base_epochs=0,
        epochs=0,
        method="random",
        n_groups=8,
        ratio=0.3,
    )
    run_id = retrain.run(config)
    warnings = [each.getMessage() for each in caplog.records if "no validation split" in each.getMessage()]
    ensemble, data = retrain.load(Store.connect(), run_id), dataset_of(config)
    assert data.val is None
    assert len(warnings) == 1
    assert f"class '0' and {CLASSES - 1} more classes have one training image only" in warnings[0]
    assert '"none" rows are fitted on training images' in warnings[0]

    images = Normalization(data.mean, data.std)(torch.from_numpy(data.train.images[data.train.rows]))
    for member in ensemble.members:
        with torch.no_grad():
            logits = member.network.eval()(images).double().numpy()
        # The row has no weight, so its logit is its bias.
        fitted = logits[0, 0]
        assert np.allclose(logits[:, 0], fitted)
        assert fitted != 0
        targets = np.array(
            [member.classes.index(label) + 1 if label in member.classes else 0 for label in data.train.labels.tolist()]
        )

        def loss(bias: float, logits: np.ndarray = logits, targets: np.ndarray = targets) -> float:
            return balanced_loss(np.concatenate([np.full((len(logits), 1), bias), logits[:, 1:]], 1), targets)

        grid = np.arange(fitted - 1, fitted + 1, 0.005)
        best = grid[np.argmin([loss(bias) for bias in grid])]
        assert abs(fitted - best) < 0.02
        assert loss(fitted) < loss(0.0)
