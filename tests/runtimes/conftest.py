"""Ensembles to run, made once, since exporting a member takes a second."""

import pytest

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble, Member
from sensai.models.factory import NetworkSpec
from sensai.runtimes import Prepared, prepare
from tests.ensemble.test_ensemble import GROUPS, built
from tests.runtimes.test_folding import emptied


@pytest.fixture(scope="session")
def irregular() -> Ensemble:
    """Return a binary member and groups, each of other widths."""
    ensemble, _ = built(GROUPS)
    return ensemble


@pytest.fixture(scope="session")
def prepared(irregular: Ensemble) -> Prepared:
    return prepare(irregular)


@pytest.fixture(scope="session")
def without_blocks() -> Ensemble:
    """Return one member with branches of no channels, for images (N, 9, 9, 2)."""
    spec = NetworkSpec("small_cnn", 5, 2, (9, 9))
    return Ensemble([Member(tuple(range(5)), emptied())], tuple("abcde"), spec, Normalization((0.5, 0.4), (0.2, 0.3)))
