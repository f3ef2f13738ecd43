"""The statistics of one pass equal those of recorded feature maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sensai.activations import (
    ZERO_THRESHOLD,
    ActivationReader,
    channel_sums,
    load_statistics,
    read_points,
    save_statistics,
)
from tests.activations.kept_maps import LABELS, NUM_CLASSES, assert_equal, counted_directly, read
from tests.helpers.networks import (
    assert_same,
    contract_id,
    images_for,
    make,
    sites_of,
    snapshot,
)


@pytest.mark.parametrize("threshold", [ZERO_THRESHOLD, 0.3])
@pytest.mark.parametrize(
    ("arch", "arch_args"),
    [
        ("small_cnn", {}),
        ("vgg11_bn", {}),
        ("resnet20", {"shortcut": "projection"}),
        ("resnet20", {"shortcut": "parameter_free"}),
        ("resnet20", {"block": "bottleneck"}),
    ],
    ids=contract_id,
)
def test_one_pass_equals_counting_kept_maps(arch: str, arch_args: dict[str, Any], threshold: float) -> None:
    network, spec = make(arch, arch_args)
    images = images_for(spec, len(LABELS))
    sites = sites_of(arch, arch_args)
    # Batches of 4, 4, 4 and 1.
    statistics = read(network, sites, images, LABELS, 4, threshold)
    expected = counted_directly(network, sites, images, LABELS, threshold)
    assert_equal(statistics, expected)
    first = next(iter(statistics.values()))
    assert first.zeros.dtype == first.elements.dtype == np.int64
    assert first.magnitude.dtype == np.float64
    assert not any(values.elements[7] or values.zeros[7].any() for values in statistics.values())
    # The case is not trivial: neither all zero nor all active, and classes differ.
    apoz = np.concatenate([values.apoz(range(10)) for values in statistics.values()])
    assert 0.05 < apoz.mean() < 0.95
    assert not np.allclose(first.apoz([0]), first.apoz([3]))


def test_a_residual_stream_is_read_behind_every_addition() -> None:
    network, spec = make("resnet20")
    images = images_for(spec, 4)
    sites = sites_of("resnet20")
    values = read(network, sites, images, torch.zeros(4, dtype=torch.int64), 4, 0.0)
    # There are four places of 32x32 (the first ReLU and three blocks), three each of 16x16 and 8x8, and one inside a block.
    assert values["conv1"].elements[0] == 4 * 4 * 32 * 32
    assert values["layer2.0.conv2"].elements[0] == 4 * 3 * 16 * 16
    assert values["layer3.0.conv2"].elements[0] == 4 * 3 * 8 * 8
    assert values["layer2.0.conv1"].elements[0] == 4 * 16 * 16


def test_the_threshold_itself_counts_as_zero() -> None:
    activation = torch.tensor([[[[0.0, -0.25], [0.25, 0.2500001]], [[1.0, 0.0], [-3.0, 0.5]]]])
    sums = channel_sums(activation, 0.25)
    zeros, magnitude = sums
    assert zeros.tolist() == [[3, 1]]
    assert magnitude.tolist() == [[pytest.approx(0.75, abs=1e-6), 4.5]]
    assert sums.dtype == torch.float64


def test_features_without_pixels_are_their_own_pixel() -> None:
    zeros, magnitude = channel_sums(torch.tensor([[0.0, 2.0, -1.0]]), 0.1)
    assert (zeros.tolist(), magnitude.tolist()) == ([[1, 0, 0]], [[0.0, 2.0, 1.0]])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_map_that_is_worked_on_in_parts_gives_the_sums_of_the_whole(memory_format: torch.memory_format) -> None:
    # The batch is read in parts of one image or of a few, by the number of threads.
    activation = torch.randn(7, 5, 256, 256).to(memory_format=memory_format)
    assert activation[0].numel() > read_points._VALUES_AT_ONCE
    before = activation.clone()
    zeros, magnitude = channel_sums(activation, 0.3)
    exact = activation.double().abs()
    assert torch.equal(zeros.long(), (activation.abs() <= 0.3).sum((2, 3)))
    torch.testing.assert_close(magnitude, exact.sum((2, 3)), rtol=1e-5, atol=0)
    assert torch.equal(activation, before)


@pytest.mark.parametrize("arch", ["small_cnn", "resnet20"])
def test_the_pass_also_gives_the_logits_and_changes_nothing(arch: str) -> None:
    network, spec = make(arch)
    network.requires_grad_(False)
    images = images_for(spec, 5)
    sites = sites_of(arch)
    before = snapshot(network)
    reader = ActivationReader(network, sites.sites, images[:3], NUM_CLASSES)
    logits = reader.read(images, torch.tensor([0, 1, 2, 3, 4]))
    with torch.no_grad():
        assert torch.allclose(logits, network(images), atol=1e-6)
    assert_same(network, before)


def test_a_network_in_training_is_read_in_eval_mode() -> None:
    network, spec = make("small_cnn")
    images = images_for(spec, len(LABELS))
    sites = sites_of("small_cnn")
    expected = counted_directly(network, sites, images, LABELS, ZERO_THRESHOLD)
    assert_equal(read(network.train(), sites, images, LABELS, 4, ZERO_THRESHOLD), expected)


def test_batches_of_any_size_give_the_same_sums() -> None:
    network, spec = make("small_cnn")
    images = images_for(spec, len(LABELS))
    sites = sites_of("small_cnn")
    whole = read(network, sites, images, LABELS, len(LABELS), ZERO_THRESHOLD)
    for batch in (1, 5):
        for site, values in read(network, sites, images, LABELS, batch, ZERO_THRESHOLD).items():
            np.testing.assert_array_equal(values.elements, whole[site].elements)
            # Another batch size may use another kernel, whose last digit may cross the threshold.
            assert np.abs(values.zeros - whole[site].zeros).max() <= 1
            np.testing.assert_allclose(values.magnitude, whole[site].magnitude, rtol=1e-5, atol=1e-3)


def test_shards_merge_to_the_whole(tmp_path: Path) -> None:
    network, spec = make("resnet20")
    images = images_for(spec, len(LABELS))
    sites = sites_of("resnet20")
    whole = read(network, sites, images, LABELS, 4, ZERO_THRESHOLD)
    first = read(network, sites, images[:8], LABELS[:8], 4, ZERO_THRESHOLD)
    second = read(network, sites, images[8:], LABELS[8:], 4, ZERO_THRESHOLD)
    paths = [tmp_path / "first", tmp_path / "second"]
    for part, path in zip((first, second), paths, strict=True):
        save_statistics(part, path)
    assert_equal(load_statistics(*paths), whole)
    assert_equal(load_statistics(*reversed(paths)), whole)


def test_statistics_are_a_snapshot_of_what_was_read_so_far() -> None:
    network, spec = make("small_cnn")
    images = images_for(spec, 4)
    reader = ActivationReader(network, sites_of("small_cnn").sites, images, NUM_CLASSES)
    labels = torch.tensor([0, 0, 1, 1])
    reader.read(images, labels)
    first = reader.statistics()["features.0"]
    elements, zeros = first.elements.copy(), first.zeros.copy()
    reader.read(images, labels)
    np.testing.assert_array_equal(reader.statistics()["features.0"].elements, 2 * elements)
    np.testing.assert_array_equal(reader.statistics()["features.0"].zeros, 2 * zeros)
    np.testing.assert_array_equal(first.elements, elements)
