"""Figures are drawn for three classes as for a thousand, with as many labels as are legible."""

import io
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from sensai.analysis.figures import static, static_matrices

FEW, MANY = 3, 1000
LEGIBLE = 40


def drawn(figure: Figure) -> list[Axes]:
    """Draw a figure as it is stored, without any warning, and return its axes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(buffer, format="png")
    image = np.asarray(Image.open(buffer).convert("L"))
    assert image.shape[0] > 200
    assert image.std() > 5, "the figure is empty"
    return figure.axes


def texts(labels: list) -> list[str]:
    return [label.get_text() for label in labels]


def names(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


@pytest.mark.parametrize("count", [FEW, LEGIBLE])
def test_a_heatmap_names_its_classes(count: int) -> None:
    matrix = np.arange(count * count, dtype=float).reshape(count, count)
    axes = drawn(static_matrices.heatmap(matrix, names(count), "the title"))[0]
    assert axes.get_title() == "the title"
    assert texts(axes.get_xticklabels()) == texts(axes.get_yticklabels()) == names(count)
    (image,) = axes.get_images()
    np.testing.assert_array_equal(image.get_array(), matrix)


def test_a_heatmap_of_a_thousand_classes_names_none() -> None:
    matrix = np.random.default_rng(0).random((MANY, MANY))
    axes = drawn(static_matrices.heatmap(matrix, names(MANY), "the title"))[0]
    assert len(axes.get_xticks()) < LEGIBLE
    assert len(axes.get_yticks()) < LEGIBLE
    assert not set(texts(axes.get_xticklabels())) & set(names(MANY))


def test_a_heatmap_of_a_thousand_classes_shows_each_whatever_its_diagonal() -> None:
    matrix = np.full((MANY, MANY), 0.2)
    matrix[500] = 0.3
    np.fill_diagonal(matrix, 40.0)
    figure = static_matrices.heatmap(matrix, names(MANY), "the title")
    axes = drawn(figure)[0]
    (image,) = axes.get_images()
    assert image.get_clim() == (0.2, 0.3)
    assert min(axes.get_window_extent().size) >= MANY


def test_a_heatmap_of_names_that_matplotlib_reads_as_formulas() -> None:
    labels = ["$5", "a_b$c$", "$_$"]
    axes = drawn(static_matrices.heatmap(np.eye(3), labels, "cost in $"))[0]
    assert texts(axes.get_xticklabels()) == labels


def matrices(panels: int, classes: int) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Return confusion matrices of groups; later ones have more errors, always far fewer than right answers."""
    return {
        f"group {number}": (np.where(np.eye(classes, dtype=bool), 900, 1 + number), names(classes))
        for number in range(panels)
    }


def test_panels_name_their_classes_and_tell_errors_apart() -> None:
    panels = matrices(2, 3)
    figure = static_matrices.confusions(panels, "the title")
    first, second, *_ = drawn(figure)
    assert [axes.get_title() for axes in (first, second)] == ["group 0", "group 1"]
    for axes, (matrix, labels) in zip((first, second), panels.values(), strict=True):
        assert texts(axes.get_xticklabels()) == texts(axes.get_yticklabels()) == labels
        (image,) = axes.get_images()
        shown = np.ma.asarray(image.get_array())
        np.testing.assert_array_equal(np.ma.getmaskarray(shown), np.eye(3, dtype=bool))
        np.testing.assert_array_equal(shown.data, matrix)
        assert image.get_clim() == (0, 2)
        assert texts(axes.texts) == [str(value) for value in matrix.ravel()]
    assert figure.get_suptitle() == "the title"


def test_panels_of_a_hundred_classes_name_none() -> None:
    panels = [axes for axes in drawn(static_matrices.confusions(matrices(10, 100), "the title")) if axes.get_images()]
    assert len(panels) == 10
    assert all(len(axes.get_xticks()) == len(axes.texts) == 0 for axes in panels)
    assert all(min(axes.get_window_extent().size) >= 100 for axes in panels)


