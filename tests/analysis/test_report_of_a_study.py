"""The page of a study: its question, its result in words, and everything that its run contains."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sensai.analysis.report import study_page
from sensai.analysis.report.page import Table
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

CONFIG = {
    "objective": "flops_max",
    "mode": "front",
    "limit": None,
    "max_accuracy_drop": 0.1,
    "trials": 2,
    "fidelities": "",
    "model_name": "ensemble",
}
SPACE = {
    "method": ["singletons", "<b>own</b>"],
    "ratio": {"low": 0.1, "high": 0.9, "log": True},
    "n_groups": {"low": 2, "high": 4, "step": 2, "when": {"method": ["<b>own</b>", "random"], "epochs": {"above": 0}}},
    "loss": {"choices": ["bce", "kd"], "when": {"policy": "ratio"}},
}
TRIALS = pd.DataFrame(
    {
        "trial": [0, 2, 3],
        "run_id": ["a" * 32, "b" * 32, "c" * 32],
        "source": ["logged", "tune", "tune"],
        "epochs": [0, 0, 2],
        "calibrated_val_accuracy": [0.5, 0.25, 0.875],
        "cost": [0.25, 0.5, 0.75],
        "flops_max": [250000.0, 500000.0, 750000.0],
        "params.method": ["singletons", "<b>own</b>", "<b>own</b>"],
        "params.n_groups": [None, 2, 4],
        "params.ratio": [0.5, 0.25, 0.125],
    }
)
BEST = {
    "within": True,
    "rule": "the cheapest that loses at most 0.1 against the base model on validation data",
    "base_val_accuracy": 0.9375,
    "accuracy_drop": 0.0625,
    "objective": "flops_max",
    "trial": 0,
    "run_id": "a" * 32,
    "calibrated_val_accuracy": 0.5,
    "cost": 0.25,
    "flops_speedup": 4.0,
    "parameters": {"epochs": 0, "method": "singletons", "n_groups": None, "ratio": 0.5, "seed": 7},
}
FIGURES = ["Accuracy and cost", "Hypervolume", "Importances", "Accuracy by parameter"]


def tuned(
    logbook: Logbook, best: Mapping[str, Any] = BEST, trials: pd.DataFrame = TRIALS, **metrics: float
) -> tuple[str, dict[str, str]]:
    """Log a run of tune as the stage does, and return it with the content of its tables."""
    run_id = logbook.run(
        {
            "stage": "tune",
            "study": "<i>mine</i>",
            "dataset": "digits",
            "arch": "small_cnn",
            "config": json.dumps(CONFIG),
            "upstream.baseline": "d" * 32,
        },
        {"trials": len(trials), "base_val_accuracy": 0.9375, **metrics},
        name="tune digits small_cnn",
    )
    tables = {
        "trials": trials,
        "front": trials.iloc[[0, 2]] if len(trials) else trials,
        "hypervolume": pd.DataFrame({"trial": trials["trial"], "hypervolume": [0.375, 0.375, 0.46875][: len(trials)]}),
        "importances": pd.DataFrame({"parameter": ["ratio"], "calibrated_val_accuracy": [1.0], "cost": [1.0]})[
            : len(trials)
        ],
        "fidelities": pd.DataFrame({"epochs": [0], "more_epochs": [2], "configurations": [3], "spearman": [0.75]})[
            : len(trials)
        ],
    }
    content = {f"{name}.csv": table.to_csv(index=False) for name, table in tables.items()}
    for name, text in content.items():
        logbook.client.log_text(run_id, text, name)
    logbook.client.log_dict(run_id, SPACE, "space.json")
    logbook.client.log_dict(run_id, dict(best), "best.json")
    return run_id, content


def said(page: str) -> str:
    """Return the result in words."""
    return page.partition("<h2>What came out</h2>")[2].partition("</section>")[0]


def test_it_says_what_was_asked_and_what_came_out(logbook: Logbook, store_uri: str) -> None:
    run_id, _ = tuned(logbook, version=3.0)
    page = study_page.render(run_id, store_uri, {})
    assert "objective=flops_max, mode=front, max_accuracy_drop=0.1, trials=2." in page
    assert rows(page, "What was searched")[1:] == [
        ["method", "singletons, <b>own</b>", ""],
        ["ratio", "0.1 to 0.9, logarithmic", ""],
        ["n_groups", "2 to 4 in steps of 2", "method is <b>own</b> or random, epochs above 0"],
        ["loss", "bce, kd", "policy is ratio"],
    ]
    assert "3 results, 1 of them logged before; 2 on the front." in said(page)
    assert '<p class="lead">Trial 0 is the cheapest that loses at most 0.1 against the base model' in said(page)
    assert "(calibrated_val_accuracy) is 50.0 %, that of the base model 93.8 %, a drop of 6.2 points" in said(page)
    assert "4.00 times fewer FLOPs" in said(page)
    # What the trial does not have is not said of it.
    assert f"Its configuration: epochs=0, method=singletons, ratio=0.5. Its run: {'a' * 32}." in said(page)
    assert "registered as version 3 of ensemble" in said(page)
    assert parameters(page) == {name: "" if value is None else str(value) for name, value in CONFIG.items()}
    assert rows(page, "Runs")[1:] == [["tune", run_id], ["baseline", "d" * 32]]
    assert numbers(page)["Accuracy on validation images"] == ("50.0 %", "base model 93.8 %: -43.8 points")


def test_a_study_of_an_earlier_version_is_told_by_its_raw_accuracy(logbook: Logbook, store_uri: str) -> None:
    raw = {"calibrated_val_accuracy": "val_accuracy"}
    best = {raw.get(name, name): value for name, value in BEST.items()}
    run_id, content = tuned(logbook, best, TRIALS.rename(columns=raw))
    importances = content["importances.csv"].replace("calibrated_", "")
    logbook.client.log_text(run_id, importances, "importances.csv")
    page = study_page.render(run_id, store_uri, {})
    assert "Its accuracy on validation data (val_accuracy) is 50.0 %, that of the base model 93.8 %" in said(page)
    assert list(figures(page)) == FIGURES


def test_where_nothing_is_within_it_says_so(logbook: Logbook, store_uri: str) -> None:
    run_id, _ = tuned(logbook, {**BEST, "within": False})
    told = said(study_page.render(run_id, store_uri, {}))
    assert "comes nearest: nothing is within what was asked for (the cheapest that loses" in told
    assert "registered" not in told


def test_a_study_without_a_finished_trial(logbook: Logbook, store_uri: str) -> None:
    reason = {"within": False, "reason": "there is no finished trial"}
    page = study_page.render(tuned(logbook, reason, TRIALS.iloc[:0])[0], store_uri, {})
    assert "Nothing is recommended: there is no finished trial." in said(page)
    assert not figures(page)
    assert_stands_alone(page)


def test_figures_and_tables_hold_what_was_logged(logbook: Logbook, store_uri: str) -> None:
    run_id, content = tuned(logbook)
    page = study_page.render(run_id, store_uri, {})
    assert_stands_alone(page)
    assert list(figures(page)) == FIGURES
    found = downloads(page)
    shown = ("trials.csv", "hypervolume.csv", "importances.csv", "trials.csv")
    assert {name: found[f"{name}.csv"] for name in FIGURES} == {
        name: content[table] for name, table in zip(FIGURES, shown, strict=True)
    }
    assert [row[:2] for row in rows(page, "Front")[1:]] == [["0", "a" * 8], ["3", "c" * 8]]
    assert [row[5] for row in rows(page, "Trials")] == [
        *("FLOPs of the largest member", "250,000", "500,000", "750,000"),
    ]
    told = [row[-1] for row in rows(page, "Trials")[1:]]
    assert told == [
        "method=singletons, ratio=0.5",
        "method=<b>own</b>, n_groups=2, ratio=0.25",
        "method=<b>own</b>, n_groups=4, ratio=0.125",
    ]
    # A column a parameter is in the CSV.
    assert found["Trials.csv"] == content["trials.csv"]
    assert rows(page, "Rank correlations of fidelities")[1:] == [["0", "2", "3", "0.75"]]


def test_names_are_text_and_never_markup(logbook: Logbook, store_uri: str) -> None:
    page = without_data(own_part(study_page.render(tuned(logbook)[0], store_uri, {})))
    assert not [markup for markup in ("<b>", "<i>") if markup in page]
    assert "&lt;i&gt;mine&lt;/i&gt;" in page


def cells(table: Table, column: int) -> list[str]:
    return [row[column].text for row in table.rows]


def test_cells_that_name_a_run_lead_to_it() -> None:
    ids = ["1" * 32, "<1>", "2"]
    table = Table(
        "t", "", pd.DataFrame({"run_id": ids, "more": ["1" * 32, "1", "a 1"]}), {"1" * 32: "url", "<1>": "other"}
    )
    first, second, third = table.rows
    assert first == (("1" * 8, "url", "1" * 32), ("1" * 32, "url", ""))
    assert [each.url for each in (*second, *third)] == ["other", "", "", ""]


def test_numbers_are_written_as_their_units_ask() -> None:
    frame = pd.DataFrame(
        {
            "flops": [1234567.0, None],
            "accuracy": [0.123456, 1.0],
            "own": [0.123456, 1234567.5],
            "whole": [12345.0, 3.0],
            "seed": [1, 0],
            "none": [None, None],
        }
    )
    table = Table("t", "", frame)
    assert [column.name for column in table.columns] == ["flops", "accuracy", "own", "whole", "seed"]
    assert table.columns[1].words.heading == "top-1 accuracy [%]"
    assert [cells(table, column) for column in range(5)] == [
        *(["1,234,567", ""], ["12.35", "100.00"], ["0.1235", "1.235e+06"], ["12345", "3"], ["1", "0"]),
    ]


def test_columns_have_words_with_the_logged_name_and_its_meaning() -> None:
    frame = pd.DataFrame({"classes": ["007"], "flops_max": [1.0], "config.ratio": [0.5], "text": ["a"]})
    columns = Table("t", "", frame).columns
    assert [each.words.heading for each in columns] == ["classes", "FLOPs of the largest member", "ratio", "text"]
    assert columns[1].explained == "flops_max: FLOPs of the largest member"
    assert columns[2].explained == "config.ratio"
    # Names of classes are texts, even where they look like numbers.
    assert [each.is_text for each in columns] == [True, False, False, True]
