"""The code of the pages about parts, put to use as a part of its family."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sensai.config import CONFIGS
from sensai.data.dataset import load_dataset
from sensai.data.dataset_names import InputRule
from sensai.data.sets import DATASETS
from sensai.ensemble.calibration import fit, methods_for
from sensai.ensemble.combiners import COMBINERS
from sensai.errors import InputError
from sensai.models.architecture_names import input_rule
from sensai.models.architectures import ARCHITECTURES
from sensai.models.factory import NetworkSpec, build
from sensai.parts import Family
from sensai.runtimes import RUNTIMES, candidates, fastest, measure, prepare
from sensai.sites import find_sites
from tests.conftest import ROOT
from tests.ensemble.test_ensemble import built


def add_part(page: str, family: Family, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the code of a page, which adds a part to a family for one test; return what the code defines."""
    monkeypatch.setattr(family, "_parts", {name: family[name] for name in family})
    (code,) = re.findall(r"```python\n(# .*?)```", (ROOT / "docs/extending" / page).read_text(), flags=re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    return namespace


def test_the_combiner_of_the_page_gives_every_class_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    add_part("combiners.md", COMBINERS, monkeypatch)
    groups = [(0,), (1,), (2,)]
    outputs = [np.random.default_rng(number).normal(3 * number, 0.1, (60, 1)) for number in range(3)]
    labels = np.array([0] * 30 + [1] * 20 + [2] * 10)
    probabilities = fit("biases", outputs, groups, labels)(outputs, groups)
    np.testing.assert_allclose(probabilities.mean(0), [1 / 2, 1 / 3, 1 / 6], atol=0.01)
    assert methods_for(groups, 100)[:2] == ["biases", "temperature"]


def test_the_runtime_of_the_page_may_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble, _ = built([(0,), (1, 2, 3)])
    add_part("runtimes.md", RUNTIMES, monkeypatch)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    assert "one-by-one" in candidates("cpu")
    (timing,) = measure(prepare(ensemble), images, [1], names=["one-by-one"], repeats=1)
    assert fastest([timing]).error <= 1e-5


def test_the_data_set_of_the_page_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_part("datasets.md", DATASETS, monkeypatch)
    data = load_dataset("stripes", "", work_dir=tmp_path, rule=InputRule(None, None))
    assert data.test is not None
    across, down = data.test.images[:2, 0]
    assert data.class_names == ("across", "down")
    assert np.ptp(across, axis=1).max() == np.ptp(down, axis=0).max() == 0 < np.ptp(across)


def test_the_architecture_of_the_page_is_built_and_its_arguments_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    add_part("architectures.md", ARCHITECTURES, monkeypatch)
    assert input_rule("plain_cnn") == (None, None, 8)
    network = build(NetworkSpec("plain_cnn", 5, 2, (8, 9), {"width": 32}))
    assert network(torch.zeros(3, 2, 8, 9)).shape == (3, 5)
    assert len(find_sites(network.eval(), torch.zeros(2, 2, 8, 9)).sites) == 3
    with pytest.raises(InputError, match="width=8 is none of 16, 32"):
        build(NetworkSpec("plain_cnn", 5, 2, (8, 9), {"width": 8}))


def test_the_page_of_entry_points_has_each_of_them_and_names_parameters_that_it_takes() -> None:
    text = (ROOT / "docs/reference/entry_points.md").read_text()
    rows = re.findall(r"^\| \[`(\w+)`\]\(parameters\.md#\w+\) \|.*\|(.*)\|$", text, flags=re.MULTILINE)
    assert {stage for stage, _ in rows} == set(CONFIGS)
    for stage, named in rows:
        assert set(re.findall(r"`(\w+)`", named)) <= set(CONFIGS[stage].model_fields), stage