def test_of_too_many_panels_those_with_the_most_errors_are_drawn() -> None:
    figure = static_matrices.confusions(matrices(25, 2), "the title")
    titles = [axes.get_title() for axes in figure.axes if axes.get_images()]
    assert titles == [f"group {number}" for number in range(5, 25)]
    assert figure.get_suptitle() == "the title (the 20 of 25 with the most errors)"


@pytest.mark.parametrize("count", [2, FEW, LEGIBLE, MANY])
def test_a_confusion_colours_its_errors_alone(count: int) -> None:
    matrix = np.diag(np.full(count, 500))
    matrix[0, 1] = 7
    axes = drawn(static_matrices.confusion(matrix, names(count), "the title"))[0]
    (image,) = axes.get_images()
    right = image.to_rgba(np.ma.masked_all(1))[0]
    assert image.get_clim() == (0, 7)
    assert right[0] == right[1] == right[2]
    assert texts(axes.texts) == ([str(value) for value in matrix.ravel()] if count <= 10 else [])


def test_panels_without_an_error() -> None:
    (axes, *_) = drawn(static_matrices.confusions({"": (np.diag([5, 5]), names(2))}, "the title"))
    assert axes.get_images()[0].get_clim() == (0, 1)


def strips(figure: Figure) -> dict[str, list[int]]:
    """Return the group of each class from the strips beside the heatmap."""
    (axes, *_) = figure.axes
    return {
        str(child.get_label()): np.asarray(child.get_images()[0].get_array()).ravel().tolist()
        for child in axes.child_axes
    }


def test_a_grouped_heatmap_is_in_order_and_shows_the_groups() -> None:
    matrix = np.arange(16.0).reshape(4, 4)
    figure = static_matrices.grouped_heatmap(matrix, names(4), [(0, 2), (1, 3)], np.array([3, 0, 1, 2]), "the title")
    axes = drawn(figure)[0]
    assert (
        texts(axes.get_xticklabels()) == texts(axes.get_yticklabels()) == ["class 3", "class 0", "class 1", "class 2"]
    )
    np.testing.assert_array_equal(axes.get_images()[0].get_array()[0], [15, 12, 13, 14])
    assert strips(figure) == {"above": [1, 0, 1, 0], "beside": [1, 0, 1, 0]}
    assert texts(figure.legends[0].get_texts()) == ["group 0", "group 1"]


@pytest.mark.parametrize("n_groups", [1, 10, MANY])
def test_a_grouped_heatmap_of_a_thousand_classes_names_none(n_groups: int) -> None:
    groups = [part.tolist() for part in np.array_split(np.arange(MANY), n_groups)]
    matrix = np.random.default_rng(0).random((MANY, MANY))
    figure = static_matrices.grouped_heatmap(matrix, names(MANY), groups, np.arange(MANY)[::-1], "the title")
    axes = drawn(figure)[0]
    assert not set(texts(axes.get_xticklabels())) & set(names(MANY))
    assert min(axes.get_window_extent().size) >= MANY
    assert len(set(strips(figure)["above"])) == n_groups
    assert len(figure.legends) == (n_groups <= 20)


def layers(members: int, sites: int) -> pd.DataFrame:
    rows = [
        {"classes": f"class {member}", "depth": depth, "site": f"conv{depth}", "channels": 10, "kept": 1 + member % 9}
        for member in range(members)
        for depth in range(sites)
    ]
    return pd.DataFrame(rows)


def test_widths_have_a_line_a_member_and_a_label_a_site() -> None:
    (axes,) = drawn(static.widths(layers(FEW, 4)))
    assert [list(line.get_ydata()) for line in axes.get_lines()] == [[0.1] * 4, [0.2] * 4, [0.3] * 4]
    assert texts(axes.get_xticklabels()) == ["conv0", "conv1", "conv2", "conv3"]
    assert texts(axes.get_legend().get_texts()) == names(FEW)


def test_widths_of_a_thousand_members_name_none() -> None:
    (axes,) = drawn(static.widths(layers(MANY, 50)))
    assert len(axes.get_lines()) == MANY
    assert axes.get_legend() is None
    assert len(axes.get_xticks()) < LEGIBLE


