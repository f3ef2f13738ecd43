"""Interactive figures: the positions of their marks, and the texts of their hovers."""

import base64
import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from sensai.analysis.figures.interactive import accuracies, choices, learning_curves, members
from sensai.analysis.figures.interactive_matrices import confusion, coupling_heatmap, heatmap, widths
from sensai.analysis.figures.interactive_theme import log_ticks

GROUPS = [[0, 2], [1, 3]]
NAMES = ["<b>crane</b>", "crane", "a & b", "crane"]
ORDER = [3, 0, 1, 2]


def decoded(array: dict[str, str]) -> np.ndarray:
    """Return the values of a typed array of the page."""
    shape = [int(part) for part in str(array.get("shape", "-1")).split(",")]
    return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"]).reshape(shape)


def content(figure: go.Figure) -> tuple[list[dict], dict]:
    """Return traces and layout as the page passes them to the library."""
    told = json.loads(figure.to_json())
    return told["data"], told["layout"]


def test_classes_stand_in_order_under_their_names_and_groups() -> None:
    matrix = np.arange(16).reshape(4, 4)
    traces, layout = content(coupling_heatmap(matrix, NAMES, GROUPS, ORDER))
    np.testing.assert_array_equal(decoded(traces[0]["z"]), matrix[np.ix_(ORDER, ORDER)])
    # Names are text, and classes of one name are two.
    one, two = "&lt;b&gt;crane&lt;/b&gt;+a &amp; b", "crane+crane"
    told = [f"crane (in {two})", f"&lt;b&gt;crane&lt;/b&gt; (in {one})", f"crane (in {two})", f"a &amp; b (in {one})"]
    for axis in ("xaxis", "yaxis"):
        assert layout[axis]["labelalias"] == {str(place): name for place, name in enumerate(told)}
    assert all(part in traces[0]["hovertemplate"] for part in ("%{x}", "%{y}", "%{z} channels"))
    above, beside = (decoded(trace["z"]) for trace in traces[1:])
    assert above.tolist() == [[1, 0, 1, 0]]
    assert beside.tolist() == [[1], [0], [1], [0]]


def test_colours_span_what_stands_off_the_diagonal() -> None:
    matrix = np.full((3, 3), 5)
    matrix[0, 1] = matrix[1, 0] = 8
    np.fill_diagonal(matrix, 900)
    traces, _ = content(coupling_heatmap(matrix, NAMES[:3], [[0], [1], [2]], [0, 1, 2]))
    assert (traces[0]["zmin"], traces[0]["zmax"]) == (5, 8)


@pytest.mark.parametrize(("most", "kind"), [(200, "u1"), (60_000, "u2"), (70_000, "u4")])
def test_a_thousand_classes_take_few_bytes_and_few_names(most: int, kind: str) -> None:
    classes = 1000
    matrix = np.random.default_rng(0).integers(0, most, (classes, classes))
    matrix[0, 0] = most
    names = [f"class {label}" for label in range(classes)]
    figure = coupling_heatmap(matrix, names, [list(range(classes))], list(range(classes)))
    traces, layout = content(figure)
    assert traces[0]["z"]["dtype"] == kind
    np.testing.assert_array_equal(decoded(traces[0]["z"]), matrix)
    assert layout["xaxis"]["nticks"] == layout["yaxis"]["nticks"] == 40
    # Base64 takes four thirds, and one in 64 of its characters is escaped; names and all else take a tenth of a megabyte.
    assert len(figure.to_json()) < 4 / 3 * 1.1 * int(kind[1]) * classes**2 + 1e5


def test_a_matrix_of_shares_keeps_its_values_and_its_names() -> None:
    matrix = np.array([[1.0, 0.25, -0.5], [0.25, 1.0, 0.125], [-0.5, 0.125, 1.0]])
    traces, layout = content(heatmap(matrix, NAMES[:3], "%{z:.3f}"))
    np.testing.assert_array_equal(decoded(traces[0]["z"]), matrix)
    assert (traces[0]["zmin"], traces[0]["zmax"]) == (-0.5, 0.25)
    assert list(layout["xaxis"]["labelalias"].values()) == ["&lt;b&gt;crane&lt;/b&gt;", "crane", "a &amp; b"]


def test_members_are_points_that_tell_their_classes() -> None:
    table = pd.DataFrame(
        {"classes": ["<b>", "b"], "flops": [10, 20], "binary_accuracy": [0.5, 1], "balanced_accuracy": 0.75}
    )
    traces, _ = content(members(table))
    assert [trace["name"] for trace in traces] == ["balanced accuracy", "binary accuracy"]
    assert traces[0]["text"] == ["&lt;b&gt;", "b"]
    np.testing.assert_array_equal(decoded(traces[0]["x"]), [10, 20])
    np.testing.assert_array_equal(decoded(traces[1]["y"]), [0.5, 1])


def test_widths_are_a_row_a_member_under_the_names_of_the_sites() -> None:
    layers = pd.DataFrame(
        {
            "member": [0, 0, 1, 1],
            "classes": ["a", "a", "<b>", "<b>"],
            "depth": [0, 1, 0, 1],
            "site": ["x", "y"] * 2,
            "channels": 8,
            "kept": [8, 4, 2, 1],
        }
    )
    ((cells,), layout) = content(widths(layers))
    np.testing.assert_array_equal(decoded(cells["z"]), [[1, 0.5], [0.25, 0.125]])
    assert decoded(cells["text"]).tolist() == [[8, 4], [2, 1]]
    assert list(layout["xaxis"]["labelalias"].values()) == ["x", "y"]
    assert list(layout["yaxis"]["labelalias"].values()) == ["a", "&lt;b&gt;"]


