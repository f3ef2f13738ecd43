"""Import sensai from this checkout: `mlflow run` does not install the project."""

import sys
from pathlib import Path

# A script's own folder is the first place for imports, where `main` or `serve` would hide modules of those names.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from sensai.cli import launch  # noqa: E402

__all__ = ["launch"]
