"""Command lines and files of parameters: which wins, what is refused, and that a run's file makes it again."""

from pathlib import Path

import pytest

from sensai import input_paths
from sensai.config import CONFIGS, PruneConfig
from sensai.config.arguments import as_command, as_yaml, parse
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


@pytest.mark.parametrize(
    ("arguments", "yardsticks"),
    [
        ([], ("control", "replicas")),
        (["--yardsticks", "none"], ()),
        (["--yardsticks", ""], ()),
        (["--yardsticks", "base, control"], ("base", "control")),
        (["--control", "false"], ()),
        (["--control", "true"], ("control",)),
        (["--control"], ("control",)),
    ],
)
def test_yardsticks_are_a_list_or_what_control_said(
    arguments: list[str], yardsticks: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    config = parse("main", arguments)
    assert config.yardsticks == yardsticks
    assert CONFIGS["main"].model_validate(config.model_dump()) == config
    notices = [
        f"control={arguments[-1] if len(arguments) > 1 else 'true'} is read as yardsticks={config.text('yardsticks')}"
    ]
    assert [message.partition(", and no more")[0] for message in caplog.messages] == (
        notices if "--control" in arguments else []
    )


def test_a_former_parameter_is_read_from_a_file_and_beside_the_defaults_of_mlflow(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("epochs: 3\ncontrol: false\n")
    file = f"--config={tmp_path / 'old.yaml'}"
    assert parse("main", [file]).yardsticks == ()
    handed_over = ["--yardsticks", "control,replicas", "--epochs", "20"]
    assert parse("main", [file, *handed_over], defaults_are_given=True).yardsticks == ()
    assert parse("main", [*handed_over, "--control", "false"], defaults_are_given=True).yardsticks == ()
    assert parse("report", ["--control_run", "abc"]).yardstick_runs == (("control", "abc"),)


@pytest.mark.parametrize(
    ("stage", "arguments", "said"),
    [
        (
            "main",
            ["--control", "x"],
            "control='x': must be true or false, or better yardsticks=control or yardsticks=none",
        ),
        (
            "main",
            ["--control", "true", "--yardsticks", "base"],
            "control=true: is now part of yardsticks, which is given too",
        ),
        ("main", ["--yardsticks", "kontrol"], "yardsticks='kontrol': 'kontrol' is no yardstick; did you mean control?"),
        ("main", ["--yardsticks", "base,base"], "must name each yardstick once, separated by commas, or be none"),
        ("evaluate", ["--control", "true"], "'control' is no parameter of evaluate"),
    ],
)
def test_yardsticks_that_there_are_not_are_one_line(stage: str, arguments: list[str], said: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]+$") as refused:
        parse(stage, arguments)
    assert said in str(refused.value)


def test_a_command_has_what_is_not_default_and_is_read_back() -> None:
    config = parse(
        "prune", ["--ratio=0.25", "--method=random", "--n_groups=2", "--mean=0.5,0.4", "--device=cpu", "--force"]
    )
    command = as_command("main", config, yardsticks="none")
    # Where and how often it runs is left to whoever runs it.
    assert command == "sensai main --mean 0.5,0.4 --method random --n_groups 2 --ratio 0.25 --yardsticks none"
    again = parse("main", command.split()[2:])
    assert again.upstream(PruneConfig).recipe() == config.recipe()
    assert as_command("main", CONFIGS["main"]()) == "sensai main"
