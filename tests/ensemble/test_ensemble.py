"""Members made from a base model, their combined answer, and their storage."""

import hashlib
import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble, Member, class_scores, combine, load_ensemble, save_ensemble
from sensai.ensemble.building import build_ensemble, cut_further, fit_none_biases, initialise_anew
from sensai.models.widths import widths
from sensai.sites import Plan, find_sites
from tests.conftest import ROOT
from tests.helpers.networks import assert_same, images_for, make, snapshot

NAMES = tuple("abcdefghij")
NORMALIZATION = Normalization((0.3,), (0.4,))
GROUPS = [(3,), (8, 0, 5), (1, 2), (4, 6, 7, 9)]


def built(groups: list[tuple[int, ...]], *, pruned: bool = True, seed: int = 0) -> tuple[Ensemble, torch.nn.Module]:
    """Return an ensemble of small networks, with members of different widths, and its base model."""
    model, spec = make("small_cnn", seed=seed)
    sites = find_sites(model, images_for(spec, 2))
    plans: list[Plan] = [
        {
            site.name: np.arange((number * 5 + position * 3) % (site.channels - 1) if pruned else 0)
            for position, site in enumerate(sites.sites)
        }
        for number in range(len(groups))
    ]
    pairs = list(zip(groups, plans, strict=True))
    return build_ensemble(model, spec, sites, pairs, NAMES, NORMALIZATION).eval(), model


# ------------------------------------------------------------------------------------------------------------- members


