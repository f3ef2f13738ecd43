"""The interactive heatmap: what stands where, what is told of it, and that it leads nowhere else."""

import base64
import json
import re

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from analysis.interactive import coupling_heatmap, fragment

GROUPS = [[0, 2], [1, 3]]
NAMES = ["<b>crane</b>", "crane", "a & b", "crane"]
ORDER = [3, 0, 1, 2]


def decoded(array: dict[str, str]) -> np.ndarray:
    """A typed array as the page has it."""
    shape = [int(part) for part in str(array.get("shape", "-1")).split(",")]
    return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"]).reshape(shape)


def content(html: str) -> tuple[list[dict], dict, dict]:
    """Traces, layout and configuration as the page hands them to the library."""
    told = html.rpartition("Plotly.newPlot(")[2]
    parse, parts = json.JSONDecoder(), []
    for _ in range(4):
        told = told.lstrip(", \n")
        part, end = parse.raw_decode(told)
        parts.append(part)
        told = told[end:]
    _, traces, layout, config = parts
    return traces, layout, config


def test_classes_stand_in_order_under_their_names_and_groups() -> None:
    matrix = np.arange(16).reshape(4, 4)
    traces, layout, _ = content(fragment(coupling_heatmap(matrix, NAMES, GROUPS, ORDER), "coupling"))
    np.testing.assert_array_equal(decoded(traces[0]["z"]), matrix[np.ix_(ORDER, ORDER)])
    # Names are text, and classes of one name are two.
    told = ["crane (group 1)", "&lt;b&gt;crane&lt;/b&gt; (group 0)", "crane (group 1)", "a &amp; b (group 0)"]
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
    traces, _, _ = content(fragment(coupling_heatmap(matrix, NAMES[:3], [[0], [1], [2]], [0, 1, 2]), "coupling"))
    assert (traces[0]["zmin"], traces[0]["zmax"]) == (5, 8)


@pytest.mark.parametrize(("most", "kind"), [(200, "u1"), (60_000, "u2"), (70_000, "u4")])
def test_a_thousand_classes_take_few_bytes_and_few_names(most: int, kind: str) -> None:
    classes = 1000
    matrix = np.random.default_rng(0).integers(0, most, (classes, classes))
    matrix[0, 0] = most
    names = [f"class {label}" for label in range(classes)]
    figure = coupling_heatmap(matrix, names, [list(range(classes))], list(range(classes)))
    html = fragment(figure, "coupling").replace(get_plotlyjs(), "")
    traces, layout, _ = content(html)
    assert traces[0]["z"]["dtype"] == kind
    np.testing.assert_array_equal(decoded(traces[0]["z"]), matrix)
    assert layout["xaxis"]["nticks"] == layout["yaxis"]["nticks"] == 40
    # Base64 takes four thirds, and one in 64 of its characters is escaped; names and all else take a tenth of a megabyte.
    assert len(html) < 4 / 3 * 1.1 * int(kind[1]) * classes**2 + 1e5


def test_it_brings_its_library_and_sends_nothing() -> None:
    html = fragment(coupling_heatmap(np.eye(4, dtype=int), NAMES, GROUPS, ORDER), "coupling")
    assert html.count(get_plotlyjs()) == 1
    rest = html.replace(get_plotlyjs(), "")
    assert "//" not in rest
    assert not re.search(r"\bsrc\s*=", rest)
    *_, config = content(html)
    assert config["showSendToCloud"] is config["displaylogo"] is False
