"""Write the help of an entry point: summary, example, its own parameters, then those of earlier stages by section."""

import shutil
import textwrap
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from sensai.config.annotations import choices_of, is_number
from sensai.config.arguments import CONFIG_FILE
from sensai.config.conditions import ALWAYS
from sensai.config.entry_point import EntryPoint
from sensai.config.entry_points import CONFIGS
from sensai.config.usage import Parameter, default_texts, parameters_of

_WIDEST, _INDENT = 110, " " * 6
# A parameter with more choices shows NAME, and lists them in its text.
_MOST_CHOICES = 5
_EXAMPLES = {
    "main": "--method min_flops --n_groups 5 --epochs 30",
    "baseline": "--dataset cifar10 --arch resnet20",
    "activations": "--zero_threshold 0.01",
    "group": "--method most_similar --n_groups 5",
    "prune": "--ratio 0.1",
    "retrain": "--ratio 0.1 --epochs 30",
    "evaluate": "--from_run RUN_ID",
    "register": "--model_name my-ensemble",
    "promote": "--max_accuracy_drop 0.01",
    "predict": "--images photo.png",
    "serve": "--port 8000",
    "report": "--from_run RUN_ID",
    "tune": "--trials 40 --fidelities 2,8",
    "contention": "--trainings 1,2,4",
    "grouping_study": "--methods random,min_flops --repeats 3",
}


def render(stage: str, about: str) -> str:
    """Return the help of an entry point, as wide as the terminal.

    Args:
        stage: name of the entry point.
        about: its summary, in one line.
    """
    config = CONFIGS[stage]
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    lines = [f"sensai {stage}: {about}", "", f"Example: sensai {stage} {_EXAMPLES[stage]}"]
    for title, parameters in _sections(config):
        lines += ["", f"{title}:"]
        for each in parameters:
            lines += _explained(each, config, width)
    lines += [
        f"  --{CONFIG_FILE} FILE",
        *_wrapped("YAML file of parameters, one `name: value` per line; the command line wins over it", width),
    ]
    return "\n".join(lines)


def _sections(config: type[EntryPoint]) -> Iterator[tuple[str, list[Parameter]]]:
    """Yield the title and the parameters of every section: its own first, then earlier stages, then the common ones."""
    known = list(parameters_of(config).values())
    yield f"Parameters of {config.stage}", [each for each in known if each.owner == config.stage]
    for owner in dict.fromkeys(each.owner for each in known):
        if owner not in ("", config.stage):
            yield f"Parameters of {owner}, an earlier stage", [each for each in known if each.owner == owner]
    yield "Parameters of how it runs", [each for each in known if not each.owner]


def _explained(parameter: Parameter, config: type[EntryPoint], width: int) -> list[str]:
    default = default_texts(config)[parameter.name]
    head = f"  --{parameter.name} {kind(parameter.field)}" + (f"  [{default}]" if default else "")
    when = "" if parameter.usage.when == ALWAYS else f" (matters where {parameter.usage.when})"
    text = f"{parameter.field.description}{_listing(parameter.field)}{when}"
    return [head, *_wrapped(text, width)]


def _listing(field: FieldInfo) -> str:
    """Return the names that a parameter may have, unless its kind or its description has them."""
    names = choices_of(field)
    known = len(names) <= _MOST_CHOICES or all(name in str(field.description) for name in names)
    return "" if known else f"; names: {', '.join(names)}"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=_INDENT, subsequent_indent=_INDENT)


def kind(field: FieldInfo) -> str:
    """Return the kind of value that a parameter takes: its choices, NAME, NUMBER or TEXT."""
    if allowed := choices_of(field):
        return "|".join(allowed) if len(allowed) <= _MOST_CHOICES else "NAME"
    return "NUMBER" if is_number(field.annotation) else "TEXT"