def test_random_weights_follow_from_seed_and_number() -> None:
    """Members of equal shape differ, widths stay, and nothing is left of the base model."""
    weights = {}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        ensemble, base = built([(0, 1), (2, 3)], pruned=False)
        before = [widths(member.network) for member in ensemble.members]
        state = torch.random.get_rng_state()
        initialise_anew(ensemble, seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert [widths(member.network) for member in ensemble.members] == before
        weights[name] = [next(member.network.parameters()).detach() for member in ensemble.members]
    assert all(torch.equal(*pair) for pair in zip(weights["first"], weights["again"], strict=True))
    own = [*weights["first"], *weights["other"]]
    learnt = next(base.parameters()).detach()
    for one, other in combinations([*own, learnt], 2):
        assert not torch.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize(
    "groups",
    [[(label,) for label in range(10)], GROUPS, [tuple(range(10))], [(9, 0, 1, 2, 3, 4, 5, 6, 7, 8)]],
    ids=["binary", "groups", "control", "control in another order"],
)
def test_heads_are_the_rows_of_the_classes(groups: list[tuple[int, ...]]) -> None:
    ensemble, base = built(groups, pruned=False)
    images = images_for(ensemble.spec, 4)
    with torch.no_grad():
        expected = base(images)
        outputs = ensemble.member_logits(images)
    for classes, logits in zip(groups, outputs, strict=True):
        none = 1 if 1 < len(classes) < 10 else 0
        assert logits.shape == (4, none + len(classes))
        assert torch.allclose(logits[:, none:], expected[:, list(classes)], atol=1e-6)
        if none:
            assert not logits[:, 0].any()


def test_the_control_answers_as_the_base_model() -> None:
    ensemble, base = built([tuple(range(10))], pruned=False)
    images = images_for(ensemble.spec, 5)
    with torch.no_grad():
        assert torch.allclose(ensemble(images), torch.softmax(base(images), 1), atol=1e-6)


def test_members_are_cut_by_their_own_plans_and_share_nothing() -> None:
    ensemble, base = built(GROUPS)
    first = [widths(member.network)["features.0"][0] for member in ensemble.members]
    assert first == [32, 32 - 5, 32 - 10, 32 - 15]
    before = snapshot(base)
    with torch.no_grad():
        for parameter in ensemble.parameters():
            parameter.zero_()
    assert_same(base, before)


def test_an_ensemble_is_one_module_of_all_its_members() -> None:
    ensemble, _ = built(GROUPS)
    expected = sum(value.numel() for member in ensemble.members for value in member.network.parameters())
    assert sum(value.numel() for value in ensemble.parameters()) == expected
    ensemble.double()
    assert all(value.dtype == torch.float64 for value in ensemble.members[2].network.parameters())


def test_members_cut_further_keep_their_heads_and_their_none_biases() -> None:
    model, spec = make("small_cnn")
    sites = find_sites(model, images_for(spec, 2))
    before = [{site.name: np.arange(number) for site in sites.sites} for number in range(4)]
    plans = [{site.name: np.arange(2 * number + 1) for site in sites.sites} for number in range(4)]
    pairs = list(zip(GROUPS, before, strict=True))
    ensemble = build_ensemble(model, spec, sites, pairs, NAMES, NORMALIZATION).eval()
    fit_none_biases(ensemble, sites.head, _labelled_batches(ensemble))
    untouched = snapshot(ensemble)
    further = cut_further(ensemble, model, sites, before, plans)
    assert_same(ensemble, untouched)
    assert (further.class_names, further.spec, further.normalization) == (NAMES, spec, NORMALIZATION)
    for number, (old, new) in enumerate(zip(ensemble.members, further.members, strict=True)):
        assert new.classes == old.classes == GROUPS[number]
        assert widths(new.network)["features.0"][0] == 32 - (2 * number + 1)
        assert torch.equal(new.network.classifier.bias, old.network.classifier.bias)


# ------------------------------------------------------------------------------------------------------------- combine


def combined_by_hand(logits: list[np.ndarray], groups: list[tuple[int, ...]], num_classes: int) -> np.ndarray:
    count = len(logits[0])
    scores = np.zeros((count, num_classes))
    for output, classes in zip(logits, groups, strict=True):
        for image in range(count):
            if len(classes) == 1:
                scores[image, classes[0]] = 1 / (1 + np.exp(-output[image, 0]))
                continue
            exponentials = np.exp(output[image])
            none = 0 if len(classes) == num_classes else 1
            for position, label in enumerate(classes):
                scores[image, label] = exponentials[none + position] / exponentials.sum()
    return scores / scores.sum(1, keepdims=True)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(num_classes=st.integers(2, 7), n_groups=st.integers(1, 7), count=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_combining_equals_a_computation_by_hand(num_classes: int, n_groups: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    parts = np.array_split(generator.permutation(num_classes), min(n_groups, num_classes))
    groups = [tuple(int(label) for label in part) for part in parts]
    logits = [generator.normal(0, 4, (count, len(classes) + (1 < len(classes) < num_classes))) for classes in groups]
    probabilities = combine([torch.from_numpy(each) for each in logits], groups, num_classes)
    np.testing.assert_allclose(probabilities, combined_by_hand(logits, groups, num_classes), atol=1e-12)
    np.testing.assert_allclose(probabilities.sum(1), 1)


def test_an_ensemble_answers_with_its_members_combined() -> None:
    ensemble, _ = built(GROUPS)
    images = images_for(ensemble.spec, 3)
    with torch.no_grad():
        logits = [member.network(images).numpy().astype(np.float64) for member in ensemble.members]
        probabilities = ensemble(images)
    np.testing.assert_allclose(probabilities, combined_by_hand(logits, GROUPS, 10), atol=1e-5)


def test_where_no_member_wants_an_image_all_classes_are_equally_likely() -> None:
    probabilities = combine([torch.full((2, 1), -1e4), torch.tensor([[1e4, 0, 0]] * 2)], [(0,), (1, 2)], 3)
    assert torch.allclose(probabilities, torch.full((2, 3), 1 / 3))


def test_very_sure_members_do_not_overflow() -> None:
    probabilities = combine(
        [torch.tensor([[1e4]]), torch.tensor([[-1e4]]), torch.tensor([[3e4]])], [(1,), (0,), (2,)], 3
    )
    assert torch.allclose(probabilities, torch.tensor([[0.0, 0.5, 0.5]]))


def test_scores_of_a_group_leave_out_none() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    shares = torch.softmax(logits, 1)
    assert torch.equal(class_scores(logits, 2), shares[:, 1:])
    assert torch.equal(class_scores(logits, 3), shares)
    assert torch.equal(class_scores(torch.tensor([[0.0], [3.0]]), 1), torch.sigmoid(torch.tensor([[0.0], [3.0]])))


# --------------------------------------------------------------------------------------------------- biases of "none"


def _labelled_batches(ensemble: Ensemble, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    images = images_for(ensemble.spec, 60, seed)
    # Class 0 has ten times as many images as each other class, so that balancing shows.
    labels = torch.cat([torch.zeros(33, dtype=torch.int64), torch.arange(27) % 9 + 1])
    return list(zip(images.split(25), labels.split(25), strict=True))


def balanced_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the cross entropy averaged within each outcome, then over the outcomes that occur."""
    logits = logits.astype(np.float64)
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(targets)), targets]
    return float(np.mean([each[targets == outcome].mean() for outcome in np.unique(targets)]))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_none_biases_minimise_the_balanced_loss(seed: int) -> None:
    ensemble, _ = built(GROUPS, seed=seed)
    batches = _labelled_batches(ensemble, seed)
    before = snapshot(ensemble)
    fit_none_biases(ensemble, "classifier", batches)
    images, labels = torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches]).numpy()
    changed = [name for name, value in ensemble.state_dict().items() if not torch.equal(value, before["tensors"][name])]
    assert changed == [f"networks.{number}.classifier.bias" for number in (1, 2, 3)]
    for number, classes in enumerate(GROUPS):
        if len(classes) == 1:
            continue
        network = ensemble.members[number].network
        old = before["tensors"][f"networks.{number}.classifier.bias"]
        assert torch.equal(network.classifier.bias[1:], old[1:])
        targets = np.array([classes.index(label) + 1 if label in classes else 0 for label in labels.tolist()])
        with torch.no_grad():
            logits = network(images).numpy()
        fitted = float(network.classifier.bias[0].detach())
        assert np.allclose(logits[:, 0], fitted)

        def loss(bias: float, logits: np.ndarray = logits, targets: np.ndarray = targets) -> float:
            return balanced_loss(np.concatenate([np.full((len(logits), 1), bias), logits[:, 1:]], 1), targets)

        grid = np.arange(-12, 12, 0.01)
        best = grid[np.argmin([loss(bias) for bias in grid])]
        assert abs(fitted - best) < 0.03
        assert loss(fitted) <= loss(0.0)


@pytest.mark.parametrize("groups", [[(label,) for label in range(10)], [tuple(range(10))]], ids=["binary", "control"])
def test_members_without_a_none_row_are_left_alone(groups: list[tuple[int, ...]]) -> None:
    ensemble, _ = built(groups)
    before = snapshot(ensemble)
    fit_none_biases(ensemble, "classifier", _labelled_batches(ensemble))
    assert_same(ensemble, before)


# ------------------------------------------------------------------------------------------------------------- storage


def digest_of(ensemble: Ensemble, images: Tensor) -> str:
    """Return the SHA-256 of every tensor's name and bytes, and of the output for some images."""
    content = hashlib.sha256()
    with torch.no_grad():
        tensors = {**ensemble.state_dict(), "probabilities": ensemble(images)}
    for name, value in sorted(tensors.items()):
        content.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        content.update(value.contiguous().numpy().tobytes())
    return content.hexdigest()


def test_an_irregular_ensemble_comes_back_bit_for_bit(tmp_path: Path) -> None:
    ensemble, _ = built(GROUPS)
    fit_none_biases(ensemble, "classifier", _labelled_batches(ensemble))
    save_ensemble(ensemble, tmp_path / "ensemble")
    loaded = load_ensemble(tmp_path / "ensemble")
    images = images_for(ensemble.spec, 6)
    assert digest_of(loaded, images) == digest_of(ensemble, images)
    assert [member.classes for member in loaded.members] == GROUPS
    assert (loaded.class_names, loaded.spec, loaded.normalization) == (NAMES, ensemble.spec, NORMALIZATION)
    assert len({str(widths(member.network)) for member in loaded.members}) == len(GROUPS)
    assert not any(module.training for module in loaded.modules())


@pytest.mark.processes
def test_a_fresh_process_gives_the_same_answer(tmp_path: Path) -> None:
    ensemble, _ = built([(label,) for label in range(10)])
    save_ensemble(ensemble, tmp_path / "ensemble")
    script = (
        "import sys, torch; from pathlib import Path\n"
        "from sensai.ensemble import load_ensemble\n"
        "from tests.ensemble.test_ensemble import digest_of\n"
        "from tests.helpers.networks import images_for\n"
        "torch.set_num_threads(int(sys.argv[2]))\n"
        "ensemble = load_ensemble(Path(sys.argv[1]))\n"
        "print(digest_of(ensemble, images_for(ensemble.spec, 4)))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "ensemble"), str(torch.get_num_threads())]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == digest_of(ensemble, images_for(ensemble.spec, 4))


def test_the_folder_holds_weights_and_json_only(tmp_path: Path) -> None:
    ensemble, _ = built(GROUPS)
    save_ensemble(ensemble, tmp_path)
    files = sorted(entry.name for entry in tmp_path.iterdir())
    assert files == ["ensemble.json", *(f"member_{number:03d}.safetensors" for number in range(4))]
    for number, member in enumerate(ensemble.members):
        tensors = load_file(tmp_path / f"member_{number:03d}.safetensors")
        assert tensors.keys() == member.network.state_dict().keys()
    manifest = json.loads((tmp_path / "ensemble.json").read_text())
    assert [entry["classes"] for entry in manifest["members"]] == [list(classes) for classes in GROUPS]


def test_a_network_of_one_class_keeps_its_row(tmp_path: Path) -> None:
    ensemble, base = built([(6,)], pruned=False)
    with torch.no_grad():
        ensemble.members[0].network.classifier.bias.fill_(1.25)
    save_ensemble(ensemble, tmp_path)
    head = load_ensemble(tmp_path).members[0].network.classifier
    assert torch.equal(head.weight, base.classifier.weight[6:7])
    assert head.bias.tolist() == [1.25]


def test_an_unfinished_or_foreign_folder_is_not_loaded(tmp_path: Path) -> None:
    ensemble, _ = built(GROUPS)
    save_ensemble(ensemble, tmp_path)
    manifest = json.loads((tmp_path / "ensemble.json").read_text())
    (tmp_path / "ensemble.json").write_text(json.dumps({**manifest, "format_version": 99}))
    with pytest.raises(ValueError, match="format version 99, not 1"):
        load_ensemble(tmp_path)
    (tmp_path / "ensemble.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"ensemble\.json"):
        load_ensemble(tmp_path)


def test_an_ensemble_of_two_classes_in_one_group_is_the_control() -> None:
    model, spec = make("small_cnn", num_classes=2)
    sites = find_sites(model, images_for(spec, 2))
    ensemble = build_ensemble(model, spec, sites, [((0, 1), {})], ("no", "yes"), NORMALIZATION).eval()
    images = images_for(spec, 3)
    with torch.no_grad():
        assert ensemble.member_logits(images)[0].shape == (3, 2)
        assert torch.allclose(ensemble(images), torch.softmax(model(images), 1), atol=1e-6)


def test_a_member_belongs_to_its_classes() -> None:
    ensemble, _ = built(GROUPS)
    assert all(isinstance(member, Member) for member in ensemble.members)
    assert list(ensemble.networks) == [member.network for member in ensemble.members]
