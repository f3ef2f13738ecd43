"""Command lines and files of parameters: which wins, what is refused, and that a run's file makes it again."""

from pathlib import Path

import pytest

from sensai import input_paths
from sensai.config import CONFIGS, PruneConfig
from sensai.config.arguments import as_yaml, parse
from sensai.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("ratio: 0.25\nmethod: random\nn_groups: 2\nmean: [0.5]\nimage_size: null\n")
    return path


def test_values_come_from_the_file_and_the_command_line_wins(file: Path) -> None:
    config = parse("prune", [f"--config={file}", "--ratio", "0.5", "--seed", "3"])
    assert config == PruneConfig(ratio=0.5, seed=3, method="random", n_groups=2, mean="0.5")


def test_under_mlflow_a_default_does_not_win_over_the_file(file: Path) -> None:
    handed_over = ["--config", str(file), "--ratio", "0.5", "--n_groups", "", "--policy", "threshold"]
    config = parse("prune", handed_over, defaults_are_given=True)
    assert config == PruneConfig(ratio=0.25, method="random", n_groups=2, mean="0.5", policy="threshold")


def test_paths_in_a_file_are_looked_for_like_those_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "groups.json").write_text("[[0]]")
    (tmp_path / "mine.yaml").write_text("method: file\ngroups_file: groups.json\n")
    monkeypatch.setattr(input_paths, "_folders", [tmp_path])
    assert parse("prune", ["--config=mine.yaml"]).groups_file == str(tmp_path / "groups.json")


def test_flags_stand_alone_or_with_a_value() -> None:
    assert parse("prune", ["--force", "--ratio=0.1"]).force is True
    assert parse("prune", ["--force", "false"]).force is False


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- ratio", "must be an object, parameter: value"),
        ("ratio: [", "is no YAML"),
        ("rato: 0.5", "'rato' is no parameter of prune; did you mean 'ratio'"),
        ("1: 2", "'1' is no parameter of prune"),
        ("ratio: 2", "ratio=2: must be less than 1"),
        ("ratio: {a: 1}", "ratio="),
        ("ratio: 1\nratio: 2", "the key 'ratio' stands twice"),
        ("config: other.yaml", "'config' is no parameter of prune"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InputError, match=r"^[^\n]+$") as refused:
        parse("prune", ["--config", str(tmp_path / "a.yaml")])
    assert said in str(refused.value)


def test_a_missing_file_is_one_line() -> None:
    with pytest.raises(InputError, match=r"config='nowhere\.yaml': there is no such file"):
        parse("prune", ["--config=nowhere.yaml"])


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert parse("prune", [f"--config={tmp_path / 'a.yaml'}"]) == PruneConfig()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--polixy", "x"], "'polixy' is no parameter of prune; did you mean 'policy'"),
        (["ratio=0.1"], "'ratio=0.1' is no parameter; parameters are given as --name value"),
        (["--ratio"], "ratio: expected one argument"),
        (["--rati", "0.1"], "'rati' is no parameter of prune; did you mean 'ratio'"),
        (
            ["--ratio", "2", "--seed", "-1"],
            "seed='-1': must be greater than or equal to 0; ratio='2': must be less than 1",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], said: str) -> None:
    with pytest.raises(InputError) as refused:
        parse("prune", arguments)
    assert said in str(refused.value)


@pytest.mark.parametrize("stage", CONFIGS)
def test_the_file_of_a_run_makes_it_again(tmp_path: Path, stage: str) -> None:
    given = {"device": "cpu", "force": True, "seed": 3, "scope": "all", "mean": "0.5,0.25,0.125"}
    config = CONFIGS[stage](**{name: value for name, value in given.items() if name in CONFIGS[stage].model_fields})
    (tmp_path / "config.yaml").write_text(as_yaml(config))
    again = parse(stage, [f"--config={tmp_path / 'config.yaml'}"])
    assert again.recipe() == config.recipe()
    # Where and how it runs is another run's own affair.
    assert getattr(again, "force", False) is False
