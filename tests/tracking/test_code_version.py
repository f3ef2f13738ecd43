"""The commit that runs are tagged with."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensai.tracking import code_version
from sensai.tracking.code_version import code_commit

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let the package be one in a folder of the test."""
    folder = tmp_path / "project" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    monkeypatch.setattr(code_version, "_PACKAGE", folder)
    code_commit.cache_clear()
    yield folder
    code_commit.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def committed(package: Path, *names: str) -> str:
    git(package.parent, "init", "-q")
    git(package.parent, "add", *names)
    git(package.parent, "commit", "-qm", "first")
    return git(package.parent, "rev-parse", "HEAD")


def test_a_clean_checkout_has_its_commit(package: Path) -> None:
    (package.parent / "notes").write_text("a")
    commit = committed(package, "package", "notes")
    (package.parent / "notes").write_text("changed, but no code")
    (package / "new.txt").write_text("not added")
    assert code_commit() == commit


def test_a_changed_package_is_dirty(package: Path) -> None:
    commit = committed(package, "package")
    (package / "__init__.py").write_text("changed = True")
    assert code_commit() == f"{commit}-dirty"


def test_a_package_that_another_project_does_not_track_has_none(package: Path) -> None:
    (package.parent / "theirs").write_text("")
    committed(package, "theirs")
    assert code_commit() == ""


def test_without_a_checkout_or_without_git_there_is_none(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_commit() == ""
    committed(package, "package")
    code_commit.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert code_commit() == ""
