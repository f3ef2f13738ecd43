"""Shell completion, asked as a shell asks it."""

import os
import subprocess
from pathlib import Path
from shutil import which

import pytest

from sensai.config import CONFIGS
from sensai.config.completion import SCRIPTS

CASES = [
    ("pru", {"prune"}),
    ("", {*CONFIGS, "completion", "ui", "--help", "--version"}),
    ("gr", {"group", "grouping_study"}),
    ("completion ", set(SCRIPTS)),
    ("prune --rat", {"--ratio"}),
    ("prune --ratio 0.1 --ra", {"--ratio", "--ranking"}),
    ("retrain --loss ", {"bce", "kd", "joint", "joint_kd"}),
    ("retrain --force ", {"true", "false"}),
    ("evaluate --combine r", {"raw"}),
    ("group --method least", {"least_similar"}),
    ("baseline --arch resnet1", {"resnet110", "resnet164"}),
    ("ui --p", {"--port"}),
    # Anything may follow; bash then completes the names of files.
    ("prune --data_dir ", set()),
    # Not a parameter of this one.
    ("promote --rat", set()),
]


@pytest.mark.processes
def test_bash_completes_names_parameters_and_choices(tmp_path: Path) -> None:
    script = tmp_path / "sensai.bash"
    script.write_text(SCRIPTS["bash"]())
    asked = "\n".join(
        f"COMP_WORDS=(sensai {words}{chr(39) * 2 if words.endswith(' ') or not words else ''}); "
        'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); _sensai; echo "${COMPREPLY[*]}"'
        for words, _ in CASES
    )
    done = subprocess.run(
        ["bash", "--norc", "-u", "-c", f"source {script}\ncomplete -p sensai\n{asked}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    registered, *answers = done.stdout.splitlines()
    assert registered == "complete -o default -F _sensai sensai"
    assert [set(answer.split()) for answer in answers] == [words for _, words in CASES]


@pytest.mark.processes
@pytest.mark.skipif(not which("fish"), reason="no fish here")
def test_fish_completes_names_parameters_and_choices(tmp_path: Path) -> None:
    script = tmp_path / "sensai.fish"
    script.write_text(SCRIPTS["fish"]())
    for words, expected in [
        ("pru", {"prune"}),
        ("prune --rati", {"--ratio"}),
        ("retrain --loss j", {"joint", "joint_kd"}),
    ]:
        asked = f"source {script}; complete -C 'sensai {words}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", asked], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert {line.split("\t")[0] for line in done.stdout.splitlines()} == expected


@pytest.mark.processes
@pytest.mark.skipif(not which("zsh"), reason="no zsh here")
def test_zsh_takes_the_script(tmp_path: Path) -> None:
    script = tmp_path / "sensai.zsh"
    script.write_text(SCRIPTS["zsh"]())
    asked = f"source {script} && echo $_comps[sensai]"
    # Its completion keeps a file in the home folder.
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(["zsh", "-f", "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert "_sensai" in done.stdout


def test_every_entry_point_and_parameter_stands_in_every_script() -> None:
    for shell, script in SCRIPTS.items():
        text = script()
        for name, config in CONFIGS.items():
            assert name in text
            assert all(parameter in text for parameter in config.model_fields), shell
