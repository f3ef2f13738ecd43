"""The page of a comparison of runs: a row each, their differences, and accuracy against FLOPs for evaluations."""

import io
import json

import pandas as pd

from sensai.analysis.report import comparison_page
from tests.analysis.conftest import Logbook
from tests.analysis.test_report import (
    assert_stands_alone,
    downloads,
    figures,
    numbers,
    own_part,
    parameters,
    rows,
    without_data,
)


def evaluated(
    logbook: Logbook, ratio: float, accuracy: float, flops: float, data: tuple[str, str] = ("digits", "1")
) -> str:
    metrics = {"accuracy": accuracy, "flops_max": flops, "flops_total": 3 * flops}
    config = {"ratio": ratio, "method": "<b>singletons</b>", "seed": 0}
    return logbook.run(
        {"stage": "evaluate", "config": json.dumps(config), "dataset": data[0], "data_digest": data[1]},
        {**metrics, "base_accuracy": 0.96875, "flops_base": 4000000.0},
        name=f"<i>ratio</i> {ratio}",
    )


def test_a_row_each_with_what_differs_and_what_came_out(logbook: Logbook, store_uri: str) -> None:
    first, second = evaluated(logbook, 0.5, 0.875, 1e6), evaluated(logbook, 0.25, 0.9375, 2e6)
    third = logbook.run({"stage": "prune", "config": json.dumps({"ratio": 0.5, "method": None, "seed": 0})}, {"x": 1.5})
    page = comparison_page.render([first, second, third], store_uri, {})
    assert_stands_alone(page)
    assert [row[:4] + row[6:] for row in rows(page, "What differs")] == [
        ["name", "run", "stage", "status", "ratio", "method"],
        ["<i>ratio</i> 0.5", first[:8], "evaluate", "FINISHED", "0.5", "<b>singletons</b>"],
        ["<i>ratio</i> 0.25", second[:8], "evaluate", "FINISHED", "0.25", "<b>singletons</b>"],
        ["a run", third[:8], "prune", "FINISHED", "0.5", ""],
    ]
    header, *found = rows(page, "What came out")
    assert [row[header.index("top-1 accuracy [%]")] for row in found] == ["87.50", "93.75", ""]
    assert [row[header.index("FLOPs of the largest member")] for row in found] == ["1,000,000", "2,000,000", ""]
    header, *measures = rows(page, "All measures")
    assert header == ["measure", *(f"run {run_id[:8]}" for run_id in (first, second, third)), "logged as"]
    assert ["FLOPs of all members", "3,000,000", "6,000,000", "", "flops_total"] in measures
    assert ["x", "", "", "1.5", "x"] in measures
    # What they have in common.
    assert parameters(page) == {"seed": "0"}
    assert list(figures(page)) == ["Accuracy and FLOPs"]
    assert "3 runs that differ in 2 of their parameters: ratio, method." in page
    assert numbers(page)["Highest accuracy on test images"] == ("93.8 %", "&lt;i&gt;ratio&lt;/i&gt; 0.25")
    assert numbers(page)["Fewest FLOPs of the largest member"][0] == "1 M"
    markup = without_data(own_part(page))
    assert "<b>" not in markup
    assert "<i>" not in markup


def test_the_front_is_of_what_no_other_beats_on_the_same_data(logbook: Logbook, store_uri: str) -> None:
    ids = [
        evaluated(logbook, 0.5, 0.875, 2e6),
        evaluated(logbook, 0.5, 0.75, 1e6),
        evaluated(logbook, 0.5, 0.75, 3e6),
        evaluated(logbook, 0.5, 0.5, 1e6),
        evaluated(logbook, 0.5, 0.25, 9e6, ("digits", "2")),
        evaluated(logbook, 0.5, 0.5, 9e6, ("/some/where/own.py:own", "3")),
    ]
    page = comparison_page.render(ids, store_uri, {})
    table = pd.read_csv(io.StringIO(downloads(page)["Accuracy and FLOPs.csv"])).set_index("run_id")
    assert table["front"].to_dict() == dict(zip(ids, [True, True, False, False, True, True], strict=True))
    names = [trace["name"] for trace in figures(page)["Accuracy and FLOPs"]["data"]]
    # Data sets of one name that are not the same are told apart.
    assert [name for name in names if name.startswith("ensembles")] == [
        "ensembles, digits 1",
        "ensembles, digits 2",
        "ensembles, own.py:own",
    ]


def test_runs_without_accuracies_have_no_figure(logbook: Logbook, store_uri: str) -> None:
    ids = [logbook.run({"stage": "prune"}, {"val_accuracy": 0.5}) for _ in range(2)]
    page = comparison_page.render(ids, store_uri, {})
    assert not figures(page)
    assert_stands_alone(page)
