"""The tables of the studies of decomposition, from shards whose answers are known."""

from pathlib import Path

import numpy as np
import pytest

from analysis import decomposition_tables
from sensai.analysis.cell_shards import write_shard
from sensai.analysis.markdown import with_blocks

LABELS = np.arange(200) % 10


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder of collected results empty and return it."""
    monkeypatch.setattr(decomposition_tables, "RESULTS", tmp_path)
    return tmp_path


def finish(results: Path, row: str, seed: int, wrong: int) -> None:
    """Write the shard of a finished cell whose first answers are wrong."""
    answers = np.where(np.arange(len(LABELS)) < wrong, (LABELS + 1) % 10, LABELS)
    measured = {"train_images": 5000, "scope": "inner", "precision": "bf16", "device": "cpu", "commit": "a4217fe"}
    measured |= {
        "members": 5,
        "epochs": 16,
        "flops_base": 8.0,
        "flops_max": 1.0,
        "flops_total": 5.0,
        "val_accuracy": 0.75,
    }
    cell = {"row": row, "role": "ensemble", "seed": seed}
    write_shard(results / "decomposition_vgg11", cell, measured, LABELS, {"vector": answers})


def test_without_a_finished_cell_pages_stay_as_they_are(results: Path) -> None:
    assert decomposition_tables.blocks() == {}


def test_a_row_is_shown_when_it_is_finished_and_its_contrasts_when_both_are(results: Path) -> None:
    finish(results, "five pairs", seed=0, wrong=20)
    alone = decomposition_tables.blocks()
    assert alone.keys() == {"decomposition_vgg11"}
    expected = "| five pairs | 5 | 16 | 0.125 | 0.625 | 1 | 0.7500 | 0.9000 | 0.900 |"
    assert alone["decomposition_vgg11"].splitlines()[2:] == [expected]
    for seed in range(2):
        finish(results, "control", seed, wrong=40 + 2 * seed)
    both = decomposition_tables.blocks()
    assert both.keys() == {"decomposition_vgg11", "decomposition_vgg11 contrasts", "decomposition figure"}
    (contrast,) = both["decomposition_vgg11 contrasts"].splitlines()[2:]
    assert contrast.startswith("| five pairs - control | 1, 2 | +10.50 |")
    # The rows stand in the order of the study, and each content is one block.
    assert [line.split(" | ")[0] for line in both["decomposition_vgg11"].splitlines()[2:]] == [
        "| control",
        "| five pairs",
    ]
    assert with_blocks("<!-- decomposition figure -->\nNot measured yet.\n", both).endswith("](decomposition.png)\n")


def test_the_figure_has_a_panel_a_study_and_a_point_a_contrast(results: Path) -> None:
    for row, wrong in (("five pairs", 20), ("control", 40), ("five replicas", 30)):
        finish(results, row, 0, wrong)
    (compared,) = decomposition_tables.collected_contrasts().values()
    (panel,) = decomposition_tables.drawn(compared).axes
    assert panel.get_title() == "VGG-11"
    assert len(panel.get_yticklabels()) == 3