@pytest.mark.parametrize("epochs", [1, 30])
def test_a_learning_curve(epochs: int) -> None:
    history = [{"loss": 1.0, "accuracy": 0.1, "roc_auc": 0.6, "train_loss": 2.0} for _ in range(epochs)]
    left, right = drawn(static.learning_curve(history))
    assert [line.get_label() for line in left.get_lines()] == ["training loss", "validation loss"]
    assert [line.get_label() for line in right.get_lines()] == ["accuracy", "roc auc"]
    assert all(len(line.get_xdata()) == epochs for line in (*left.get_lines(), *right.get_lines()))


def test_a_learning_curve_shows_before_which_epochs_channels_were_cut() -> None:
    for axes in drawn(static.learning_curve([{"train_loss": 1.0, "accuracy": 0.5}] * 6, cuts=[2, 4])):
        assert [line.get_xdata()[0] for line in axes.get_lines()[1:]] == [1.5, 3.5]


def test_a_learning_curve_without_a_validation_split() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = static.learning_curve([{"train_loss": 2.0}, {"train_loss": 1.0}])
    assert [line.get_label() for line in drawn(figure)[0].get_lines()] == ["training loss"]


def table(count: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "classes": names(count),
            "flops": np.linspace(1e6, 2e6, count),
            "binary_accuracy": np.linspace(0.5, 0.9, count),
            "balanced_accuracy": np.linspace(0.4, 0.8, count),
        }
    )


def test_members_are_named_where_they_are_few() -> None:
    (axes,) = drawn(static.members(table(FEW)))
    assert texts(axes.texts) == names(FEW)
    balanced, binary = (np.asarray(each.get_offsets()) for each in axes.collections)
    np.testing.assert_allclose(balanced[:, 1], [0.4, 0.6, 0.8])
    np.testing.assert_allclose(binary[:, 1], [0.5, 0.7, 0.9])


def test_a_thousand_members_are_not_named() -> None:
    (axes,) = drawn(static.members(table(MANY)))
    assert texts(axes.texts) == []
    assert [len(each.get_offsets()) for each in axes.collections] == [MANY, MANY]


def test_contention_has_a_line_a_way_for_training_and_for_scoring() -> None:
    table = pd.DataFrame(
        [
            {"task": task, "way": way, "n": n, "images_per_s": speed * n, "low": speed * n / 2, "high": speed * n * 3}
            for task in ("training", "scoring")
            for n in (1, 2, 8)
            for way, speed in (("in_turn", 50.0), ("naive", 20.0), ("engine", 400.0))
        ]
    )
    both = drawn(static.contention(table))
    assert [axes.get_title() for axes in both] == ["training", "scoring"]
    for axes in both:
        assert {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()} == {
            "in turn": [50, 100, 400],
            "naive": [20, 40, 160],
            "engine": [400, 800, 3200],
        }
        assert texts(axes.get_xticklabels()) == ["1", "2", "8"]
        places = np.stack([line.get_xdata() for line in axes.get_lines()])
        # Each stands near the tick of its number, the ways in their order.
        np.testing.assert_array_equal(places.round(), [[0, 1, 2]] * 3)
        assert (np.diff(places, axis=0) > 0).all()
        # Each way's intervals have the colour of its line.
        for line, bars in zip(axes.get_lines(), axes.collections, strict=True):
            values = np.asarray(line.get_xydata())
            bounds = [[(place, speed / 2), (place, speed * 3)] for place, speed in values]
            np.testing.assert_allclose(bars.get_segments(), bounds)
            assert to_rgba(line.get_color()) == tuple(bars.get_color()[0])


def test_contention_without_intervals_has_lines_only() -> None:
    one = {"task": "training", "way": "naive", "n": 1, "images_per_s": 5.0, "low": np.nan, "high": np.nan}
    (axes,) = drawn(static.contention(pd.DataFrame([one])))
    assert [list(line.get_ydata()) for line in axes.get_lines()] == [[5.0]]


