"""Run the command `sensai`, also as `python -m sensai`: it calls entry points by name.

Heavy imports wait until an entry point is known, so that the list of entry points appears at once.
"""

import sys

from sensai import __version__, terminal
from sensai.cli import BAD_INPUT, launch
from sensai.errors import InputError, suggestion
from sensai.stages import ENTRY_POINTS, summary


def main() -> None:
    """Run `sensai <entry point> ...` with the arguments of this process, and end the process.

    Statuses: 0, or 2 for an unknown entry point; else see `launch`.
    """
    match sys.argv[1:]:
        case [name, *arguments] if name in ENTRY_POINTS:
            launch(name, arguments)
        case ["--help" | "-h", *_]:
            terminal.say(_usage())
        case ["--version"]:
            terminal.say(f"sensai {__version__}")
        case ["ui", *arguments]:
            sys.exit(_serve_ui(arguments))
        case ["completion", *shells]:
            sys.exit(_complete(shells))
        case [name, *_]:
            print(f"error: sensai: no entry point {name!r}; {suggestion(name, ENTRY_POINTS)}", file=sys.stderr)
            sys.exit(BAD_INPUT)
        case _:
            print(_usage(), file=sys.stderr)
            sys.exit(BAD_INPUT)


def _usage() -> str:
    width = max(map(len, ENTRY_POINTS))
    return "\n".join(
        [
            "usage: sensai <entry point> [--<parameter> <value> ...]",
            "",
            "The entry points in the order in which data flows; missing earlier ones run first:",
            *(f"  {name:{width}}  {summary(name)}" for name in ENTRY_POINTS),
            "",
            "sensai <entry point> --help    what it does, and its parameters",
            "sensai ui                      MLflow's UI on the runs, on this machine only",
            "sensai completion <shell>      completion for bash, fish or zsh",
            "sensai --version",
        ]
    )


def _serve_ui(arguments: list[str]) -> int:
    """Run `sensai ui`; return the status."""
    from sensai.mlflow_ui import serve

    try:
        serve(arguments)
    except InputError as error:
        print(f"error: sensai ui: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _complete(shells: list[str]) -> int:
    """Print the script of `sensai completion <shell>`; return the status."""
    from sensai.config.completion import SCRIPTS

    match shells:
        case [shell] if shell in SCRIPTS:
            terminal.say(SCRIPTS[shell]())
            return 0
    given = " ".join(shells)
    print(f"error: sensai completion: no shell {given!r}; {suggestion(given, SCRIPTS)}", file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    main()
