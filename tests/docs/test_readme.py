"""README is short, in the order in which a newcomer asks, and its code runs."""

import re
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Subset, TensorDataset

import sensai
from analysis import idea_picture
from sensai.models.factory import NetworkSpec, build
from tests.conftest import ROOT
from tests.helpers.pipeline import FinishedMain

README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES, MOST_WORDS = 200, 1500


def test_it_is_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) <= MOST_LINES
    assert len(README.split()) <= MOST_WORDS


def test_it_goes_from_what_it_is_to_how_it_is_cited() -> None:
    assert re.findall("^## (.*)", README, flags=re.MULTILINE) == [
        "Is it for you?",
        "Install, and a first result",
        "Ten lines of Python",
        "With MLflow",
        "Results",
        "Documentation",
        "Citing, and licence",
    ]
    before_the_picture = README[: README.index("<picture>")]
    assert len(re.findall(r"\.\W", before_the_picture)) == 1, "one sentence stands before the picture"


@pytest.mark.parametrize("name", idea_picture.THEMES)
def test_the_picture_is_what_its_script_draws(name: str) -> None:
    path = f"docs/pictures/idea_{name}.svg"
    assert path in README
    assert (ROOT / path).read_text(encoding="utf-8") == idea_picture.drawn(idea_picture.THEMES[name])


def test_the_dark_picture_is_for_dark_pages() -> None:
    (picture,) = re.findall("<picture>.*?</picture>", README, flags=re.DOTALL)
    assert re.search(r'<source media="\(prefers-color-scheme: dark\)" srcset="[^"]*idea_dark\.svg">', picture)
    assert re.search(r'<img src="[^"]*idea_light\.svg" alt="[^"]{50,}">', picture)


def test_its_query_answers(finished: FinishedMain) -> None:
    (query,) = re.findall(r"```python\n(from sensai\.analysis import runs\n.*?)```", README, flags=re.DOTALL)
    *_, last = query.strip().splitlines()
    namespace: dict[str, Any] = {}
    exec(query, namespace)
    best = eval(last, namespace)
    assert isinstance(best, pd.Series)
    assert best.between(0, 1).all()
    assert best.index.tolist() == [0.5]


@pytest.mark.long
def test_its_ten_lines_of_python_run(store_uri: str, tmp_path: Path) -> None:
    (lines,) = re.findall(r"```python\n(import sensai\n.*?)```", README, flags=re.DOTALL)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    train, val, test = (
        DataLoader(Subset(data, range(*bounds)), 64) for bounds in ((0, 1000), (1000, 1400), (1400, 1797))
    )
    namespace: dict[str, Any] = {"model": build(NetworkSpec("small_cnn", 10, 1, (8, 8), {}))}
    namespace |= {"train_loader": train, "val_loader": val, "test_loader": test}
    exec(lines, namespace)
    assert namespace["result"].table.loc["ensemble", "accuracy"] > 0.5
    assert list((tmp_path / "ensemble").iterdir())
    assert (tmp_path / "ensemble.onnx").stat().st_size > 0
    assert mlflow.MlflowClient(store_uri).get_model_version("sensai-ensemble", "1")


def test_the_version_is_one_and_has_its_changes() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == sensai.__version__
    newest, *_ = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert newest == sensai.__version__
