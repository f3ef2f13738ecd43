"""Ensembles to run: made once, since exporting a member takes a second."""

import pytest

from sensai.ensemble import Ensemble
from sensai.runtimes import Prepared, prepare
from tests.test_ensemble import GROUPS, built


@pytest.fixture(scope="session")
def irregular() -> Ensemble:
    """A binary member and groups, each of other widths."""
    ensemble, _ = built(GROUPS)
    return ensemble


@pytest.fixture(scope="session")
def prepared(irregular: Ensemble) -> Prepared:
    return prepare(irregular)
