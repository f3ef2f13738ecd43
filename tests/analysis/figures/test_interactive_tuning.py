"""Interactive figures of a study, with one trial and with many."""

import numpy as np
import pandas as pd
import pytest

from sensai.analysis.figures import interactive_tuning
from tests.analysis.figures.test_interactive import content, decoded
from tests.analysis.figures.test_static_tuning import table


def trials(count: int) -> pd.DataFrame:
    return table(count).replace("$random$", "<b>").assign(run_id="r")


@pytest.mark.parametrize("count", [1, 30])
def test_every_trial_is_a_point_that_tells_its_configuration(count: int) -> None:
    made = trials(count)
    best = made.sort_values("cost")
    traces, _ = content(interactive_tuning.front(made, best, 0.9, "flops_max"))
    line, *points, base = traces
    np.testing.assert_array_equal(decoded(line["x"]), best["cost"])
    assert (line["line"]["shape"], base["y"]) == ("hv", [0.9])
    assert sum(len(each["text"]) for each in points) == count
    assert points[0]["name"] == "0 epochs, logged before"
    first = made.iloc[0]
    told = points[0]["text"][0].split("<br>")
    assert told == [
        "trial 0",
        f"accuracy {first['calibrated_val_accuracy']:.4f}",
        f"cost {first['cost']:.4f}",
        "epochs=0",
        f"ratio={first['params.ratio']:.6g}",
        "method=singletons",
    ]
    assert not [text for each in points for text in each["text"] if "<b>" in text]


@pytest.mark.parametrize("count", [1, 30])
def test_slices_leave_out_trials_without_the_parameter(count: int) -> None:
    figures = [content(figure) for figure in interactive_tuning.slices(trials(count))]
    titles = [layout["xaxis"]["title"]["text"] for _, layout in figures]
    assert titles == ["epochs", "ratio", "method", "loss"]
    points = [trace for (trace,), _ in figures]
    assert [len(trace["text"]) for trace in points] == [count, count, count, count - 1]
    assert set(points[2]["x"]) <= {"singletons", "&lt;b&gt;"}
    assert figures[2][1]["xaxis"]["type"] == "category"
    # One scale for all of them.
    assert len({(trace["marker"]["cmin"], trace["marker"]["cmax"]) for trace in points}) == 1


def test_hypervolume_and_importances() -> None:
    volumes = pd.DataFrame({"trial": [0, 3, 4], "hypervolume": [0.1, 0.1, 0.4]})
    ((line,), _) = content(interactive_tuning.hypervolume(volumes))
    np.testing.assert_array_equal(decoded(line["y"]), volumes["hypervolume"])
    np.testing.assert_array_equal(decoded(line["customdata"]), volumes["trial"])
    weights = pd.DataFrame({"parameter": ["ratio", "loss"], "calibrated_val_accuracy": [0.8, 0.2], "cost": [1.0, 0.0]})
    bars, _ = content(interactive_tuning.importances(weights, "flops_max"))
    assert [bar["name"] for bar in bars] == ["calibrated val accuracy", "flops_max"]
    assert all(bar["y"] == ["ratio", "loss"] for bar in bars)
    np.testing.assert_array_equal(decoded(bars[1]["x"]), weights["cost"])
