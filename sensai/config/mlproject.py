"""Write MLproject from the declarations of parameters: `python -m sensai.config.mlproject`."""

import sys

from yaml import safe_dump

from sensai.config.entry_point import EntryPoint
from sensai.config.entry_points import CONFIGS
from sensai.config.usage import defaults_of

_HEADER = """\
# Written by `make mlproject` from sensai/config.
# Each entry point lists its own parameters and those that most users set. It takes those of earlier stages too:
# `mlflow run . -e prune -P zero_threshold=0.01`. `sensai <entry point> --help` lists and explains all.
"""


def render() -> str:
    """Return the text of MLproject."""
    project = {
        "name": "sensai",
        "conda_env": "conda.yaml",
        "entry_points": {stage: _entry_point(config) for stage, config in CONFIGS.items()},
    }
    return _HEADER + safe_dump(project, sort_keys=False, width=1_000_000, default_flow_style=None)


def _entry_point(config: type[EntryPoint]) -> dict[str, object]:
    names = config.listed_names()
    return {
        "parameters": {name: _parameter(defaults_of(config)[name]) for name in names},
        "command": f"python entrypoints/{config.stage}.py {' '.join(f'--{name} {{{name}}}' for name in names)}",
    }


def _parameter(default: object) -> dict[str, object]:
    # MLflow knows float for every number, and string for the rest; an optional number is empty by default.
    if isinstance(default, bool):
        return {"type": "string", "default": str(default).lower()}
    if isinstance(default, int | float):
        return {"type": "float", "default": default}
    return {"type": "string", "default": "" if default is None else default}


if __name__ == "__main__":
    sys.stdout.write(render())
