"""One self-contained HTML page on an evaluation, from what was logged."""

import base64
import json
from collections.abc import Mapping, Sequence

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup
from mlflow.tracking import MlflowClient

from analysis import interactive, tags
from analysis.artifacts import downloaded
from analysis.comparison import accuracy_difference, base_difference
from analysis.runs import read_table

# Figures by the stage that logs them, in the order of the page; those of groups only where there are any.
_FIGURES = {
    "evaluate": ("confusion.png", "confusion_groups.png", "confusion_in_groups.png", "reliability.png", "members.png"),
    "prune": ("widths.png",),
    "activations": ("class_similarity.png",),
}
# The browser fetches nothing and sends nothing, whatever a script might ask for.
_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8884; padding: .25rem .75rem; text-align: right; }
td { max-width: 24rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
td:hover { white-space: normal; overflow-wrap: anywhere; }
th:first-child, td:first-child { text-align: left; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 2rem 0; } img { max-width: 100%; background: white; }
</style>
<h1>{{ title }}</h1>
<h2>Base model and ensemble</h2>
{{ summary }}
<h2>Differences in accuracy</h2>
{{ differences }}
{% if combinations %}<h2>Combination of the members' outputs</h2>
{{ combinations }}{% endif %}
<h2>Members</h2>
{{ members }}
{% for figure in figures %}<figure><img alt="{{ figure.name }}" src="data:image/png;base64,{{ figure.data }}">
<figcaption>{{ figure.name }} (run {{ figure.run }})</figcaption></figure>
{% endfor %}
<h2>Coupling</h2>
<figure>{{ coupling }}
<figcaption>Channels that the plans of both classes remove, classes in the order of a dendrogram
(run {{ runs.group }})</figcaption></figure>
<h2>Runs</h2>
<ul>{% for stage, run in runs.items() %}<li>{{ stage }}: <code>{{ run }}</code></li>{% endfor %}</ul>
<h2>Parameters</h2>
<pre>{{ config }}</pre>
</html>
"""


# Row of the summary -> the metrics of an evaluate run that stand in it, in the order of `_SUMMARY_COLUMNS`. Of a single
# member accuracies are not comparable.
_SUMMARY_ROWS = {
    "base model": ("base_accuracy", "base_top5_accuracy", "params_base", "flops_base", "latency_base_ms"),
    "largest member": (None, None, "params_max", "flops_max", "latency_member_max_ms"),
    "ensemble": ("accuracy", "top5_accuracy", "params_total", "flops_total", "latency_ensemble_ms"),
}
_SUMMARY_COLUMNS = ("accuracy", "top5_accuracy", "params", "flops", "latency_ms")


def summary_table(metrics: Mapping[str, float], control: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Base model against ensemble: accuracy (fractions of the test split), params, FLOPs, latency (ms at batch 1).

    Args:
        metrics: of an evaluate run.
        control: of the evaluate run of the control, one K-way network pruned to the FLOPs of the largest member.

    Returns:
        Rows `base model`, `largest member`, `ensemble` and, where given, `control`; columns accuracy, top-5, params, flops,
        latency_ms. Of a single member accuracies are not comparable and left empty.
    """
    rows = {name: [metrics.get(metric or "") for metric in row] for name, row in _SUMMARY_ROWS.items()}
    if control is not None:
        rows["control"] = [control.get(metric or "") for metric in _SUMMARY_ROWS["ensemble"]]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(_SUMMARY_COLUMNS), dtype="float64")
    table.index.name = "network"
    return pd.DataFrame(
        {
            "accuracy": table["accuracy"].map("{:.4f}".format, na_action="ignore"),
            "top5_accuracy": table["top5_accuracy"].map("{:.4f}".format, na_action="ignore"),
            "params": table["params"].map("{:,.0f}".format, na_action="ignore"),
            "flops": table["flops"].map("{:,.0f}".format, na_action="ignore"),
            "latency_ms": table["latency_ms"].map("{:.3f}".format, na_action="ignore"),
        }
    ).fillna("")


