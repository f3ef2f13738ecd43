"""Write the reference page of all parameters from their declarations: `python -m sensai.config.reference`."""

import sys

from sensai.config.annotations import choices_of, is_number
from sensai.config.conditions import ALWAYS
from sensai.config.entry_point import EntryPoint
from sensai.config.entry_points import CONFIGS
from sensai.config.usage import Among, Between, Parameter, default_texts, parameters_of
from sensai.tracking.logged_names import table_row

_HEAD = """\
<!-- Written by `make reference` from sensai/config. -->
# Parameters

Every entry point takes its own parameters and those of all stages before it. Each parameter stands here once, at the stage to
which it belongs. `sensai <entry point> --help` shows those of one entry point.

A parameter *matters* under a condition. Where the condition does not hold, the value changes no result: it is left out of the
fingerprint, so that a stored run answers. *How it runs* says where and how something runs, which never changes a result.
"""
_COLUMNS = ("parameter", "takes", "default", "meaning", "matters where", "searched by `tune`")


def render() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD]
    for stage, config in CONFIGS.items():
        lines += _section(f"`{stage}`", config, stage)
    return "\n".join([*lines, *_section("How it runs", CONFIGS["retrain"], "")])


def _section(title: str, config: type[EntryPoint], owner: str) -> list[str]:
    rows = [
        _row(each, default_texts(config)[each.name]) for each in parameters_of(config).values() if each.owner == owner
    ]
    return [f"## {title}\n", table_row(_COLUMNS), table_row("---" for _ in _COLUMNS), *rows, ""] if rows else []


def _row(parameter: Parameter, default: str) -> str:
    usage = parameter.usage
    when = "" if usage.when == ALWAYS else str(usage.when)
    shown = f"`{default}`" if default else ""
    cells = (f"`{parameter.name}`", _kind(parameter), shown, _meaning(parameter), when, _searched(usage.search))
    return table_row(cells)


def _kind(parameter: Parameter) -> str:
    if names := choices_of(parameter.field):
        return ", ".join(f"`{name}`" for name in names)
    return "number" if is_number(parameter.field.annotation) else "text"


def _meaning(parameter: Parameter) -> str:
    return f"{parameter.field.description}" + (
        "; its content counts, not its path" if parameter.usage.by_content else ""
    )


def _searched(search: Between | Among | bool) -> str:
    match search:
        case Between(low, high, log):
            return f"{low:g} to {high:g}" + (" (log)" if log else "")
        case Among(choices):
            return ", ".join(choices)
    return ""


if __name__ == "__main__":
    sys.stdout.write(render())
