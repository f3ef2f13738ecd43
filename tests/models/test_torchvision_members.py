"""Members of torchvision's networks, one of each family: exact, of the predicted size, and the same in another process.

All eighty are run by `benchmarks/exactness.py`.
"""

import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sensai.models.factory import NetworkSpec, build
from sensai.models.storage import save_network
from sensai.pruning import member_network, provable, pruning_error
from sensai.sites import SiteMap, SizePrediction, count_flops, count_params, find_sites
from tests.conftest import ROOT
from tests.helpers.networks import images_for, random_plan, randomise

CLASSES = 10
# Name -> side of the images, sites in both scopes, and whether anything is kept whole. The largest come first.
NETWORKS = {
    "alexnet": (64, 7, 7, False),
    "vgg11_bn": (32, 10, 10, False),
    "resnet18": (64, 8, 12, False),
    "resnext50_32x4d": (64, 17, 21, False),
    "densenet121": (64, 120, 120, False),
    "googlenet": (64, 57, 57, False),
    "mobilenet_v2": (64, 20, 25, False),
    "mobilenet_v3_small": (64, 23, 27, False),
    "mnasnet0_5": (64, 20, 25, False),
    "shufflenet_v2_x0_5": (64, 18, 18, True),
    "squeezenet1_1": (64, 25, 25, False),
    "efficientnet_b0": (64, 35, 40, False),
    "regnet_y_400mf": (64, 33, 37, False),
    "convnext_tiny": (64, 18, 18, True),
    "swin_t": (64, 12, 12, True),
}


# The largest two are left out, because they take most of the memory.
@lru_cache(maxsize=len(NETWORKS) - 2)
def prepared(name: str) -> tuple[nn.Module, NetworkSpec, Tensor, SiteMap]:
    side = NETWORKS[name][0]
    spec = NetworkSpec(f"torchvision:{name}", CLASSES, 3, (side, side))
    torch.manual_seed(0)
    network = randomise(build(spec))
    images = images_for(spec, 2)
    return network, spec, images, find_sites(network, images)


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    yield
    prepared.cache_clear()


# Those left to `make test-long` take longest, and have siblings of their kind among the others.
LONG = ("alexnet", "densenet121", "regnet_y_400mf", "mnasnet0_5", "efficientnet_b0")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in NETWORKS]
)
def test_members_are_exact_and_of_the_predicted_size(name: str) -> None:
    network, spec, images, sites = prepared(name)
    _, inner, everything, kept = NETWORKS[name]
    assert (len(sites.within("inner").sites), len(sites.sites), bool(sites.kept_whole)) == (inner, everything, kept)
    assert all(sites.kept_whole.values())
    assert provable(network, sites, images) == sites
    for scope, share in (("inner", 0.9), ("all", 0.5)):
        within = sites.within(scope)
        plan = random_plan(within, share, seed=3, emptied=0.3)
        error, tolerance = pruning_error(network, within, plan, images)
        assert error <= tolerance
        member = member_network(network, within, plan, (1, 2), CLASSES)
        predicted = SizePrediction(network, within, spec.input_shape)(plan, 3)
        assert predicted == (count_params(member), count_flops(member, spec.input_shape))
        assert predicted[0] < count_params(network)


def test_the_features_of_a_large_classifier_are_sites() -> None:
    network, _, images, sites = prepared("vgg11_bn")
    channels = {site.name: site.channels for site in sites.sites}
    assert (channels["classifier.0"], channels["classifier.3"]) == (4096, 4096)
    last = next(site for site in sites.sites if site.name == "features.25")
    # The network makes 512 maps of 7 x 7, which the classifier reads one after the other.
    read = next(cut.index for cut in last.cuts if cut.layer == "classifier.0")
    np.testing.assert_array_equal(read, np.arange(512 * 49).reshape(512, 49))
    plan = {"features.25": np.arange(1, 512), "classifier.0": np.arange(5, 4096), "classifier.3": np.arange(7, 4096)}
    member = member_network(network, sites, plan, (4,), CLASSES)
    shapes = [tuple(member.get_parameter(f"classifier.{number}.weight").shape) for number in (0, 3, 6)]
    assert shapes == [(5, 49), (7, 5), (1, 7)]
    error, tolerance = pruning_error(network, sites, plan, images)
    assert error <= tolerance


_LOAD = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
sys.path.insert(0, sys.argv[1])
from sensai.models.storage import load_network
torch.set_num_threads(1)
with torch.no_grad():
    for folder in map(Path, sys.argv[2:]):
        network, _ = load_network(folder)
        save_file({"logits": network(load_file(folder / "images.safetensors")["images"])}, folder / "logits.safetensors")
"""


@pytest.mark.processes
@pytest.mark.long
def test_members_answer_the_same_in_another_process(tmp_path: Path) -> None:
    answers = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in ("resnext50_32x4d", "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5"):
            network, spec, images, sites = prepared(name)
            member = member_network(network, sites, random_plan(sites, 0.6, seed=5), (1, 2, 4), CLASSES).eval()
            save_network(member, spec, tmp_path / name)
            save_file({"images": images}, tmp_path / name / "images.safetensors")
            with torch.no_grad():
                answers[tmp_path / name] = member(images)
    finally:
        torch.set_num_threads(threads)
    subprocess.run([sys.executable, "-c", _LOAD, str(ROOT), *map(str, answers)], check=True, timeout=120)
    for folder, expected in answers.items():
        assert torch.equal(load_file(folder / "logits.safetensors")["logits"], expected), folder.name
