"""Both ways compute with the same images and networks, one by one or in batches."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from sensai.data.batches import batches
from sensai.data.dataset import Split
from sensai.data.streaming import ImageFiles
from sensai.stages.contention import engine, naive, streamed
from sensai.stages.contention.job import load_base, load_files, load_job, load_members, load_split
from sensai.stages.contention.work import Spent, one_after_another
from tests.helpers import contention
from tests.helpers.networks import make

CPU = torch.device("cpu")


@pytest.mark.parametrize("stored", ["arrays", "files", "streamed"])
def test_naive_processes_see_what_the_engine_sees(tmp_path: Path, stored: str) -> None:
    arrays = np.random.default_rng(0).integers(0, 256, (9, 3, 8, 8), np.uint8)
    labels = np.arange(9) % 3
    files = [str(tmp_path / f"{row}.png") for row in range(9)]
    for path, image in zip(files, arrays, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    images = ImageFiles(tmp_path, [Path(path).name for path in files], (3, 8, 8)) if stored == "streamed" else arrays
    rows = np.array([1, 2, 5, 8])
    given = {} if stored == "arrays" else {"files": [files[row] for row in rows]}
    folder = contention.save(tmp_path / "job", Split(images, labels, rows), image_shape=(3, 8, 8), **given)
    job, normalization = load_job(folder), load_members(folder, [0]).normalization

    pictures = naive.Pictures(folder, job, 3, naive.transform_of(job, normalization, "none"))
    one_by_one, their_labels = next(iter(DataLoader(pictures, batch_size=3)))
    ((together, own_labels),) = batches(load_split(folder, job, 3), 3, normalization, CPU)
    torch.testing.assert_close(one_by_one, together)
    torch.testing.assert_close(together, normalization(torch.from_numpy(arrays[rows[:3]])))
    assert their_labels.tolist() == own_labels.tolist() == labels[rows[:3]].tolist()
    if stored != "arrays":
        ((from_files, same_labels),) = batches(load_files(folder, job, 3), 3, normalization, CPU)
        torch.testing.assert_close(from_files, together, rtol=0, atol=0)
        assert same_labels.tolist() == own_labels.tolist()


def test_a_folder_gives_back_the_members_and_the_base_model(tmp_path: Path) -> None:
    folder = contention.save(tmp_path / "job", contention.split(16), members=5)
    ensemble = load_members(folder, range(5))
    # Three members, taken over again.
    assert [member.classes for member in ensemble.members] == [(0,), (1,), (2,), (0,), (1,)]
    images = torch.randn(2, 1, 8, 8)
    model, _ = make("small_cnn", num_classes=3)
    torch.testing.assert_close(load_base(folder)(images), model(images), rtol=0, atol=0)
    first, again = ensemble.members[0].network, ensemble.members[3].network
    torch.testing.assert_close(first(images), again(images), rtol=0, atol=0)
    assert first is not again


@pytest.mark.parametrize(
    ("way", "count", "steps"),
    [*((way, *each) for way in (naive, engine) for each in ((16, 1), (17, 1), (18, 2), (48, 3))), (streamed, 18, 2)],
)
def test_a_pass_over_the_first_images(tmp_path: Path, way: ModuleType, count: int, steps: int) -> None:
    images = contention.split(48)
    folder = contention.save(tmp_path / "job", images, workers=0, files=contention.write_files(images, tmp_path))
    work = way.training(folder, load_job(folder), [1])
    # A last batch of one image is left out of a training.
    spent = work(count)
    assert spent.steps == steps
    assert spent.seconds > 0
    assert spent.data_seconds > 0
    assert way.scoring(folder, load_job(folder), [1])(count).steps == -(-count // 16)


def test_a_script_trains_and_scores_in_turn_what_the_engine_does_at_once(tmp_path: Path) -> None:
    folder = contention.save(tmp_path / "job", contention.split(48), members=3, workers=0, jobs=1, threads=1)
    job = load_job(folder)
    three, alone = (naive.training(folder, job, numbers)(48) for numbers in ([0, 1, 2], [0]))
    assert (three.steps, alone.steps) == (9, 3)
    assert 0 < three.data_seconds < three.seconds
    assert engine.training(folder, job, [0, 1, 2])(48).steps == 3
    assert naive.scoring(folder, job, [0, 1, 2])(48).steps == 9
    assert engine.scoring(folder, job, [0, 1, 2])(48).steps == 3


def test_seconds_and_steps_in_turn_add_up() -> None:
    works = [lambda count: Spent(count, count / 2, 3), lambda count: Spent(10 * count, count, 4)]
    assert one_after_another(works)(2) == Spent(seconds=22, data_seconds=3, steps=7)


def test_naive_training_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = contention.save(tmp_path / "job", contention.split(96), workers=0, augmentation="none")
    trained = load_members(folder, [1])
    monkeypatch.setattr(naive, "load_members", lambda *_: trained)
    work = naive.training(folder, load_job(folder), [1])
    for _ in range(10):
        work(96)
    ((images, labels),) = batches(contention.split(96), 96, trained.normalization, CPU)
    said = trained.members[0].network.eval()(images)[:, 0] > 0
    assert said.tolist() == (labels == 1).tolist()
