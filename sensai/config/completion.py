"""Write shell completion of entry points, parameters and named choices; the script runs no Python while one types."""

import shlex
from collections.abc import Callable, Iterator
from functools import lru_cache

from sensai.config import CONFIGS
from sensai.config.annotations import choices_of

_COMMANDS = {"completion": ["bash", "fish", "zsh"], "ui": ["--port"]}


def bash() -> str:
    """Return the script for bash: `eval "$(sensai completion bash)"`."""
    names = " ".join([*CONFIGS, *_COMMANDS, "--help", "--version"])
    parameters = "\n".join(f"        {name}) words={shlex.quote(_options(name))} ;;" for name in CONFIGS)
    choices = "\n".join(
        f"        {name}\\ --{parameter}) words={shlex.quote(' '.join(values))} ;;"
        for name in CONFIGS
        for parameter, values in _choices(name).items()
    )
    commands = "\n".join(
        f"        {name}\\ {name}) words={shlex.quote(' '.join(words))} ;;" for name, words in _COMMANDS.items()
    )
    return f"""_sensai() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" name="${{COMP_WORDS[1]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=( $(compgen -W {shlex.quote(names)} -- "$current") )
        return
    fi
    case "$name $previous" in
{choices}
{commands}
        *\\ --*) return ;;
    esac
    [ -n "$words" ] || case "$name" in
{parameters}
    esac
    COMPREPLY=( $(compgen -W "$words" -- "$current") )
}}
complete -o default -F _sensai sensai
"""


def zsh() -> str:
    """Return the script for zsh, which runs that for bash: `eval "$(sensai completion zsh)"`."""
    completion = "(( ${+functions[compdef]} )) || { autoload -Uz compinit && compinit; }"
    return f"{completion}\nautoload -Uz bashcompinit && bashcompinit\n{bash()}"


def fish() -> str:
    """Return the script for fish: `sensai completion fish | source`."""
    return "\n".join(["complete -c sensai -e", *_fish_lines(), ""])


SCRIPTS: dict[str, Callable[[], str]] = {"bash": bash, "fish": fish, "zsh": zsh}


def _fish_lines() -> Iterator[str]:
    first = "__fish_use_subcommand"
    yield f"complete -c sensai -n {first} -f -a {shlex.quote(' '.join([*CONFIGS, *_COMMANDS]))}"
    for command, words in _COMMANDS.items():
        yield f"complete -c sensai -n '__fish_seen_subcommand_from {command}' -f -a {shlex.quote(' '.join(words))}"
    for name, config in CONFIGS.items():
        choices = _choices(name)
        for parameter in config.model_fields:
            values = f" -f -a {shlex.quote(' '.join(choices[parameter]))}" if parameter in choices else ""
            yield f"complete -c sensai -n '__fish_seen_subcommand_from {name}' -l {parameter} -r{values}"


def _options(name: str) -> str:
    return " ".join(f"--{parameter}" for parameter in [*CONFIGS[name].model_fields, "help"])


@lru_cache
def _choices(name: str) -> dict[str, list[str]]:
    """Return the values of each parameter of an entry point that takes names."""
    found = {parameter: choices_of(field) for parameter, field in CONFIGS[name].model_fields.items()}
    return {parameter: values for parameter, values in found.items() if values}
