"""Classes to groups."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.errors import InputError
from sensai.grouping import coupling_means, random_groups, read_groups, singletons

NAMES = ("cat", "dog", "ship", "truck")


def test_singletons_are_every_class_once() -> None:
    assert singletons(4) == [(0,), (1,), (2,), (3,)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(num_classes=st.integers(1, 30), share=st.floats(0, 1), seed=st.integers(0, 2**31 - 1))
def test_random_groups_partition_the_classes_evenly(num_classes: int, share: float, seed: int) -> None:
    n_groups = 1 + int(share * (num_classes - 1))
    groups = random_groups(num_classes, n_groups, seed)
    assert len(groups) == n_groups
    assert sorted(label for group in groups for label in group) == list(range(num_classes))
    sizes = [len(group) for group in groups]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert groups == random_groups(num_classes, n_groups, seed)


def test_random_groups_depend_on_the_seed() -> None:
    assert len({str(random_groups(10, 3, seed)) for seed in range(5)}) == 5


def test_one_group_holds_all_classes() -> None:
    assert random_groups(5, 1, seed=3) == [(0, 1, 2, 3, 4)]


def test_more_groups_than_classes_are_refused() -> None:
    with pytest.raises(InputError, match="n_groups=5: there are only 4 classes"):
        random_groups(4, 5, seed=0)


def _written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "groups.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("content", [[["dog", "truck"], ["ship", "cat"]], [[1, 3], [2, 0]], [["dog", 3], [2, "cat"]]])
def test_names_and_indices_mean_the_same(tmp_path: Path, content: list) -> None:
    assert read_groups(_written(tmp_path, content), NAMES) == [(1, 3), (2, 0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", "cannot be read as JSON"),
        ({"a": [0]}, "list of non-empty lists"),
        ([[0, 1], []], "list of non-empty lists"),
        ([0, 1, 2, 3], "list of non-empty lists"),
        ([["cat", "dog"], ["ship"]], "missing: truck"),
        ([["cat", "dog"], ["ship", "truck", "cat"]], "doubled: cat"),
        ([["cat", "dog"], ["ship", 0]], "doubled: cat; missing: truck"),
        ([["cat", "dog"], ["ship", "lorry"]], "'lorry' is neither a class name nor an index below 4"),
        ([[0, 1], [2, 4]], "4 is neither"),
        ([[0, 1], [2, -1]], "-1 is neither"),
        ([[0, True], [2, 3]], "True is neither"),
        ([[0, 1.0], [2, 3]], "1.0 is neither"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: object, message: str) -> None:
    path = _written(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        read_groups(path, NAMES)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"groups_file='.*none.json'"):
        read_groups(tmp_path / "none.json", NAMES)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(num_classes=st.integers(2, 8), n_groups=st.integers(1, 8), seed=st.integers(0, 1000))
def test_coupling_means_equal_a_loop_over_pairs(num_classes: int, n_groups: int, seed: int) -> None:
    groups = random_groups(num_classes, min(n_groups, num_classes), seed)
    generator = np.random.default_rng(seed)
    coupling = generator.integers(0, 50, (num_classes, num_classes))
    coupling = coupling + coupling.T
    within, between = [], []
    for first in range(num_classes):
        for second in range(first):
            together = any(first in group and second in group for group in groups)
            (within if together else between).append(int(coupling[first, second]))
    means = coupling_means(coupling, groups)
    assert means.keys() == {
        name for name, values in (("coupling_within", within), ("coupling_between", between)) if values
    }
    for name, values in (("coupling_within", within), ("coupling_between", between)):
        if values:
            assert means[name] == pytest.approx(sum(values) / len(values))