def test_errors_have_colours_and_right_answers_have_none() -> None:
    matrix = np.array([[36, 0, 2], [1, 35, 0], [0, 0, 37]])
    (errors, right), layout = content(confusion(matrix, NAMES[:3]))
    np.testing.assert_array_equal(decoded(errors["z"]), [[0, 0, 2], [1, 0, 0], [0, 0, 0]])
    assert (errors["zmin"], errors["zmax"]) == (0, 2)
    assert errors["text"] == [["", "", "2"], ["1", "", ""], ["", "", ""]]
    np.testing.assert_array_equal(decoded(right["z"]), [36, 35, 37])
    np.testing.assert_array_equal(decoded(right["x"]), decoded(right["y"]))
    # One colour for any number.
    assert len({colour for _, colour in right["colorscale"]}) == 1
    assert list(layout["yaxis"]["labelalias"].values()) == ["&lt;b&gt;crane&lt;/b&gt;", "crane", "a &amp; b"]


def test_a_confusion_of_many_classes_has_no_numbers() -> None:
    (errors, right), _ = content(confusion(np.eye(1000, dtype=int), [f"class {label}" for label in range(1000)]))
    assert not {"text", "texttemplate"} & (errors.keys() | right.keys())
    assert errors["z"]["dtype"] == "u1"


def test_choices_are_marks_with_intervals_and_a_hollow_mark_for_machines_of_their_own() -> None:
    table = pd.DataFrame(
        {
            "name": ["ensemble", "base model"],
            "accuracy": [0.75, 0.875],
            "difference": [0.0, 0.125],
            "low": [None, 0.05],
            "high": [None, 0.15],
            "together": [4.0, 1.0],
            "apart": [0.5, 1.0],
        }
    )
    (ensemble, base), layout = content(choices(table, "ms"))
    assert (ensemble["x"], ensemble["y"]) == ([4.0, 0.5], [0, 0])
    assert ensemble["marker"]["symbol"] == ["circle", "circle-open"]
    assert "error_y" not in ensemble
    # In points.
    assert (base["x"], base["y"]) == ([1.0], [12.5])
    assert base["text"] == ["all on this machine<br>accuracy 87.50%"]
    assert base["error_y"]["array"] == pytest.approx([2.5])
    assert base["error_y"]["arrayminus"] == pytest.approx([7.5])
    assert layout["xaxis"]["ticktext"] == ["0.5", "1", "2", "5"]
    assert layout["shapes"][0]["y0"] == 0


def test_ticks_of_a_logarithmic_axis_are_round_numbers_around_the_values() -> None:
    assert log_ticks(0.061, 1.25) == pytest.approx([0.05, 0.1, 0.2, 0.5, 1, 2])
    assert log_ticks(3e6, 3e6) == pytest.approx([2e6, 5e6])


def test_members_that_were_measured_together_share_a_line() -> None:
    table = pd.DataFrame(
        {
            "run_id": ["a", "a", "b", "b"],
            "classes": ["x", "x", "y", "y"],
            "epoch": [0, 1, 0, 1],
            "train_loss": [0.5, 0.25, 0.5, 0.25],
            "accuracy": [0.5, 0.75, 0.5, 0.75],
            "stopped_by": "epochs",
        }
    )
    ((trace,), _) = content(learning_curves(table, "accuracy"))
    assert (trace["name"], trace["text"][-1]) == ("all 2 members together", "<br>trained all epochs")
    apart = table.assign(train_loss=[0.5, 0.25, 0.5, 0.125])
    assert [each["name"] for each in content(learning_curves(apart, "accuracy"))[0]] == ["x", "y"]


def test_learning_curves_are_marked_where_they_were_stopped() -> None:
    table = pd.DataFrame(
        {
            "run_id": ["a", "a", "b"],
            "classes": ["<b>", "<b>", "b"],
            "epoch": [0, 1, 0],
            "train_loss": [0.5, 0.25, 1.0],
            "accuracy": [0.5, 0.75, 0.875],
            "stopped_by": ["plateau", "plateau", "target"],
        }
    )
    traces, layout = content(learning_curves(table, "accuracy"))
    assert [trace["name"] for trace in traces] == ["&lt;b&gt;", "b"]
    assert [trace["text"] for trace in traces] == [
        ["", "<br>stopped early by plateau"],
        ["<br>stopped early by target"],
    ]
    assert [trace["marker"]["symbol"] for trace in traces] == [["circle", "x"], ["x"]]
    np.testing.assert_array_equal(decoded(traces[0]["y"]), [0.5, 0.75])
    assert layout["yaxis"]["title"]["text"] == "accuracy"


def test_ensembles_are_points_by_data_set_with_their_front() -> None:
    table = pd.DataFrame(
        {
            "run_id": ["1", "2", "3"],
            "name": ["<i>", "two", "three"],
            "data": ["digits", "digits", "<b>"],
            "accuracy": [0.75, 0.5, 0.25],
            "flops_max": [20.0, 30.0, 10.0],
            "flops_total": [60.0, 90.0, 30.0],
            "base_accuracy": [0.875, 0.875, 0.5],
            "flops_base": [100.0, 100.0, 50.0],
            "front": [True, False, True],
        }
    )
    traces, _ = content(accuracies(table))
    assert [trace["name"] for trace in traces] == [
        *("ensembles, digits", "front, digits", "base model, digits"),
        *("ensembles, &lt;b&gt;", "front, &lt;b&gt;", "base model, &lt;b&gt;"),
    ]
    assert traces[0]["text"] == ["&lt;i&gt;<br>run 1", "two<br>run 2"]
    assert [decoded(trace["x"]).tolist() for trace in traces[:3]] == [[20, 30], [20], [100]]
    assert len({trace["marker"]["color"] for trace in traces if "marker" in trace}) == 2
