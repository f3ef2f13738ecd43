"""The verdict of one evaluation, and the commands that follow a verdict."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from sensai.analysis.report.yardstick_comparison import MEASURE
from sensai.analysis.resampling import paired_difference
from sensai.config import EvaluateConfig, MainConfig, RegisterConfig, ReportConfig
from sensai.config.arguments import as_command
from sensai.config.entry_points import ActivationsConfig
from sensai.evaluation.roles import BASE_MODEL, CONTROL, ENSEMBLE, REPLICAS, TITLES, role_of
from sensai.evaluation.verdict import Verdict, base_model, evaluated, verdict

if TYPE_CHECKING:
    from sensai.ensemble import Ensemble


def role(ensemble: "Ensemble", metrics: Mapping[str, float]) -> str:
    """Return the role of an ensemble with these sizes (see `role_of`)."""
    is_cut = metrics["params_max"] < metrics["params_base"]
    return role_of(ensemble.groups, len(ensemble.class_names), is_cut=is_cut)


def by_itself(role: str, metrics: Mapping[str, float], answers: pd.DataFrame, commands: Mapping[str, str]) -> Verdict:
    """Return the verdict on an evaluation without yardsticks.

    Args:
        role: of what was evaluated.
        metrics: that the evaluation logs.
        answers: of all test images; columns label, ensemble and base, class indices.
        commands: see `commands_after`.
    """
    judged = evaluated(role, metrics, None, commands[role])
    if judged is None:
        raise ValueError("an evaluation must have its latencies before the verdict")
    base_right, right = ((answers[name] == answers["label"]).to_numpy() for name in ("base", "ensemble"))
    base = base_model(judged, paired_difference(base_right, right), commands[BASE_MODEL])
    return verdict(judged, [base], commands[MEASURE] if role == ENSEMBLE else "")


def commands_after(
    config: EvaluateConfig | MainConfig | ReportConfig, serve: str, yardstick_runs: Mapping[str, str]
) -> dict[str, str]:
    """Return the next command after a verdict: name of the best choice, or `MEASURE` -> command.

    Args:
        config: of the evaluation.
        serve: the command that brings the ensemble itself nearer to serving.
        yardstick_runs: name of a yardstick -> its evaluate run.
    """
    return {
        **dict.fromkeys(TITLES, serve),
        **{name: registering(config, run_id) for name, run_id in yardstick_runs.items()},
        # The base model is there already: a search may find an ensemble that is worth its cost.
        BASE_MODEL: as_command("tune", config.upstream(ActivationsConfig)),
        MEASURE: as_command("main", config, yardsticks=f"{CONTROL},{REPLICAS}"),
    }


def registering(config: EvaluateConfig | MainConfig | ReportConfig, evaluate_run: str) -> str:
    """Return the command that registers what an evaluate run has measured, under the model's name of `main`."""
    own = {"model_name": config.model_name} if isinstance(config, MainConfig) else {}
    return as_command("register", RegisterConfig(**own), from_run=evaluate_run)
