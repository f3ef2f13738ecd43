"""Make a configuration from a command line and the file that `--config` names."""

import shlex
from argparse import SUPPRESS, ArgumentError, ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sensai.config.entry_point import EntryPoint
from sensai.config.entry_points import CONFIGS
from sensai.config.refusals import describe_errors, unknown_parameter
from sensai.config.usage import as_text, default_texts, parameters_of
from sensai.documents import parse_yaml, read_text, render_yaml, shown
from sensai.errors import InputError
from sensai.input_paths import located, located_reference

# This parameter names the file, and is not part of a configuration.
CONFIG_FILE = "config"
_MOST_BYTES = 2**17


def parse(stage: str, arguments: Sequence[str], *, defaults_are_given: bool = False) -> EntryPoint:
    """Return the configuration of an entry point from its command line.

    A value on the command line wins over one in the file.

    Args:
        stage: name of the entry point.
        arguments: `--name value`, `--name=value`, or `--name` alone for a truth value.
        defaults_are_given: the command line also has defaults that nobody asked for, as `mlflow run` hands them over. A value
            that is the default then does not win over the file.

    Raises:
        InputError: unknown parameters, or values that are not allowed, all of them named.
    """
    config = CONFIGS[stage]
    given = _located(_parsed(arguments, config), config)
    values: dict[str, Any] = {}
    if path := given.pop(CONFIG_FILE, ""):
        values = _located(read_config(path, config), config)
        if defaults_are_given:
            defaults = default_texts(config)
            given = {name: value for name, value in given.items() if value != defaults.get(name)}
    try:
        return config.model_validate(values | given)
    except ValidationError as error:
        raise InputError(describe_errors(error)) from error


def read_config(path: str, config: type[EntryPoint]) -> dict[str, Any]:
    """Return the parameters of a YAML file, name -> value.

    Raises:
        InputError: there is no such file, it is no YAML, or it names a parameter that the entry point does not take.
    """
    text = read_text(Path(path), CONFIG_FILE, _MOST_BYTES)
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise InputError(f"{CONFIG_FILE}={shown(path)}: is no YAML ({error})") from error
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{CONFIG_FILE}={shown(path)}: must be an object, parameter: value")
    for name in content or {}:
        if name not in config.model_fields and name not in config.former:
            raise unknown_parameter(str(name), config)
    return dict(content or {})


def as_command(entry_point: str, config: EntryPoint, **more: str) -> str:
    """Return the command line of an entry point with the values of a configuration that are not its defaults.

    Args:
        entry_point: name of the entry point.
        config: of any entry point; parameters that the named one does not take are left out.
        more: further parameters.
    """
    defaults = default_texts(CONFIGS[entry_point])
    given = {name: as_text(value) for name, value in config.recipe().items()}
    changed = {name: value for name, value in given.items() if name in defaults and value != defaults[name]}
    command = " ".join(f"--{name} {shlex.quote(value)}" for name, value in {**changed, **more}.items())
    return f"sensai {entry_point} {command}".rstrip()


def as_yaml(config: EntryPoint) -> str:
    """Return the file that makes a run again when `--config` names it."""
    head = f"# sensai {config.stage} --config config.yaml\n"
    return head + render_yaml(config.recipe())


def _parsed(arguments: Sequence[str], config: type[EntryPoint]) -> dict[str, str]:
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False, argument_default=SUPPRESS)
    parser.add_argument(f"--{CONFIG_FILE}")
    flags = {name for name, field in config.model_fields.items() if field.annotation is bool}
    flags |= {name for name, former in config.former.items() if former.is_flag}
    for name in (*config.model_fields, *config.former):
        if name in flags:
            parser.add_argument(f"--{name}", nargs="?", const="true")
        else:
            parser.add_argument(f"--{name}")
    try:
        given, others = parser.parse_known_args(list(arguments))
    except ArgumentError as error:
        raise InputError(f"{(error.argument_name or '').removeprefix('--')}: {error.message}") from error
    _refuse(others, config)
    return vars(given)


def _located(given: Mapping[str, Any], config: type[EntryPoint]) -> dict[str, Any]:
    """Return the values with the paths of input files as `sensai.input_paths` finds them."""
    known = parameters_of(config)
    files = {CONFIG_FILE, *(name for name, each in known.items() if each.usage.by_content)}
    code = {name for name, each in known.items() if each.usage.code}

    def place(name: str, value: Any) -> Any:
        # A file may hold a number where a path belongs; the configuration refuses it.
        if not isinstance(value, str):
            return value
        return located(value) if name in files else located_reference(value) if name in code else value

    return {name: place(name, value) for name, value in given.items()}


def _refuse(others: Sequence[str], config: type[EntryPoint]) -> None:
    for each in others:
        if each.startswith("--"):
            raise unknown_parameter(each.removeprefix("--").partition("=")[0], config)
    if others:
        raise InputError(f"{shown(others[0])} is no parameter; parameters are given as --name value")