def test_runtimes_have_a_panel_a_network_and_a_bar_each_that_could_run() -> None:
    table = pd.DataFrame(
        {
            "network": ["base", "base", "base", "ensemble"],
            "runtime": ["torch", "onnx-graph", "torch-compiled", "torch"],
            "threads": [1, 2, 1, 2],
            "median_ms": [4.0, 2.0, np.nan, 3.0],
            "p95_ms": [5.0, 2.5, np.nan, 3.5],
        }
    )
    base, ensemble = drawn(static.runtimes(table))
    assert (base.get_title(), ensemble.get_title()) == ("base", "ensemble")
    assert [label.get_text() for label in base.get_yticklabels()] == ["torch x1", "onnx-graph x2"]
    assert [bar.get_width() for bar in base.patches] == [4.0, 2.0]
    assert [bar.get_width() for bar in ensemble.patches] == [3.0]


def test_reliability_has_a_panel_each_with_its_curve_beside_the_diagonal() -> None:
    curves = {
        "raw": (np.array([0.2, 0.9]), np.array([0.5, 0.6]), np.array([1, 3])),
        "base model": (np.array([1.0]), np.array([0.75]), np.array([4])),
    }
    panels = drawn(static.reliability(curves, "the title"))
    assert [axes.get_title() for axes in panels] == list(curves)
    for axes, (confidence, accuracy, images) in zip(panels, curves.values(), strict=True):
        diagonal, curve = axes.get_lines()
        assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
        np.testing.assert_array_equal(curve.get_xydata(), np.column_stack([confidence, accuracy]))
        (marks,) = axes.collections
        # More images, a larger mark.
        assert np.array_equal(np.argsort(marks.get_sizes()), np.argsort(images))


def repeated(settings: list[tuple[int, float]], methods: int, repeats: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return cells, and means with bounds one below and two above."""
    cells = pd.DataFrame(
        [
            {
                "n_groups": n_groups,
                "ratio": ratio,
                "method": f"m{method}",
                "seed": 10 - seed,
                "share": method + seed / 10,
            }
            for n_groups, ratio in settings
            for method in range(methods)
            for seed in range(repeats)
        ]
    )
    means = cells.groupby(["n_groups", "ratio", "method"], as_index=False).agg(mean=("share", "mean"))
    return cells, means.assign(low=means["mean"] - 1, high=means["mean"] + 2)


def test_a_study_shows_every_repeat_and_beside_it_the_interval() -> None:
    (axes,) = drawn(static.study(*repeated([(2, 0.5)], 2, 3), "share"))
    assert axes.get_title() == "2 groups, ratio 0.5"
    assert texts(axes.get_xticklabels()) == ["m0", "m1"]
    points = np.asarray(axes.get_lines()[0].get_xydata())
    np.testing.assert_allclose(points[:, 1], [0, 0.1, 0.2, 1, 1.1, 1.2])
    # From left to right by seed, each in its method's column, left of its interval.
    assert (np.diff(points[:3, 0]) < 0).all()
    np.testing.assert_allclose(points[3:, 0] - points[:3, 0], 1)
    (bars,) = axes.containers
    means, (_, _), (intervals,) = bars.lines
    assert list(means.get_ydata()) == pytest.approx([0.1, 1.1])
    assert [segment[:, 1].tolist() for segment in intervals.get_segments()] == [
        pytest.approx([-0.9, 2.1]),
        pytest.approx([0.1, 3.1]),
    ]
    for method, place in enumerate(means.get_xdata()):
        assert (points[3 * method : 3 * method + 3, 0] - method).min() > -0.5
        assert points[3 * method : 3 * method + 3, 0].max() < place < method + 0.5


def test_a_study_of_many_methods_at_some_settings() -> None:
    settings = [(2, 0.25), (2, 0.5), (10, 0.5)]
    panels = drawn(static.study(*repeated(settings, 8, 30), "share"))
    assert [len(axes.get_lines()[0].get_xdata()) for axes in panels] == [240, 240, 0, 240]
    assert min(axes.get_window_extent().width for axes in panels) > 8 * 40
