"""One ensemble, made in Python once for all tests that only read it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import sensai
from tests.helpers.live_network import CLASSES, DigitsNet, loader, trained


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Made:
    """What the ten lines of the documentation make."""

    model: DigitsNet
    statistics: sensai.ChannelStatistics
    groups: sensai.Groups
    ensemble: sensai.Ensemble
    result: sensai.Evaluation
    folder: Path


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    torch.set_num_threads(1)
    model, train_loader, val_loader, test_loader = trained(), loader("train"), loader("val"), loader("test")

    statistics = sensai.score(model, train_loader, num_classes=CLASSES)
    groups = sensai.group(statistics, method="min_flops", n_groups=5)
    ensemble = sensai.prune(model, statistics, groups, target_flops=0.25)
    sensai.retrain(ensemble, train_loader, val_loader, epochs=4, loss="joint_kd", teacher=model)
    result = sensai.evaluate(ensemble, test_loader, base=model, val=val_loader, runtime="torch")
    ensemble.save(folder / "ensemble")
    ensemble.to_onnx(folder / "ensemble.onnx")

    return Made(model, statistics, groups, ensemble, result, folder)
