"""report: table and figures of an evaluation as one HTML artifact, from what was logged alone."""

from analysis.comparison import IncomparableError
from analysis.report import render
from sensai.errors import InputError
from sensai.stages import evaluate, retrain
from sensai.stages.configs import ReportConfig
from sensai.stages.stage import Context, Stage


def _execute(config: ReportConfig, context: Context) -> None:
    control_run = ""
    if config.control_run:
        # The run that answered, where the one that is named was answered from the cache: it has the artifacts.
        control_run = context.store.finished_run(config.control_run, "evaluate", "control_run").info.run_id
    try:
        html = render(context.upstream["evaluate"], context.store.client.tracking_uri, control_run)
    except IncomparableError as error:
        raise InputError(f"from_run={config.from_run!r}, control_run={config.control_run!r}: {error}") from error
    context.run.log_text(html, "report.html")


stage = Stage(version=5, config=ReportConfig, previous=evaluate.stage, execute=_execute, title=retrain.title)
run = stage.run
