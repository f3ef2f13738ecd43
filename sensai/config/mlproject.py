"""MLproject, written from the configurations: `python -m sensai.config.mlproject`."""

import sys

from pydantic.fields import FieldInfo
from yaml import safe_dump

from sensai.config import CONFIGS, EntryPoint

_HEADER = "# Written by `make mlproject` from sensai/config/parameters, which says what each parameter is for.\n"


def render() -> str:
    """The text of MLproject."""
    project = {
        "name": "sensai",
        "conda_env": "conda.yaml",
        "entry_points": {stage: _entry_point(config) for stage, config in CONFIGS.items()},
    }
    return _HEADER + safe_dump(project, sort_keys=False, width=1_000_000)


def _entry_point(config: type[EntryPoint]) -> dict[str, object]:
    arguments = " ".join(f"--{name} {{{name}}}" for name in config.model_fields)
    return {
        "parameters": {name: _parameter(field) for name, field in config.model_fields.items()},
        "command": f"python entrypoints/{config.stage}.py {arguments}",
    }


def _parameter(field: FieldInfo) -> dict[str, object]:
    default = field.default
    # MLflow knows float for every number, and string for the rest; an optional number is empty by default.
    if isinstance(default, bool):
        return {"type": "string", "default": str(default).lower()}
    if isinstance(default, int | float):
        return {"type": "float", "default": default}
    return {"type": "string", "default": "" if default is None else default}


if __name__ == "__main__":
    sys.stdout.write(render())
