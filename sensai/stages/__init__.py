"""The entry points in the order in which data flows.

data -> baseline -> activations -> group -> prune -> retrain -> evaluate -> register; `main` runs them all, `report` shows them.
Importing this package imports none of them.
"""

import ast
import tokenize
from pathlib import Path

ENTRY_POINTS = (
    *(
        "main",
        "baseline",
        "activations",
        "group",
        "prune",
        "retrain",
        "evaluate",
        "register",
        "promote",
        "predict",
        "serve",
    ),
    *("report", "tune", "contention", "grouping_study"),
)


def summary(entry_point: str) -> str:
    """Return the first line of the docstring of an entry point's module, without importing the module."""
    module = Path(__file__).with_name(f"{entry_point}.py")
    with tokenize.open(module if module.exists() else module.with_suffix("") / "__init__.py") as file:
        docstring = next(token for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.STRING)
    line: str = ast.literal_eval(docstring.string).partition("\n")[0]
    return line.removeprefix(f"{entry_point}: ").removesuffix(".")
