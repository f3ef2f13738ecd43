"""report: table and figures of an evaluation as one HTML artifact, from what was logged alone."""

from analysis.report import render
from sensai.stages import evaluate, retrain
from sensai.stages.configs import ReportConfig
from sensai.stages.stage import Context, Stage


def _execute(config: ReportConfig, context: Context) -> None:
    if config.control_run:
        context.store.finished_run(config.control_run, "evaluate", "control_run")
    html = render(context.upstream["evaluate"], context.store.client.tracking_uri, config.control_run)
    context.run.log_text(html, "report.html")


stage = Stage(version=1, config=ReportConfig, previous=evaluate.stage, execute=_execute, title=retrain.title)
run = stage.run
