"""The Python interface, as a user of PyTorch calls it."""

import subprocess
import sys

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sensai
from sensai.errors import InputError
from tests.api.conftest import Made
from tests.helpers.live_network import CLASSES, DigitsNet, digits, loader, trained
from tests.helpers.networks import assert_same, snapshot


def accuracy(ensemble: sensai.Ensemble) -> float:
    images, labels = digits()["test"]
    with torch.no_grad():
        return float((ensemble(images).argmax(1) == labels).float().mean())


def test_importing_takes_no_time_and_no_library() -> None:
    code = "import time; t = time.perf_counter(); import sensai, sys; s = time.perf_counter() - t; " + (
        "print(s, *{'torch', 'mlflow', 'pandas', 'numpy'} & set(sys.modules))"
    )
    seconds, *loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert (float(seconds) < 0.5, loaded) == (True, [])
    assert set(sensai.__all__) <= set(dir(sensai))
    assert all(getattr(sensai, name).__doc__ for name in sensai.__all__)


def test_the_ten_lines_make_a_good_ensemble(made: Made) -> None:
    table, answers = made.result.table, made.result.answers
    assert list(table.index) == ["base model", "largest member", "ensemble"]
    assert table.loc["ensemble", "accuracy"] > 0.85
    assert table.loc["ensemble", "accuracy"] == pytest.approx(accuracy(made.ensemble))
    assert table.loc["ensemble", "accuracy"] == pytest.approx((answers["ensemble"] == answers["label"]).mean())
    assert table.loc["largest member", "flops"] <= 0.25 * table.loc["base model", "flops"]
    assert made.ensemble.flops_share == table.loc["largest member", "flops"] / table.loc["base model", "flops"]
    assert (table["latency_ms"] > 0).all()
    assert int(made.result.confusion.to_numpy().sum()) == len(answers) == 400
    assert made.result.metrics["val_accuracy"] > 0.85
    assert "best choice" in made.result.verdict
    assert list(made.result.differences.index) == ["ensemble - base model"]
    assert made.ensemble.history.groupby("member").size().tolist() == [4] * 5


