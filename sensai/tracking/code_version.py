"""The commit of the code that runs."""

import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from mlflow.entities import SourceType
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE

from sensai.tracking import tags

_PACKAGE = Path(__file__).resolve().parent.parent
_DIRTY = "-dirty"


@cache
def code_commit() -> str:
    """Return the commit of the checkout that sensAI is imported from; empty where it is no checkout, or git is not there.

    Its name ends with `-dirty` if files of the package differ from that commit.
    """
    # An installed package can lie inside the checkout of another project.
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return ""
    return commit if _git("diff", "--quiet", "HEAD", "--", ".") is not None else commit + _DIRTY


def source_tags(run_tags: Mapping[str, str]) -> dict[str, str]:
    """Return MLflow's own tags of the source of a run, from sensAI's tags: its entry point and the commit of the code.

    A run that `mlflow run` opened has them already.
    """
    named = {MLFLOW_SOURCE_TYPE: SourceType.to_string(SourceType.LOCAL)}
    if stage := run_tags.get(tags.STAGE):
        named[MLFLOW_SOURCE_NAME] = stage
    if commit := code_commit():
        named[MLFLOW_GIT_COMMIT] = commit.removesuffix(_DIRTY)
    return named


def _git(*arguments: str) -> str | None:
    """Return what git prints about the package; None: it fails, or is not there."""
    try:
        result = subprocess.run(  # noqa: S603  (our own arguments)
            ["git", *arguments],  # noqa: S607  (the git that the user has)
            cwd=_PACKAGE,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
