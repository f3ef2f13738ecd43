"""Import sensai from this checkout: `mlflow run` does not install the project."""

import sys
from pathlib import Path

# A script's own folder is the first place for imports, where `main` or `serve` would hide modules of those names.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from sensai import cli  # noqa: E402


def launch(stage: str) -> None:
    """Run a stage with the parameters of the command line, and end the process."""
    cli.launch(stage, sys.argv[1:])
