"""Rules of the house that a machine can check: one source of truth, one direction of imports, no unsafe loading."""

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

from sensai.config import CONFIGS
from sensai.config.mlproject import render
from sensai.config.reference import render as render_reference
from sensai.config.usage import parameters_of
from tests.conftest import ROOT

# From the bottom up, as in DESIGN: a module imports only what stands before it.
LAYERS = [
    {
        *(
            "documents",
            "errors",
            "files",
            "input_paths",
            "last_resort",
            "locks",
            "parts",
            "plugins",
            "signals",
            "terminal",
        ),
        "write_errors",
    },
    {"data"},
    {"models"},
    {"sites"},
    {"activations"},
    {"pruning"},
    {"policy"},
    {"grouping"},
    {"ensemble"},
    {"cluster"},
    {"training"},
    {"runtimes"},
    {"evaluation"},
    {"tracking"},
    {"analysis"},
    {"registry"},
    {"serving"},
    {"tuning"},
    {"config"},
    {"pipeline"},
    {"stages"},
    {"api", "cli", "mlflow_ui"},
    {"__main__"},
]
# They begin a description of a thing, not of what a function does.
NO_VERB = re.compile(
    "(A|All|An|As|Each|Every|From|How|Its|Number|One|Shape|Some|That|The|This|What|When|Where|Whether|Which|Who|Why)$"
)
BELOW_TRACKING = {name for layer in LAYERS[: LAYERS.index({"tracking"})] for name in layer}


def _layer(module: str) -> int:
    """Return the position of a module below `sensai` in the layers, by its longest listed name."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for position, layer in enumerate(LAYERS):
            if name in layer:
                return position
    raise AssertionError(f"sensai.{module} is in no layer")


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "sensai").with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", [p for p in _modules("sensai") if _name(p) != "__init__"], ids=_name)
def test_imports_go_downwards(path: Path) -> None:
    own = _layer(_name(path))
    for imported in _imports(path):
        if imported.startswith("sensai.") and _is_module(imported):
            assert _layer(imported.removeprefix("sensai.")) <= own, f"{_name(path)} imports {imported}"


@pytest.mark.parametrize("path", [p for p in _modules("sensai") if _name(p) != "__init__"], ids=_name)
def test_what_stands_below_tracking_knows_no_mlflow(path: Path) -> None:
    if _name(path).split(".")[0] in {name.split(".")[0] for name in BELOW_TRACKING}:
        assert not {name.split(".")[0] for name in _imports(path)} & {
            "mlflow",
            "optuna",
            "argparse",
        }


def test_nothing_imports_the_entry_points() -> None:
    for path in _modules("sensai"):
        assert not {name.split(".")[0] for name in _imports(path)} & {"entrypoints", "checkout"}


def test_analysis_and_tracking_import_no_torch() -> None:
    for path in [*_modules("sensai/analysis"), *_modules("sensai/tracking"), *_modules("sensai/config")]:
        assert not {name.split(".")[0] for name in _imports(path)} & {"torch", "torchvision"}, path


def test_names_of_files_are_unique_and_folders_small() -> None:
    modules = [path for path in _modules("sensai") if not path.name.startswith("__")]
    twice = [name for name, count in Counter(path.name for path in modules).items() if count > 1]
    assert not twice
    crowded = {str(folder): count for folder, count in Counter(path.parent for path in modules).items() if count > 15}
    assert set(crowded) <= {str(ROOT / "sensai/stages")}


def _begins_with_a_verb(docstring: str) -> bool:
    """Return True if a docstring begins with a verb in the imperative, as far as its form tells."""
    word = re.match(r"[A-Z][a-z]+(?=[\s:;.,])", docstring)
    return word is not None and not NO_VERB.match(word[0]) and not re.search(r"[^s]s$", word[0])


def _functions(path: Path) -> list[tuple[str, str]]:
    """Return name and docstring of the functions of a file that have one."""
    nodes = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [(node.name, text) for node in nodes if (text := ast.get_docstring(node))]


@pytest.mark.parametrize("path", _modules("sensai"), ids=_name)
def test_docstrings_begin_with_what_the_function_does(path: Path) -> None:
    assert not {name: text for name, text in _functions(path) if not _begins_with_a_verb(text)}


def test_mlproject_is_what_the_configurations_say() -> None:
    assert (ROOT / "MLproject").read_text() == render(), "run `make mlproject`"


def test_the_reference_page_is_what_the_configurations_say() -> None:
    assert (ROOT / "docs/reference/parameters.md").read_text() == render_reference(), "run `make reference`"


def test_every_stage_has_its_entry_point_and_module() -> None:
    scripts = {path.stem for path in _modules("entrypoints")} - {"checkout"}
    assert scripts == set(CONFIGS)
    assert all(_is_module(f"sensai.stages.{stage}") for stage in CONFIGS)


def test_mlproject_hands_over_what_it_lists() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    for stage, config in CONFIGS.items():
        entry_point = project["entry_points"][stage]
        names = list(entry_point["parameters"])
        own = {name for name, each in parameters_of(config).items() if each.owner == stage}
        assert own <= set(names) <= set(config.model_fields)
        assert re.findall(r"--(\w+) \{(\w+)\}", entry_point["command"]) == [(name, name) for name in names]
        # MLflow passes the declared default as text: it must be read back as the default.
        given = {name: str(p["default"]) for name, p in entry_point["parameters"].items()}
        assert config.model_validate(given) == config()


def test_conda_lists_the_dependencies_of_pyproject() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    *conda, pip = environment["dependencies"]
    assert pip["pip"] == project["dependencies"]
    assert environment["channels"] == ["conda-forge"]
    assert [re.split("[=<>]", name)[0] for name in conda] == ["python", "pip"]
    assert project["requires-python"] == ">=" + conda[0].removeprefix("python=")
    assert not [name for name in pip["pip"] if name.startswith("sensai")]


@pytest.mark.parametrize("folder", ["sensai", "entrypoints"])
def test_nothing_is_pickled(folder: str) -> None:
    for path in _modules(folder):
        text = path.read_text()
        assert not re.search(
            r"\bpickle\.|\bcloudpickle|torch\.save\(|weights_only=False|allow_pickle=True|joblib\.dump", text
        ), path
        assert text.count("torch.load(") == text.count("weights_only=True)"), path
