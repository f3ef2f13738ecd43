"""The only part that talks to MLflow runs: `store` finds and opens runs, `run` logs into one."""

from sensai.tracking import artifact_names
from sensai.tracking.run import Run, close_begun, log_on_top
from sensai.tracking.store import Store

__all__ = ["Run", "Store", "artifact_names", "close_begun", "log_on_top"]
