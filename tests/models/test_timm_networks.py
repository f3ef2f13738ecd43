"""Networks of timm by their names, and members of them: exact, of the predicted size, and rebuilt from their files."""

import sys
from pathlib import Path

import pytest
import torch

from sensai.errors import InputError
from sensai.models.architecture_names import input_rule, is_own
from sensai.models.factory import NetworkSpec, auxiliary_heads, build
from sensai.models.storage import load_network, save_network
from sensai.pruning import member_network, provable, pruning_error
from sensai.sites import SizePrediction, count_flops, count_params, find_sites
from tests.helpers.networks import images_for, random_plan, randomise

CLASSES = 10
# Name -> sites in both scopes, and whether anything is kept whole. Each is of another family.
SMALL = {"resnet10t": (6, 10, False), "test_vit": (6, 6, True)}
FAMILIES = {
    "cspresnet50": (38, 38, True),
    "dla34": (19, 25, False),
    "ese_vovnet19b_dw": (23, 23, False),
    "ghostnet_100": (25, 31, False),
    "hrnet_w18_small": (36, 45, False),
    "legacy_xception": (24, 28, False),
    "mixnet_s": (14, 14, True),
    "res2net50_26w_4s": (25, 29, True),
    "rexnet_100": (31, 31, True),
    "tf_efficientnet_lite0": (19, 24, False),
}


def check(name: str, inner: int, everything: int, kept: bool, folder: Path) -> None:
    spec = NetworkSpec(f"timm:{name}", CLASSES, 3, (64, 64))
    torch.manual_seed(0)
    network, images = randomise(build(spec)), images_for(spec, 2)
    found = find_sites(network, images)
    sites = provable(network, found, images)
    # timm's batch norms, which hold an activation too, cannot be emptied.
    assert (sites.sites, sites.kept_whole) == (found.sites, found.kept_whole)
    assert (len(sites.within("inner").sites), len(sites.sites), bool(sites.kept_whole)) == (inner, everything, kept)
    for scope, share in (("inner", 0.9), ("all", 0.5)):
        within = sites.within(scope)
        plan = random_plan(within, share, seed=3)
        error, tolerance = pruning_error(network, within, plan, images)
        assert error <= tolerance
        member = member_network(network, within, plan, (1, 2), CLASSES)
        predicted = SizePrediction(network, within, spec.input_shape)(plan, 3)
        assert predicted == (count_params(member), count_flops(member, spec.input_shape))
        assert predicted[0] < count_params(network)
    save_network(member, spec, folder)
    loaded, _ = load_network(folder)
    with torch.no_grad():
        assert torch.equal(loaded(images), member.eval()(images))


@pytest.mark.parametrize("name", SMALL)
def test_members_of_small_networks_are_exact(name: str, tmp_path: Path) -> None:
    check(name, *SMALL[name], tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_members_of_every_family_are_exact(name: str, tmp_path: Path) -> None:
    check(name, *FAMILIES[name], tmp_path)


def test_the_input_is_that_of_the_default_weights() -> None:
    assert input_rule("timm:resnet18") == (224, 3, None)
    # The position embeddings of a transformer fit one size.
    assert input_rule("timm:test_vit") == (160, 3, 160)
    with torch.no_grad():
        assert build(NetworkSpec("timm:test_vit", 7, 3, (160, 160))).eval()(torch.zeros(2, 3, 160, 160)).shape == (2, 7)
    assert auxiliary_heads("timm:resnet18") == ()
    assert not is_own("timm:resnet18")


def test_arguments_reach_the_network() -> None:
    network = build(NetworkSpec("timm:resnet10t", 7, 1, (64, 64), {"drop_rate": 0.25}))
    assert network.drop_rate == 0.25
    assert network.get_submodule("conv1")[0].in_channels == 1


@pytest.mark.parametrize(
    ("arch", "arguments", "message"),
    [
        ("timm:resnet11", {}, r"arch='timm:resnet11': timm has no such network; did you mean .*resnet1"),
        ("timm:resnet18.a1_in1k", {}, "timm has no such network; did you mean"),
        ("timm:hf-hub:someone/network", {}, "timm has no such network"),
        (
            "timm:resnet10t",
            {"pretrained": True},
            "arch_args: timm:resnet10t takes arguments of the network, not 'pretrained'",
        ),
        ("timm:resnet10t", {"num_classes": 5}, "not 'num_classes'"),
        ("timm:resnet10t", {"depth": 5}, "arch_args=.*timm cannot build resnet10t of these"),
    ],
)
def test_what_timm_has_not_is_refused_in_one_line(arch: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build(NetworkSpec(arch, 7, 3, (64, 64), arguments))
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sensai.models.libraries.timm_networks", raising=False)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="arch='timm:<name>': needs the package timm, which is not installed"):
        input_rule("timm:resnet18")
