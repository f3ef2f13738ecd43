"""The images of the study of `contention`, and its cases."""

import tarfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from analysis.studies import contention
from sensai.config import ContentionConfig
from sensai.data.folders import image_folder


def test_generated_images_are_an_image_folder_of_the_size_of_photographs(tmp_path: Path) -> None:
    contention.generate(tmp_path, images_a_class=2)
    found = image_folder(tmp_path)
    names, labels = found.files["train"]
    assert len(found.class_names) == 8
    assert labels.tolist() == [label for label in range(8) for _ in range(2)]
    for name in names:
        with Image.open(tmp_path / name) as image:
            assert (image.format, image.size) == ("JPEG", (500, 375))
        # Those of the scaled sample have 48 KB on average.
        assert 30_000 < (tmp_path / name).stat().st_size < 80_000


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    contention.make_images(tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_sample_is_unpacked_and_scaled(tmp_path: Path) -> None:
    for name, size in (("cat", (30, 20)), ("dog", (16, 40))):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("L", size).save(tmp_path / "train" / name / "1.jpg")
    with tarfile.open(tmp_path / "sample.tar", "w") as archive:
        archive.add(tmp_path / "train", "train")
    contention.make_images(tmp_path / "unpacked", tmp_path / "sample.tar")
    assert image_folder(tmp_path / "unpacked").class_names == ("cat", "dog")
    for name, size in (("cat", (562, 375)), ("dog", (375, 938))):
        with Image.open(tmp_path / "unpacked" / "train" / name / "1.jpg") as image:
            assert (image.mode, image.size) == ("RGB", size)


def test_a_run_replaces_the_earlier_one_of_its_case(tmp_path: Path) -> None:
    results = tmp_path / "contention.csv"
    pd.DataFrame({"case": ["a", "b"], "run_id": ["1", "2"], "n": [4, 8]}).to_csv(results, index=False)
    contention.collect("a", "3", pd.DataFrame({"n": [16, 32]}), results)
    found = pd.read_csv(results, dtype={"run_id": str})
    assert found[["case", "run_id", "n"]].to_numpy().tolist() == [["b", "2", 8], ["a", "3", 16], ["a", "3", 32]]


@pytest.mark.parametrize("case", contention.CASES)
def test_the_parameters_of_a_case_are_those_of_the_entry_point(case: str) -> None:
    parameters = {**contention.CASES[case], "repeats": contention.REPEATS}
    config = ContentionConfig(**parameters)
    assert {name: str(value) for name, value in parameters.items()} == {name: config.text(name) for name in parameters}
