"""Where relative paths of input files are looked for."""

from pathlib import Path

import pytest

from sensai import input_paths
from sensai.data.folders import image_folder
from sensai.data.images.single_images import from_files
from sensai.errors import InputError
from sensai.files import regular_file
from sensai.input_paths import located, located_reference, look_first_in, searched
from sensai.plugins import load_factory


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A second folder that is looked in; the working directory is the test's own."""
    monkeypatch.setattr(input_paths, "_folders", [])
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    look_first_in(folder)
    return folder


def test_a_file_of_the_first_folder_wins(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "both").touch()
    (elsewhere / "both").touch()
    (elsewhere / "there").mkdir()
    assert located("both") == str(elsewhere / "both")
    assert located("there") == str(elsewhere / "there")


def test_other_paths_stay_as_they_are(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    (elsewhere / "-").touch()
    for path in ["here", "nowhere", "", "-", str(tmp_path / "here"), "models:/name@champion"]:
        assert located(path) == path


def test_only_files_of_references_are_looked_for(elsewhere: Path) -> None:
    for name in ["mine.py", "digits", "package.module"]:
        (elsewhere / name).touch()
    assert located_reference("mine.py:make") == f"{elsewhere}/mine.py:make"
    for reference in ["digits", "package.module:make", "other.py:make", "torchvision:resnet18", "mine.py"]:
        assert located_reference(reference) == reference


def test_the_working_directory_is_no_second_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_paths, "_folders", [])
    (tmp_path / "here").touch()
    look_first_in(tmp_path)
    assert located("here") == "here"
    assert searched("nowhere") == f", looked for in {str(tmp_path)!r}"


def test_messages_name_the_folders(elsewhere: Path, tmp_path: Path) -> None:
    folders = f", looked for in {str(elsewhere)!r} and {str(tmp_path)!r}"
    missing = {
        "checkpoint='no.pth': there is no such file (No such file or directory)": lambda: regular_file(
            Path("no.pth"), "checkpoint"
        ),
        "arch='no.py:make': there is no file 'no.py'": lambda: load_factory("no.py:make", "arch"),
        "images='no.png': there is no image file": lambda: list(from_files(Path("no.png"), (8, 8, 1))),
        "data_dir='no': there is no such folder": lambda: image_folder(Path("no")),
    }
    for message, call in missing.items():
        with pytest.raises(InputError) as refused:
            call()
        assert str(refused.value).startswith(message + folders)
    with pytest.raises(InputError, match=r"there is no such file \(No such file or directory\)$"):
        regular_file(tmp_path / "no.pth", "checkpoint")
