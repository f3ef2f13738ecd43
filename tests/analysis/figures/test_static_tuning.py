"""Figures of a study, with one trial and with many."""

import numpy as np
import pandas as pd
import pytest

from sensai.analysis.figures import static_tuning
from tests.analysis.figures.test_static import drawn, texts


def table(count: int) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "trial": range(count),
            "source": ["logged", *["tune"] * (count - 1)],
            "epochs": [0, 2, 8] * (count // 3) + [0] * (count % 3),
            "calibrated_val_accuracy": draw.random(count),
            "cost": draw.random(count),
            "params.ratio": draw.random(count),
            "params.method": ["singletons", "$random$"] * (count // 2) + ["singletons"] * (count % 2),
            "params.loss": [np.nan] + ["kd"] * (count - 1),
        }
    )


@pytest.mark.parametrize("count", [1, 30])
def test_front_and_slices(count: int) -> None:
    trials = table(count)
    (axes,) = drawn(static_tuning.front(trials, trials.sort_values("cost"), 0.9, "flops_max"))
    labels = texts(axes.get_legend().get_texts())
    assert {"front", "base model", "0 epochs, logged before"} <= set(labels)
    *panels, _bar = drawn(static_tuning.slices(trials, "flops_max"))
    titles = [each.get_title() for each in panels]
    assert titles[:4] == ["epochs", "ratio", "method", "loss"]
    # Of what a trial does not have it has no point.
    points = {each.get_title(): len(each.collections[0].get_offsets()) for each in panels if each.collections}
    assert points == {"epochs": count, "ratio": count, "method": count, "loss": count - 1}


def test_hypervolume_and_importances() -> None:
    (axes,) = drawn(static_tuning.hypervolume(pd.DataFrame({"trial": [0, 3, 4], "hypervolume": [0.1, 0.1, 0.4]})))
    assert axes.lines[0].get_ydata().tolist() == [0.1, 0.1, 0.4]
    weights = pd.DataFrame({"parameter": ["ratio", "loss"], "calibrated_val_accuracy": [0.8, 0.2], "cost": [1.0, 0.0]})
    (axes,) = drawn(static_tuning.importances(weights, "flops_max"))
    assert texts(axes.get_yticklabels()) == ["ratio", "loss"]
