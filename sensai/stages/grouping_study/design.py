"""Lay out the cells of a study and its controls, and find those that the store has."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import pandas as pd
from mlflow.entities import Run as StoredRun

from sensai.config import GroupingStudyConfig
from sensai.errors import InputError
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage
from sensai.stages import activations, evaluate, group, prune, retrain
from sensai.stages.grouping_study.cells import STAGE, Cell, Place
from sensai.tracking import tags

CONTROL = "control"


def cells_of(config: GroupingStudyConfig, session: Session) -> Iterator[Cell]:
    """Return a cell for every method, number of groups, ratio and seed."""
    study = _digest(config, session)
    for place in _places(config, config.methods):
        own = {"method": place.method, "n_groups": place.n_groups, "ratio": place.ratio, "seed": place.seed}
        yield Cell.at(place, config.cell(**own), study, session)


def controls_of(config: GroupingStudyConfig, cells: pd.DataFrame, session: Session) -> Iterator[Cell]:
    """Return a K-way network for every combination and seed, with the FLOPs of the largest member of any of its cells."""
    study, shares = _digest(config, session), cells.groupby(["n_groups", "ratio"])["flops_share"].max()
    for place in _places(config, [CONTROL]):
        own = {
            "method": "random",
            "n_groups": 1,
            "ratio": place.ratio,
            "seed": place.seed,
            "policy": "ratio",
            "target_flops": float(shares[place.n_groups, place.ratio]),
        }
        yield Cell.at(place, config.cell(**own), study, session)


def _places(config: GroupingStudyConfig, methods: Sequence[str]) -> Iterator[Place]:
    seeds = range(config.seed, config.seed + config.repeats)
    for each in product(methods, config.group_counts, config.ratios, seeds):
        yield Place(*each)


def logged_cells(config: GroupingStudyConfig, session: Session) -> list[StoredRun]:
    """Return the cells of the store that differ from this study's in nothing but the seed.

    Raises:
        InputError: there are none.
    """
    methods = [*config.methods, CONTROL]
    wanted = set(product(methods, config.group_counts, config.ratios))
    found = {}
    # The newest comes last and replaces older runs of its cell.
    for run in reversed(session.store.tagged(STAGE, tags.STUDY, _digest(config, session))):
        place = Place(**json.loads(run.data.tags[tags.CELL]))
        if (place.method, place.n_groups, place.ratio) in wanted:
            found[place] = run
    if not found:
        raise InputError("source='logged': the store has no cell with these parameters")
    return list(found.values())


def _digest(config: GroupingStudyConfig, session: Session) -> str:
    """Return the digest of what all cells have in common."""
    before: Stage[Any] = activations.stage
    versions = [[stage.name, stage.version] for stage in (group.stage, prune.stage, retrain.stage, evaluate.stage)]
    upstream = before.fingerprint(config.upstream(before.config), session)
    content: list[Any] = [upstream, versions, config.shared_parameters()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