def test_the_model_and_the_generators_stay_as_they_were() -> None:
    model = trained().train()
    before, state = snapshot(model), torch.get_rng_state()
    statistics = sensai.score(model, loader("val"))
    ensemble = sensai.prune(model, statistics)
    sensai.retrain(ensemble, digits()["val"], epochs=1, batch_size=100, progress=False)
    assert_same(model, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_statistics_are_those_of_the_images(made: Made) -> None:
    images, labels = digits()["train"]
    with torch.no_grad():
        first = made.model.features[:3](images[labels == 3])
    zeros = (first.abs() <= 0.005).float().mean((0, 2, 3))
    np.testing.assert_allclose(made.statistics.apoz("features.0").loc["3"], zeros, atol=1e-6)
    assert made.statistics.table["channels"].tolist() == [16, 32, 32]


@pytest.mark.parametrize("kind", ["loader", "dataset", "float pair", "uint8 pair", "channels last"])
def test_every_form_of_images_gives_the_same_statistics(kind: str, made: Made) -> None:
    images, labels = digits()["train"]
    pixels = (images * 255).round().to(torch.uint8)
    floats = pixels.float() / 255
    data = {
        "loader": DataLoader(TensorDataset(floats, labels), 64, shuffle=True),
        "dataset": TensorDataset(floats, labels),
        "float pair": (floats.numpy(), labels.numpy()),
        "uint8 pair": (pixels, labels),
        "channels last": (pixels.permute(0, 2, 3, 1).numpy(), labels.numpy().astype(np.int32)),
    }[kind]
    statistics = sensai.score(made.model, data)
    for site, values in made.statistics.sites.items():
        # The pixels were rounded.
        assert np.abs(statistics[site].zeros - values.zeros).max() <= 0.01 * values.elements.max()
    assert statistics.is_raw_known


def test_the_same_seed_gives_the_same_members(made: Made) -> None:
    weights = []
    for seed in (1, 1, 2):
        # A user's own draws must not matter.
        torch.rand(7 * len(weights))
        ensemble = sensai.prune(made.model, made.statistics, [range(5), range(5, 10)], ratio=0.6)
        sensai.retrain(ensemble, loader("train"), loader("val"), epochs=1, seed=seed, progress=False)
        weights.append(torch.cat([each.flatten() for each in ensemble.state_dict().values()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_loader_is_iterated_anew_for_each_epoch(made: Made) -> None:
    class Counted(TensorDataset):
        reads = 0

        def __getitem__(self, row: int) -> tuple[torch.Tensor, ...]:
            Counted.reads += 1
            return super().__getitem__(row)

    data = DataLoader(Counted(*digits()["val"]), 33)
    ensemble = sensai.prune(made.model, made.statistics)
    sensai.retrain(ensemble, data, epochs=2, progress=False)
    assert Counted.reads == 2 * 200
    assert ensemble.history["epoch"].max() == 1


@pytest.mark.long
@pytest.mark.processes
def test_processes_train_the_same_members(made: Made) -> None:
    found = []
    for jobs in (1, 2):
        ensemble = sensai.prune(made.model, made.statistics, [range(5), range(5, 10)], ratio=0.6)
        sensai.retrain(ensemble, loader("val"), epochs=1, jobs=jobs, threads=1, progress=False)
        found.append(ensemble.history["train_loss"].to_numpy())
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_saved_ensemble_answers_the_same(made: Made) -> None:
    images, _ = digits()["test"]
    loaded = sensai.load(made.folder / "ensemble", model=DigitsNet())
    with torch.no_grad():
        expected = made.ensemble(images)
        assert torch.equal(loaded(images), expected)
    assert repr(loaded) == repr(made.ensemble)
    pd.testing.assert_frame_equal(loaded.table, made.ensemble.table)
    session = onnxruntime.InferenceSession(made.folder / "ensemble.onnx")
    (answers,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(answers, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)


def test_yardsticks_stand_in_the_table(made: Made) -> None:
    share = made.ensemble.flops_share
    control = sensai.prune(made.model, made.statistics, sensai.group(made.statistics, "random", 1), target_flops=share)
    replicas = sensai.prune(
        made.model, made.statistics, sensai.group(made.statistics, "replicas", 5), target_flops=share
    )
    for each in (control, replicas):
        sensai.retrain(each, loader("train"), loader("val"), epochs=1, progress=False)
    assert (control.role, replicas.role) == ("control", "replicas")
    result = sensai.evaluate(
        made.ensemble, loader("test"), made.model, control=control, replicas=replicas, runtime="torch"
    )
    assert list(result.table.index) == ["base model", "largest member", "ensemble", "control", "replicas"]
    assert result.table.loc["control", "accuracy"] == pytest.approx(accuracy(control))
    assert result.table.loc["control", "flops"] <= result.table.loc["largest member", "flops"]
    assert list(result.differences.index) == [f"ensemble - {name}" for name in ("base model", "control", "replicas")]
    gain = result.table.loc["ensemble", "accuracy"] - result.table.loc["control", "accuracy"]
    assert result.differences.loc["ensemble - control", "difference"] == pytest.approx(gain)
    assert "control" in result.verdict


def test_objects_show_themselves(made: Made) -> None:
    texts = [repr(each) for each in (made.statistics, made.groups, made.ensemble, made.result)]
    assert "DigitsNet: 80 removable channels in 3 sites, 10 classes, 600 images" in texts[0]
    assert texts[1].startswith("5 groups of 10 classes by min_flops")
    assert texts[2].startswith("Ensemble of 5 networks for 10 classes, cut from DigitsNet")
    assert "base model" in texts[3]
    for each in (made.statistics, made.groups, made.ensemble, made.result):
        assert "<table" in each._repr_html_()
        assert len(repr(each).splitlines()[0]) < 300
    assert list(sensai.group(made.statistics)) == [(label,) for label in range(CLASSES)]


def later_labels() -> DataLoader:
    images, labels = digits()["val"]
    return DataLoader(TensorDataset(images, labels + 1), 50)


class Unfollowable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = self.conv(x).mean((2, 3))
        return self.head(values if float(self.head.bias.sum()) > 0 else -values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda made: sensai.score(made.model, "train"), "data: must be a DataLoader, .*not str"),
        (
            lambda made: sensai.score(made.model, [1, 2, 3]),
            "data: must give pairs of tensors .images, labels., not int",
        ),
        (lambda made: sensai.score(made.model, later_labels()), "data: has labels from 1 to 10; of 10 classes"),
        (lambda made: sensai.score(made.model, loader("val"), 4), "model: gives .*2, 10.*, not floats .2, 4."),
        (lambda made: sensai.score(nn.Conv2d(1, 2, 3), loader("val")), "model: gives shape .* not logits"),
        (lambda made: sensai.score(Unfollowable(), loader("val")), "model: the network cannot be followed"),
        (lambda made: sensai.score(made.model, loader("val"), mean=(0.5, 0.5)), "mean=.0.5, 0.5.: must be 1 numbers"),
        (
            lambda made: sensai.score(made.model, loader("val"), criterion="apozz"),
            "criterion='apozz': .*did you mean apoz",
        ),
        (lambda made: sensai.group(made.statistics, "min_flop", 5), "method='min_flop': .*did you mean min_flops"),
        (lambda made: sensai.group(made.statistics, "min_flops"), "n_groups='': method=min_flops needs the number"),
        (
            lambda made: sensai.group(made.statistics, "specialists", 3),
            "val=None: method='specialists' needs validation",
        ),
        (lambda made: sensai.prune(DigitsNet(), made.statistics), "model: is not the network that was scored"),
        (lambda made: sensai.prune(made.model, made.statistics, ratio=1.5), "ratio=1.5: must be less than 1"),
        (lambda made: sensai.prune(made.model, made.statistics, [[0, 1]]), "groups: every class must be in a group"),
        (lambda made: sensai.prune(made.model, made.statistics, [["zero"]]), "groups: 'zero' is neither a class name"),
        (
            lambda made: sensai.prune(made.model, made.statistics, target_flops=1e-6),
            "target_flops=1e-06: .*can be reached",
        ),
        (
            lambda made: sensai.prune(made.model, made.statistics, criterion="taylor"),
            "criterion='taylor': the statistics",
        ),
        (lambda made: sensai.retrain(made.ensemble, loader("val"), loss="joint_kd"), "teacher=None: loss='joint_kd'"),
        (lambda made: sensai.retrain(made.ensemble, loader("val"), epoch=3), "'epoch' is no parameter of retrain"),
        (lambda made: sensai.retrain(made.ensemble, loader("val"), epochs=-1), "epochs=-1: must be greater"),
        (lambda made: sensai.retrain(made.ensemble, loader("val"), batch_size=8), "batch_size=8: the loader"),
        (
            lambda made: sensai.retrain(made.ensemble, loader("val"), augmentation="crop"),
            "augmentation='crop': is made",
        ),
        (lambda made: sensai.evaluate(made.ensemble, loader("val"), made.model, combine="vector"), "val=None: combine"),
        (lambda made: sensai.load("nowhere"), "folder='nowhere': there is no ensemble"),
        (lambda made: sensai.load(made.folder / "ensemble"), "model=None: .*'DigitsNet'"),
        (lambda made: sensai.load(made.folder / "ensemble", nn.Linear(2, 2)), "or `model` is not of the architecture"),
    ],
)
def test_errors_are_one_line_that_names_the_parameter(call, message: str, made: Made) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(made)
    assert "\n" not in str(caught.value)
