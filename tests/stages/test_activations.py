"""The statistics pass in shards gives the numbers of one pass; a killed pass resumes where it stopped."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sensai.activations import Statistics
from sensai.config import CONFIGS, ActivationsConfig
from sensai.data import dataset
from sensai.data.streaming import ImageFiles
from sensai.errors import InputError
from sensai.pipeline import context
from sensai.pipeline.session import Session, dataset_of
from sensai.stages import activations, baseline
from sensai.stages.activations.activations_execution import shards
from tests.helpers.pipeline import Place

# Seven batches, three classes.
BATCH, COUNT = 16, 100


@given(total=st.integers(1, 200), count=st.integers(1, 12), batch_size=st.integers(1, 30))
def test_shards_are_consecutive_parts_of_whole_batches(total: int, count: int, batch_size: int) -> None:
    rows = np.arange(3, 3 + 2 * total, 2)
    parts = shards(rows, count, batch_size)
    assert np.array_equal(np.concatenate(parts), rows)
    assert all(len(part) % batch_size == 0 for part in parts[:-1])
    batches = [-(-len(part) // batch_size) for part in parts]
    assert len(parts) == min(count, sum(batches))
    assert max(batches) - min(batches) <= 1


@pytest.mark.parametrize(("side", "expected"), [(8, 256), (32, 256), (64, 256), (128, 64), (224, 20), (2000, 1)])
def test_an_evaluation_batch_has_a_bounded_number_of_pixels(place: Place, side: int, expected: int) -> None:
    root = place.folder / "set"
    for name in ("cat", "dog"):
        write(root / "train" / name / "0.png", 0)
    config = place.config("activations", dataset="imagefolder", data_dir=str(root), image_size=side)
    assert context.evaluation_batch(dataset_of(config).image_shape) == expected


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def config(place: Place, monkeypatch: pytest.MonkeyPatch) -> ActivationsConfig:
    """Return the configuration of a streamed folder of three classes and an untrained network."""
    monkeypatch.setattr(dataset, "DECODED_LIMIT", 0)
    monkeypatch.setattr(context, "_EVALUATION_BATCH", BATCH)
    root = place.folder / "set"
    for number in range(COUNT):
        write(root / "train" / f"class{number % 3}" / f"{number:03d}.png", number)
        write(root / "val" / f"class{number % 3}" / f"{number:03d}.png", number)
    write(root / "test" / "class0" / "0.png", 0)
    made = place.config("activations", dataset="imagefolder", data_dir=str(root), base_epochs=0, shards=3)
    assert isinstance(made, ActivationsConfig)
    return made


def statistics(config: ActivationsConfig, session: Session | None = None) -> Statistics:
    session = session or Session.connect()
    return activations.load(session.store, activations.stage.ensure(config, session, parent=None))


def spoil(path: Path) -> bytes:
    """Make an image unreadable in a way that the listing does not show, and return its content."""
    content, status = path.read_bytes(), path.stat()
    path.write_bytes(b"\0" * len(content))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return content


def test_shards_give_the_numbers_of_one_pass(config: ActivationsConfig, place: Place) -> None:
    in_shards = statistics(config)
    whole = statistics(config.model_copy(update={"shards": 1, "force": True}))
    assert len(place.of("activations")) == 2
    assert in_shards.keys() == whole.keys()
    for site, values in whole.items():
        assert np.array_equal(in_shards[site].zeros, values.zeros)
        assert np.array_equal(in_shards[site].elements, values.elements)
        np.testing.assert_allclose(in_shards[site].magnitude, values.magnitude, rtol=1e-12)
        assert values.elements.sum() % COUNT == 0
        assert (values.elements > 0).all()


def test_a_killed_pass_goes_on_at_the_shard_where_it_was(config: ActivationsConfig, place: Place) -> None:
    baseline.run(config.upstream(CONFIGS["baseline"]))
    # One session lists the data once: it would find the spoiled images.
    session = Session.connect()
    images = session.dataset(config).train.images
    assert isinstance(images, ImageFiles)
    # Shards have 2, 2 and 3 batches: rows 0-31, 32-63, 64-99.
    broken = images.folder / images.names[70]
    content = spoil(broken)
    with pytest.raises(InputError, match="is not an image that can be read"):
        statistics(config, session)
    (folder,) = (place.folder / "work" / "checkpoints").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["rows_0_31.safetensors", "rows_32_63.safetensors"]

    broken.write_bytes(content)
    # What the finished shards read is gone: who reads it again fails. The first images are the example of the export.
    kept = {images.folder / images.names[row]: b"" for row in range(16, 64)}
    for path in kept:
        kept[path] = spoil(path)
    resumed = statistics(config, session)
    assert not folder.exists()

    for path, content in kept.items():
        path.write_bytes(content)
    whole = statistics(config.model_copy(update={"force": True}))
    for site, values in whole.items():
        assert np.array_equal(resumed[site].zeros, values.zeros)
        assert np.array_equal(resumed[site].magnitude, values.magnitude)
        assert np.array_equal(resumed[site].elements, values.elements)
