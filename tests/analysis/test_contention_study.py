"""The images of the study of `contention`, and its cases."""

import tarfile
from pathlib import Path

import pytest

from analysis.studies import contention
from sensai.config import ContentionConfig
from sensai.data.folders import image_folder


def test_generated_images_are_an_image_folder_of_the_size_of_photographs(tmp_path: Path) -> None:
    contention.generate(tmp_path, images_a_class=2)
    found = image_folder(tmp_path)
    names, labels = found.files["train"]
    assert len(found.class_names) == 8
    assert labels.tolist() == [label for label in range(8) for _ in range(2)]
    sizes = [(tmp_path / name).stat().st_size for name in names]
    # Those of the ImageNet sample, of as many pixels, have 10 KB on average.
    assert all(7_000 < size < 14_000 for size in sizes)


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    contention.make_images(tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_sample_is_unpacked(tmp_path: Path) -> None:
    contention.generate(tmp_path / "images", images_a_class=1)
    with tarfile.open(tmp_path / "sample.tar", "w") as archive:
        archive.add(tmp_path / "images" / "train", "train")
    contention.make_images(tmp_path / "unpacked", tmp_path / "sample.tar")
    assert image_folder(tmp_path / "unpacked").class_names == image_folder(tmp_path / "images").class_names


@pytest.mark.parametrize("case", contention.CASES)
def test_the_parameters_of_a_case_are_those_of_the_entry_point(case: str) -> None:
    parameters = {**contention.CASES[case], "repeats": contention.REPEATS}
    config = ContentionConfig(**parameters)
    assert {name: str(value) for name, value in parameters.items()} == {name: config.text(name) for name in parameters}