def differences_table(evaluate_run: str, tracking_uri: str, control_run: str = "") -> pd.DataFrame:
    """What the ensemble gains in accuracy on the same test images, with paired 95 % intervals, as fractions.

    Args:
        evaluate_run: of the ensemble.
        tracking_uri: of the store that holds it.
        control_run: the evaluate run of the control, if there is one.

    Returns:
        Rows `ensemble - base model` and, where given, `ensemble - control`; columns difference, 95 % interval.

    Raises:
        IncomparableError: a run without answers, or a control on other data.
    """
    found = {"ensemble - base model": base_difference(evaluate_run, tracking_uri=tracking_uri)}
    if control_run:
        found["ensemble - control"] = accuracy_difference(evaluate_run, control_run, tracking_uri=tracking_uri)
    rows = {
        name: {"difference": f"{each.difference:+.4f}", "95 % interval": f"{each.low:+.4f} to {each.high:+.4f}"}
        for name, each in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("accuracy")


def render(evaluate_run: str, tracking_uri: str, control_run: str = "") -> str:
    """The page on one evaluate run, as HTML without references to other files or hosts.

    Args:
        evaluate_run: what the page is about.
        tracking_uri: of the store that holds it.
        control_run: the evaluate run of the control, if there is one.

    Raises:
        IncomparableError: a run without answers, or a control on other data.
    """
    client = MlflowClient(tracking_uri)
    run = client.get_run(evaluate_run)
    runs = {
        key.removeprefix(tags.UPSTREAM): value for key, value in run.data.tags.items() if key.startswith(tags.UPSTREAM)
    } | {"evaluate": evaluate_run}
    figures = [
        {"name": name, "run": runs[stage], "data": _base64(runs[stage], name, tracking_uri)}
        for stage, names in _FIGURES.items()
        for name in _logged(client, runs[stage], names)
    ]
    control = client.get_run(control_run).data.metrics if control_run else None
    with downloaded(evaluate_run, "members.csv", tracking_uri) as file:
        members = read_table(file)
    page = Environment(autoescape=True).from_string(_PAGE)
    return page.render(
        title=run.info.run_name,
        summary=_safe(summary_table(run.data.metrics, control).to_html()),
        differences=_safe(differences_table(evaluate_run, tracking_uri, control_run).to_html()),
        combinations=_combinations(client, evaluate_run, tracking_uri),
        members=_safe(members.to_html(index=False, float_format="{:.4g}".format)),
        figures=figures,
        coupling=_safe(_coupling(runs["group"], tracking_uri)),
        policy=_POLICY,
        runs=runs | ({"evaluate of the control": control_run} if control_run else {}),
        config=run.data.tags.get(tags.CONFIG, ""),
    )


def _logged(client: MlflowClient, run_id: str, names: Sequence[str]) -> list[str]:
    """Those of the artifacts that a run has."""
    found = {each.path for each in client.list_artifacts(run_id)}
    return [name for name in names if name in found]


def _combinations(client: MlflowClient, evaluate_run: str, tracking_uri: str) -> Markup | None:
    """The ways to combine outputs beside each other, which were not logged before version 4 of evaluate."""
    for path in _logged(client, evaluate_run, ["combine.csv"]):
        with downloaded(evaluate_run, path, tracking_uri) as file:
            return _safe(pd.read_csv(file).to_html(index=False, float_format="{:.4f}".format))
    return None


def _coupling(group_run: str, tracking_uri: str) -> str:
    with downloaded(group_run, "coupling.csv", tracking_uri) as file:
        matrix = pd.read_csv(file).to_numpy()
    with downloaded(group_run, "groups.json", tracking_uri) as file:
        content = json.loads(file.read_text())
    # Before version 3 of the stage the order was not logged.
    order = content.get("order", range(len(matrix)))
    heatmap = interactive.coupling_heatmap(matrix, content["class_names"], content["groups"], order)
    return interactive.fragment(heatmap, "coupling")


def _base64(run_id: str, path: str, tracking_uri: str) -> str:
    with downloaded(run_id, path, tracking_uri) as file:
        return base64.b64encode(file.read_bytes()).decode()


def _safe(html: str) -> Markup:
    return Markup(html)  # noqa: S704  (made by pandas and plotly, names escaped)
