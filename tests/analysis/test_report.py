"""The report is one self-contained page with the values of the tables and unchanged names."""

import base64
import html
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

from sensai.analysis.differences import IncomparableError
from sensai.analysis.report import evaluation_page
from sensai.analysis.report.page import Opening, RunLink, render_page
from sensai.analysis.report.summary import summary_table
from sensai.analysis.report.yardstick_comparison import MEASURE, Comparison
from sensai.evaluation.roles import EXPLANATIONS, TITLES
from tests.analysis.conftest import Logbook
from tests.helpers.pipeline import FinishedMain

FIGURES = ["Accuracy and cost", "Accuracy and size", "Widths", "Confusion", "Similarity", "Coupling"]
METRICS = {
    "base_accuracy": 0.98765,
    "base_top5_accuracy": 1.0,
    "params_base": 65379.0,
    "flops_base": 2986368.0,
    "latency_base_ms": 0.51234,
    "params_max": 15595.0,
    "flops_max": 772770.0,
    "latency_member_max_ms": 0.25,
    "accuracy": 0.96,
    "top5_accuracy": 0.999,
    "params_total": 45505.0,
    "flops_total": 2241698.0,
    "latency_ensemble_ms": 1.5,
    "flops_speedup": 3.86,
}


def render(evaluate_run: str, tracking_uri: str, **yardstick_runs: str) -> str:
    """Return the page on an evaluation beside some yardsticks, with a command for every choice."""
    commands = {name: f"use {name}" for name in TITLES} | {MEASURE: "measure"}
    return evaluation_page.render(evaluate_run, tracking_uri, yardstick_runs, commands, {"dataset": "name of the data"})


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading."""
    table = page.partition(f"<h2>{heading}</h2>")[2].partition("</table>")[0]
    found = [re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", row, re.DOTALL) for row in table.split("</tr>")]
    return [[html.unescape(re.sub("</?a[^>]*>", "", cell)) for cell in row] for row in found if row]


def numbers(page: str) -> dict[str, tuple[str, str]]:
    """Return label -> value and note of the numbers on the first screen."""
    shown = re.findall(r'<dt>(.*?)</dt><dd class="value">(.*?)</dd><dd>(.*?)</dd>', page)
    return {label: (value, note) for label, value, note in shown}


class TestSummary:
    """`summary_table`."""

    def test_it_sets_the_ensemble_beside_the_base_model(self) -> None:
        table = summary_table(METRICS)
        assert list(table.columns) == ["accuracy", "top5_accuracy", "params", "flops", "latency_ms"]
        assert list(table.index) == ["base model", "largest member", "ensemble"]
        assert table.loc["base model"].tolist() == ["0.9877", "1.0000", "65,379", "2,986,368", "0.512"]
        assert table.loc["largest member"].tolist() == ["", "", "15,595", "772,770", "0.250"]
        assert table.loc["ensemble"].tolist() == ["0.9600", "0.9990", "45,505", "2,241,698", "1.500"]

    def test_yardsticks_are_further_networks(self) -> None:
        measured = {"accuracy": 0.9, "params_total": 1000.0, "flops_total": 5e5, "params_max": 7.0}
        table = summary_table(METRICS, {"control": measured, "base": {}})
        assert list(table.index)[3:] == ["control", "base model trained further"]
        assert table.loc["control"].tolist() == ["0.9000", "", "1,000", "500,000", ""]
        assert table.iloc[:3].equals(summary_table(METRICS))

    def test_what_was_not_logged_is_left_empty(self) -> None:
        assert set(summary_table({}).to_numpy().ravel()) == {""}
        table = summary_table({"accuracy": 0.5})
        assert table.loc["ensemble"].tolist() == ["0.5000", "", "", "", ""]


def png(logbook: Logbook, run_id: str, name: str) -> None:
    logbook.client.log_image(run_id, np.zeros((4, 4, 3), np.uint8), name)


def evaluation(logbook: Logbook, classes: list[str]) -> str:
    """Log an evaluation with members of these classes, and everything else that the report reads."""
    ids = {stage: logbook.run({"stage": stage}) for stage in ("activations", "group", "prune")}
    evaluate = logbook.run(
        {
            "stage": "evaluate",
            "config": json.dumps({"dataset": "<script>alert(1)</script>"}),
            **{f"upstream.{stage}": run_id for stage, run_id in ids.items()},
        },
        METRICS,
        name="evaluate <i>set</i> & co",
    )
    numbered = {"member": range(len(classes)), "classes": classes}
    layers = pd.DataFrame({**numbered, "depth": 0, "site": "conv", "channels": 8, "kept": 4})
    logbook.client.log_text(ids["prune"], layers.to_csv(index=False), "layers.csv")
    logbook.client.log_text(ids["activations"], "<b>1</b>,site\n1.0,0.5\n0.5,1.0\n", "class_similarity.csv")
    logbook.client.log_text(ids["group"], "<b>1</b>,site\n7,2\n2,7\n", "coupling.csv")
    groups = {"groups": [[0], [1]], "class_names": ["<b>1</b>", "site"], "order": [1, 0]}
    logbook.client.log_dict(ids["group"], groups, "groups.json")
    logbook.client.log_text(evaluate, "<b>1</b>,site\n3,1\n0,4\n", "confusion.csv")
    accuracies = {"binary_accuracy": 0.123456, "balanced_accuracy": 0.5}
    table = pd.DataFrame({**numbered, "flops": 1000, **accuracies})
    logbook.client.log_text(evaluate, table.to_csv(index=False), "members.csv")
    answers(logbook, evaluate, right=3)
    return evaluate


def answers(logbook: Logbook, run_id: str, right: int) -> None:
    """Return answers of an ensemble that is right on the first few of four images, and of a base model that is right on
    all.
    """
    frame = pd.DataFrame({"label": 1, "ensemble": [int(number < right) for number in range(4)], "base": 1})
    logbook.client.log_text(run_id, frame.to_csv(index=False), "answers.csv")


@pytest.fixture
def nasty(logbook: Logbook) -> str:
    """Log an evaluation whose names are HTML."""
    return evaluation(logbook, ["<b>bold</b>+a&b"])


def test_names_are_text_and_never_markup(nasty: str, store_uri: str) -> None:
    page = without_data(own_part(render(nasty, store_uri)))
    for markup in ("<b>", "<i>", "<script>alert"):
        assert markup not in page
    assert "&lt;b&gt;bold&lt;/b&gt;+a&amp;b" in page
    assert rows(page, "Parameters")[1:] == [["dataset", "<script>alert(1)</script>", "name of the data"]]
    assert f"<span>run {nasty}</span>" in page


def test_the_tables_hold_the_logged_values(nasty: str, store_uri: str) -> None:
    page = render(nasty, store_uri)
    summary = rows(page, "Base model and ensemble")
    assert [row for row in summary if row[0] == "ensemble"] == [
        ["ensemble", "96.00", "99.90", "45,505", "2,241,698", "1.500"]
    ]
    assert rows(page, "Members")[1:] == [["0", "<b>bold</b>+a&b", "1,000", "12.35", "50.00"]]
    assert nasty in page


def test_the_warning_of_the_evaluation_stands_first(logbook: Logbook, nasty: str, store_uri: str) -> None:
    assert "<h2>Warning</h2>" not in render(nasty, store_uri)
    logbook.client.set_tag(nasty, "sensai.leakage", "the base model <i>knows</i> validation images")
    page = render(nasty, store_uri)
    first = page.index("<h2>Warning</h2>")
    assert first < page.index("<h2>Base model and ensemble</h2>")
    assert "The base model &lt;i&gt;knows&lt;/i&gt; validation images." in page[first:]


def test_combinations_are_shown_where_they_were_logged(logbook: Logbook, nasty: str, store_uri: str) -> None:
    assert "<h2>Combination" not in render(nasty, store_uri)
    logbook.client.log_text(nasty, "combine,accuracy,val_nll\nraw,0.5,1.23456\nbase model,0.75,\n", "combine.csv")
    page = render(nasty, store_uri)
    table = rows(page, "Combination of outputs")
    assert table[1:] == [["raw", "50.00", "1.235"], ["base model", "75.00", ""]]
    logbook.client.log_dict(nasty, {"method": "raw"}, "calibration.json")
    assert rows(render(nasty, store_uri), "Combination of outputs")[1][0] == "raw (in use)"


def test_yardsticks_stand_beside_the_ensemble(logbook: Logbook, nasty: str, store_uri: str) -> None:
    control = logbook.run({"stage": "evaluate"}, {"accuracy": 0.75, "flops_total": 3.0})
    answers(logbook, control, right=3)
    page = render(nasty, store_uri, control=control)
    assert rows(page, "Base model and ensemble")[-1] == ["control", "75.00", "", "", "3", ""]
    assert control in page
    # Where one has timed nothing, as in an old store, there is no verdict.
    assert "There is no verdict" in page


def test_the_verdict_stands_first_with_the_next_command(logbook: Logbook, nasty: str, store_uri: str) -> None:
    control = logbook.run({"stage": "evaluate"}, METRICS | {"latency_member_max_ms": 0.3, "members": 1.0})
    answers(logbook, control, right=1)
    page = render(nasty, store_uri, control=control)
    assert page.index("<h2>Verdict</h2>") < page.index("<h2>Base model and ensemble</h2>")
    told = html.unescape(page)
    assert (
        '<p class="lead">On this machine the control is the best choice: 5.0x faster than the ensemble and 50.0' in told
    )
    assert "Next, to use the control: <code>use control</code>" in told
    assert "Next, to measure yardsticks: <code>measure</code>" in render(nasty, store_uri)
    terms = re.findall("<div><dt>(.*?)</dt><dd>([^<]*)</dd></div>", told)
    assert [word for word, _ in terms[:5]] == ["base model", "member", "ensemble", "control", "yardstick"]
    assert terms[3][1] == EXPLANATIONS["control"]
    # Times of different machines are not compared.
    logbook.client.set_tag(control, "sensai.host", '{"cores": "64"}')
    assert "There is no verdict" in render(nasty, store_uri, control=control)


def test_differences_in_accuracy_have_their_intervals(logbook: Logbook, nasty: str, store_uri: str) -> None:
    control = logbook.run({"stage": "evaluate"})
    answers(logbook, control, right=1)
    table = Comparison.of(nasty, {"control": control}, store_uri).gains()
    # Of four images, all or none of those that differ may be drawn.
    assert table.to_dict("index") == {
        "ensemble - base model": {"difference": "-0.2500", "95 % interval": "-0.7500 to +0.0000"},
        "ensemble - control": {"difference": "+0.5000", "95 % interval": "+0.0000 to +1.0000"},
    }
    assert Comparison.of(nasty, {}, store_uri).gains().equals(table.iloc[:1])
    page = rows(render(nasty, store_uri, control=control), "Differences in accuracy")
    # In points.
    assert page[-2:] == [
        ["ensemble - base model", "-25.00", "-75.00 to +0.00"],
        ["ensemble - control", "+50.00", "+0.00 to +100.00"],
    ]


def test_a_yardstick_without_answers_is_refused(logbook: Logbook, nasty: str, store_uri: str) -> None:
    control = logbook.run({"stage": "evaluate"})
    with pytest.raises(IncomparableError, match=rf"run {control} has no answers\.csv"):
        render(nasty, store_uri, control=control)


def test_names_that_look_like_numbers_stay_as_they_are(logbook: Logbook, store_uri: str) -> None:
    page = render(evaluation(logbook, ["007", "NA", "1e3"]), store_uri)
    assert [row[1] for row in rows(page, "Members")[1:]] == ["007", "NA", "1e3"]
    page = render(evaluation(logbook, ["007", "1e3"]), store_uri)
    assert [row[1] for row in rows(page, "Members")[1:]] == ["007", "1e3"]


def own_part(page: str) -> str:
    """Return the page without the library of its figures, which it contains once."""
    assert page.count(get_plotlyjs()) == 1
    return page.replace(get_plotlyjs(), "")


def without_data(page: str) -> str:
    return re.sub(r'(base64,|"bdata":")[A-Za-z0-9+/=]+', r"\1", page)


def parameters(page: str) -> dict[str, str]:
    """Return name -> value of the parameters that the page lists."""
    return {name: value for name, value, *_ in rows(page, "Parameters")[1:]}


def figures(page: str) -> dict[str, dict]:
    """Return title -> the first figure below it that a browser will draw."""
    found = re.findall(
        r'<h2>([^<]*)</h2>\s*<p class="reading">[^<]*</p>\s*<figure>.*?<script type="application/json">(.*?)</script>',
        page,
        re.DOTALL,
    )
    return {title: json.loads(figure) for title, figure in found}


def downloads(page: str) -> dict[str, str]:
    """Return name -> the CSV behind a link."""
    found = re.findall(r'<a class="csv" download="([^"]*)" href="data:text/csv;base64,([^"]*)">', page)
    return {html.unescape(name): base64.b64decode(content).decode() for name, content in found}


def assert_stands_alone(page: str) -> None:
    # What the library could ask for is refused by the browser before it asks.
    policy = html.unescape(re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)[0])
    allowed = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert allowed.pop("default-src") == "'none'"
    assert {part for rule in allowed.values() for part in rule.split()} == {"data:", "blob:", "'unsafe-inline'"}
    assert page.index("Content-Security-Policy") < page.index("<script")
    page = own_part(page)
    assert "//" not in without_data(page), "refers to another host"
    sources = re.findall(r"""\b(?:src|href|srcset|data|action)\s*=\s*["']([^"'\s>]*)""", page)
    assert all(re.match(r"data:image/png;base64,|data:text/csv;base64,|#", source) for source in sources)
    assert not re.search(r"<(?:link|iframe|object|embed|base)\b|<script[^>]*\bsrc|@import|url\(", page)


def test_it_stands_alone(nasty: str, store_uri: str) -> None:
    assert_stands_alone(render(nasty, store_uri))


def test_figures_are_those_whose_data_were_logged(logbook: Logbook, nasty: str, store_uri: str) -> None:
    def shown() -> list[str]:
        return list(figures(render(nasty, store_uri)))

    assert shown() == FIGURES
    logbook.client.log_text(nasty, "a+b,c\n3,1\n0,4\n", "confusion_groups.csv")
    assert shown()[3:5] == ["Confusion", "Confusion between groups"]
    png(logbook, nasty, "confusion_in_groups.png")
    assert re.findall(r'<img alt="([^."]*)', own_part(render(nasty, store_uri))) == ["Confusion in groups"]


def test_all_data_are_there_to_download(nasty: str, store_uri: str) -> None:
    found = downloads(render(nasty, store_uri))
    assert {"Members.csv", "Coupling.csv", "Widths.csv", "Confusion.csv", "Similarity.csv"} <= found.keys()
    assert found["Coupling.csv"] == "<b>1</b>,site\n7,2\n2,7\n"
    assert pd.read_csv(io.StringIO(found["Members.csv"]))["binary_accuracy"].tolist() == [0.123456]


def test_runs_are_linked_where_a_server_shows_them() -> None:
    links = [RunLink("evaluate", "abc"), RunLink("prune", "def", 'http://localhost:5000/#/x?"&<')]
    page = render_page("p", [], Opening("o", ["s"]), [], links, {}, {})
    assert rows(page, "Runs")[1:] == [["evaluate", "abc"], ["prune", "def"]]
    assert '<a href="http://localhost:5000/#/x?&#34;&amp;&lt;">def</a>' in page
    assert own_part(page).count('<a href="http') == 1


def test_the_first_screen_is_a_title_in_words_four_numbers_and_accuracy_against_cost(
    logbook: Logbook, nasty: str, store_uri: str
) -> None:
    for name, value in {"dataset": "/data/my.py:digits", "arch": "small_cnn"}.items():
        logbook.client.set_tag(nasty, f"sensai.{name}", value)
    logbook.client.log_metric(nasty, "members", 10)
    control = logbook.run({"stage": "evaluate"}, METRICS | {"members": 1.0, "latency_member_max_ms": 0.3})
    answers(logbook, control, right=1)
    page = render(nasty, store_uri, control=control)
    assert "<h1>Ensemble of 10 small networks in place of small_cnn on my.py:digits</h1>" in page
    assert numbers(page) == {
        "Accuracy on test images": ("96.0 %", "base model 98.8 %: -25.0 points (-75.00 to +0.00)"),
        "Answer, all on this machine": ("1.5 ms", "base model 0.512 ms: 2.9x slower"),
        "Slowest network by itself": ("0.25 ms", "base model 0.512 ms: 2.0x faster"),
        "FLOPs of the largest network": ("773 k", "base model 2.99 M: 3.9x fewer"),
    }
    marks = {trace["name"]: (trace["x"], trace["y"]) for trace in figures(page)["Accuracy and cost"]["data"]}
    # On this machine, and with a machine for each network; points above the ensemble.
    assert marks["ensemble"] == ([1.5, 0.25], [0, 0])
    assert marks["base model"] == ([0.51234], [pytest.approx(25)])
    assert marks["control"] == ([0.3], [pytest.approx(-50)])
    chosen = {"base": "torch x1", "ensemble": "onnx-graph x2", "member": "torch x1"}
    logbook.client.set_tag(nasty, "sensai.runtime", json.dumps(chosen))
    shown = numbers(render(nasty, store_uri, control=control))
    assert shown["Answer, all on this machine"][1].endswith(
        ". In onnx-graph, threads: 2; base model in torch, threads: 1"
    )
    assert shown["Slowest network by itself"][1].endswith(". Both in torch, threads: 1")
    # Without times that can be compared, FLOPs are the cost.
    logbook.client.set_tag(control, "sensai.host", '{"cores": "64"}')
    figure = figures(render(nasty, store_uri, control=control))["Accuracy and cost"]
    assert figure["layout"]["xaxis"]["title"]["text"] == "FLOPs of an answer"
    assert figure["data"][0]["x"] == [2241698.0, 772770.0]


def test_every_section_begins_with_how_to_read_it(nasty: str, store_uri: str) -> None:
    page = own_part(render(nasty, store_uri))
    sections = page.partition("</nav>")[2].split("<section")[1:]
    assert len(sections) > 8
    assert [each[:80] for each in sections if not re.search('</h2>\\s*<p class="reading">[^<]+[.]</p>', each)] == []


def test_the_coupling_is_in_the_order_that_was_logged(logbook: Logbook, nasty: str, store_uri: str) -> None:
    def names() -> dict[str, str]:
        return figures(render(nasty, store_uri))["Coupling"]["layout"]["xaxis"]["labelalias"]

    assert names() == {"0": "site (in site)", "1": "&lt;b&gt;1&lt;/b&gt; (in &lt;b&gt;1&lt;/b&gt;)"}
    # Before version 3 of group there was no order.
    group = logbook.client.get_run(nasty).data.tags["sensai.upstream.group"]
    logbook.client.log_dict(group, {"groups": [[0, 1]], "class_names": ["a", "b"]}, "groups.json")
    assert names() == {"0": "a (in a+b)", "1": "b (in a+b)"}


def test_the_report_of_main(finished: FinishedMain) -> None:
    page = finished.place.artifact(finished.upstream("report"), "report.html").read_text()
    assert_stands_alone(page)
    (image,) = re.findall(r'alt="Reliability[.][^"]*" src="data:image/png;base64,([^"]+)"', page)
    assert min(Image.open(io.BytesIO(base64.b64decode(image))).size) > 200
    assert list(figures(page)) == [*FIGURES, "Learning curves"]
    curves = pd.read_csv(io.StringIO(downloads(page)["Learning curves.csv"]))
    assert curves["classes"].tolist() == ["top", "middle", "bottom"]
    assert curves["balanced_accuracy"].notna().all()
    assert [trace["text"][-1] for trace in figures(page)["Learning curves"]["data"]] == ["<br>trained all epochs"] * 3
    assert "Runtimes.csv" in downloads(page)
    run = finished.place.run(finished.upstream("evaluate"))
    summary = summary_table(run.data.metrics)
    shown = rows(page, "Base model and ensemble")
    assert [row[0] for row in shown[1:]] == list(summary.index)
    for row, (_, values) in zip(shown[1:], summary.iterrows(), strict=True):
        assert row[3:] == list(values[["params", "flops", "latency_ms"]])
        assert row[1] == (f"{100 * float(values['accuracy']):.2f}" if values["accuracy"] else "")
    assert [row[1] for row in rows(page, "Members")[1:]] == ["top", "middle", "bottom"]
    # Not the negated drop, which of equal accuracies is a negative zero.
    gain = run.data.metrics["accuracy"] - run.data.metrics["base_accuracy"]
    assert rows(page, "Differences in accuracy")[-1][:2] == ["ensemble - base model", f"{100 * gain:+.2f}"]
    for stage in ("baseline", "activations", "group", "prune", "retrain", "evaluate"):
        assert [stage, finished.upstream(stage)] in rows(page, "Runs")
    assert parameters(page)["ratio"] == "0.5"
    header, *shown = rows(page, "Parameters")
    assert header == ["parameter", "value", "meaning"]
    assert not [row for row in shown if not row[2]]
