"""The addresses of pages in MLflow's UI."""

from sensai.tracking.database_tables import without_password

UI_HOST, UI_PORT = "127.0.0.1", 5000
# Otherwise MLflow opens an experiment at its traces, and shows a run as one of an evaluation of agents.
_TRAINING = "?workflowType=machine_learning"


def experiment_page(experiment_id: str) -> str:
    """Return the part of an address that opens the runs of an experiment."""
    return f"/#/experiments/{experiment_id}/runs{_TRAINING}"


def run_page(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """Return where a run opens: an address for a server, else the command that starts the UI on the store, and the address."""
    path = f"/#/experiments/{experiment_id}/runs/{run_id}{_TRAINING}"
    if tracking_uri.startswith(("http://", "https://")):
        return without_password(tracking_uri).rstrip("/") + path
    return f"`sensai ui`, then http://{UI_HOST}:{UI_PORT}{path}"
