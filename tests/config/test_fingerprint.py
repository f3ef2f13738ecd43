"""The fingerprint of a stage, checked for every existing parameter."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from sensai.errors import InputError
from sensai.grouping.methods import METHODS
from sensai.pipeline.session import Session
from sensai.stages import register, report
from sensai.stages.contention import experiment
from sensai.stages.evaluate.measured_host import timing_host
from sensai.stages.main import MEASURED
from sensai.tracking import Store
from sensai.training.schedules import SCHEDULES
from tests.conftest import tiny

STAGES = {stage.name: stage for stage in (*MEASURED, register.stage, report.stage, experiment.stage)}

# Where and how often something runs, not what it gives.
NEVER = {
    "data_dir",
    "device",
    "jobs",
    "threads",
    "backend",
    "ray_address",
    "force",
    "work_dir",
    "traceback",
    "quiet",
    "from_run",
    "shards",
}

# Another value for every parameter.
OTHER = {
    "dataset": "digits",
    "data_dir": "elsewhere",
    "arch": "vgg11_bn",
    "arch_args": '{"block": "bottleneck"}',
    "checkpoint": "{folder}/other.bin",
    "rename": "linear=fc",
    "checkpoint_key": "ema",
    "drop": "*.total_ops",
    "mean": "0.4",
    "std": "0.4",
    "image_size": 16,
    "val_fraction": 0.3,
    "split_seed": 1,
    "base_seed": 1,
    "seed": 1,
    "device": "cpu",
    "force": True,
    "work_dir": "{folder}/elsewhere",
    "traceback": True,
    "quiet": True,
    "from_run": "0" * 32,
    "base_epochs": 4,
    "base_lr": 0.2,
    "base_batch_size": 16,
    "base_weight_decay": 0.1,
    "base_augmentation": "crop",
    "zero_threshold": 0.1,
    "criterion": "taylor",
    "shards": 3,
    "method": "singletons",
    "n_groups": 3,
    "overlap": 2,
    "overlap_design": "balanced",
    "similarity": "statistics",
    "groups_file": "{folder}/other.bin",
    "policy": "threshold",
    "ratio": 0.1,
    "target_flops": 0.3,
    "target_of": "ensemble",
    "ranking": "layer",
    "apoz_threshold": 0.9,
    "mean_threshold": 0.1,
    "plan_classes": "all",
    "replica_plans": "same",
    "min_channels": 2,
    "round_to": 8,
    "scope": "all",
    "epochs": 2,
    "cut_steps": 3,
    "cut_epochs": 2,
    "initial_weights": "random",
    "lr": 0.2,
    "batch_size": 16,
    "weight_decay": 0.1,
    "augmentation": "crop",
    "patience": 3,
    "min_gain": 0.1,
    "target": 0.9,
    "loss": "joint",
    "schedule": "constant",
    "decay_epochs": 3,
    "stop_rules": "target",
    "kd_weight": 0.3,
    "kd_temperature": 4,
    "logit_standardization": True,
    "label_smoothing": 0.1,
    "weight_averaging": "ema",
    "ema_decay": 0.9,
    "auto_augment": "trivialaugment",
    "mix": "mixup",
    "mix_alpha": 0.2,
    "balance": "sample",
    "precision": "bf16",
    "budget": "3epochs",
    "jobs": 2,
    "threads": 2,
    "backend": "ray",
    "ray_address": "auto",
    "combine": "vector",
    "reject": 0.1,
    "runtime": "onnx-graph",
    "int8": True,
    "latency_batch_size": 4,
    "model_name": "another",
    "image_dtype": "float32",
    "image_layout": "NCHW",
    "yardstick_runs": f"control={'1' * 32}",
    "compare_runs": f"{'1' * 32},{'2' * 32}",
    "trainings": "1,3",
    "contention_images": 100,
    "workers": 1,
    "tasks": "training",
    "repeats": 3,
}

# The choices under which a parameter matters, and those under which it does not.
MATTERS_WITH = {
    "ray_address": {"backend": "ray"},
    "groups_file": {"method": "file"},
    "overlap_design": {"overlap": 2},
    "replica_plans": {"method": "replicas"},
    "similarity": {"method": "most_similar"},
    "apoz_threshold": {"policy": "threshold"},
    "mean_threshold": {"policy": "threshold"},
    "min_gain": {"patience": 2},
    **{name: {"loss": "kd"} for name in ("kd_weight", "kd_temperature", "logit_standardization")},
    "ema_decay": {"weight_averaging": "ema"},
    "mix_alpha": {"mix": "cutmix"},
    "cut_epochs": {"cut_steps": 2},
    "decay_epochs": {"schedule": "warmup_stable_decay"},
    "arch_args": {"arch": "resnet20"},
    "target_of": {"target_flops": 0.5},
    **{name: {"checkpoint": __file__} for name in ("rename", "checkpoint_key", "drop")},
}
UNTRAINED, UNRETRAINED = {"base_epochs": 0}, {"epochs": 0}
IGNORED_WITH = [
    *((name, {"checkpoint": ""}) for name in ("rename", "checkpoint_key", "drop")),
    ("apoz_threshold", {"policy": "ratio"}),
    ("mean_threshold", {"policy": "ratio"}),
    ("ratio", {"policy": "threshold"}),
    ("ranking", {"policy": "threshold"}),
    ("ratio", {"target_flops": 0.5}),
    ("target_of", {"policy": "ratio"}),
    ("target_of", {"policy": "threshold"}),
    ("n_groups", {"method": "singletons"}),
    ("n_groups", {"method": "file"}),
    *(("overlap", other) for other in ({"method": "replicas"}, {"method": "file"}, {"n_groups": 1})),
    ("overlap_design", {"overlap": 1}),
    ("replica_plans", {"method": "random"}),
    ("groups_file", {"method": "singletons"}),
    ("groups_file", {"method": "random"}),
    *(("similarity", {"method": method}) for method in ("singletons", "file", "random", "kmeans", "min_flops")),
    *((name, UNTRAINED) for name in ("base_lr", "base_batch_size", "base_weight_decay", "base_augmentation")),
    *((name, UNRETRAINED) for name in ("lr", "batch_size", "weight_decay", "augmentation", "patience", "min_gain")),
    *((name, UNRETRAINED) for name in ("loss", "target", "balance", "precision", "budget")),
    *((name, UNRETRAINED) for name in ("cut_steps", "cut_epochs")),
    *((name, UNRETRAINED) for name in ("label_smoothing", "weight_averaging", "auto_augment", "mix")),
    *((name, {"loss": "joint"}) for name in ("kd_temperature", "logit_standardization")),
    ("ema_decay", {"weight_averaging": "none"}),
    ("mix_alpha", {"mix": "none"}),
    ("cut_epochs", {"cut_steps": 1}),
    ("decay_epochs", {"schedule": "one_cycle"}),
    ("kd_weight", {"loss": "joint"}),
    ("balance", {"loss": "joint_kd"}),
]


@pytest.fixture(scope="module", autouse=True)
def constant() -> Iterator[None]:
    """Register a schedule of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SCHEDULES, "_parts", {**{name: SCHEDULES[name] for name in SCHEDULES}})
        SCHEDULES.register("constant", "of these tests")(lambda optimizer: optimizer)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fingerprints")
    (folder / "one.bin").write_text("one")
    (folder / "other.bin").write_text("other")
    return folder


def fingerprints(folder: Path, **parameters: object) -> dict[str, str]:
    """Return the fingerprint of every stage with those of these parameters that it takes."""
    base = {
        "method": "random",
        "n_groups": 2,
        "groups_file": f"{folder}/one.bin",
        "work_dir": f"{folder}/work",
        **parameters,
    }
    # Nothing is looked for in the store, so nothing needs to answer there.
    session = Session(Store(MlflowClient("http://127.0.0.1:1"), "0"))
    return {
        name: stage.fingerprint(
            stage.config(**tiny(name, **{key: base[key] for key in base if key in stage.config.model_fields})), session
        )
        for name, stage in STAGES.items()
    }


def other(name: str, folder: Path) -> object:
    value = OTHER[name]
    return value.replace("{folder}", str(folder)) if isinstance(value, str) else value


def changed(folder: Path, name: str, given: dict[str, object]) -> set[str]:
    """Return the stages whose fingerprint changes with the other value of a parameter."""
    before, after = fingerprints(folder, **given), fingerprints(folder, **given, **{name: other(name, folder)})
    return {stage for stage in STAGES if before[stage] != after[stage]}


def stages_with(name: str) -> set[str]:
    return {stage for stage in STAGES if name in STAGES[stage].config.model_fields}


def test_every_stage_differs(folder: Path) -> None:
    assert len(set(fingerprints(folder).values())) == len(STAGES) == 9


# `main` has parameters of its own, but no fingerprint: its stages have.
EVERY = {name for stage in STAGES.values() for name in stage.config.model_fields}


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_parameter_enters_or_is_known_not_to(folder: Path, name: str) -> None:
    assert name in OTHER, f"{name} is new: say here whether it changes the result"
    expected = set() if name in NEVER else stages_with(name)
    if name in ("jobs", "threads"):
        expected = {"contention"}
    if name == "seed":
        expected -= {"baseline", "activations"}
    assert stages_with(name)
    assert changed(folder, name, MATTERS_WITH.get(name, {})) == expected


@pytest.mark.parametrize(("name", "given"), IGNORED_WITH)
def test_what_the_chosen_method_ignores_does_not_enter(folder: Path, name: str, given: dict) -> None:
    # A stage may share the parameter without having the method.
    assert not {
        stage for stage in changed(folder, name, given) if given.keys() <= STAGES[stage].config.model_fields.keys()
    }


def test_the_seed_enters_where_something_is_drawn(folder: Path) -> None:
    after_retrain = {"retrain", "evaluate", "register", "report"}
    after_group = {"group", "prune", "contention"} | after_retrain
    assert changed(folder, "seed", {"method": "random"}) == after_group
    assert changed(folder, "seed", {"method": "singletons"}) == after_retrain
    assert changed(folder, "seed", {"method": "singletons", "epochs": 0}) == set()
    assert changed(folder, "seed", {"method": "random", "epochs": 0}) == after_group


@pytest.mark.parametrize("method", ["random", "best_of_random", "kmeans", "spectral", "min_flops"])
def test_the_seed_enters_the_groups_that_are_drawn(folder: Path, method: str) -> None:
    assert "group" in changed(folder, "seed", {"method": method})


@pytest.mark.parametrize("method", ["most_similar", "least_similar", "file"])
def test_the_seed_does_not_enter_other_groups(folder: Path, method: str) -> None:
    assert "group" not in changed(folder, "seed", {"method": method})


# What a method may take -> the parameters of the entry point that its groups then depend on.
DEPENDS_ON = {
    "num_classes": set(),
    "class_names": set(),
    "statistics": set(),
    "costs": {"ratio"},
    "similarity": {"similarity", "ratio"},
    "confusion": set(),
    "n_groups": {"n_groups"},
    "seed": {"seed"},
    "groups_file": {"groups_file"},
}


@pytest.mark.parametrize("taken", METHODS.inputs)
def test_a_method_depends_on_what_it_takes_and_on_nothing_else(
    folder: Path, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METHODS, "_parts", dict(METHODS._parts))
    namespace: dict[str, Callable[..., object]] = {}
    exec(f"def method({taken}): ...", namespace)
    METHODS.register("own", "of this test")(namespace["method"])
    given = {"method": "own", "policy": "threshold", "epochs": 0}
    # Without `ratio` as policy, only groups can depend on it; `group` by itself logs sizes at the ratio.
    names = {"similarity", "n_groups", "seed", "groups_file", "ratio"}
    assert {name for name in names if "prune" in changed(folder, name, given)} == DEPENDS_ON[taken]


def test_where_members_are_not_cut_by_ratio_it_enters_the_groups_that_depend_on_plans(folder: Path) -> None:
    by_plans = [{"method": "min_flops"}, {"method": "best_of_random"}, {"method": "spectral"}]
    for cut in ({"target_flops": 0.5}, {"policy": "threshold"}):
        for method in by_plans:
            assert changed(folder, "ratio", {**cut, **method}) == stages_with("ratio")
        # By itself `group`, which knows no policy, logs sizes at the ratio.
        for method in ({"method": "spectral", "similarity": "confusion"}, {"method": "kmeans"}):
            assert changed(folder, "ratio", {**cut, **method}) == {"group"}


def test_all_criteria_but_taylor_share_one_pass(folder: Path) -> None:
    by = {name: fingerprints(folder, criterion=name) for name in ("apoz", "mean", "l1", "random", "taylor")}
    assert len({each["activations"] for each in by.values()}) == 2
    assert by["taylor"]["activations"] != by["apoz"]["activations"] == by["random"]["activations"]
    assert len({each["group"] for each in by.values()}) == 2
    for stage in ("prune", "retrain", "evaluate"):
        assert len({each[stage] for each in by.values()}) == 5


def test_the_threshold_policy_has_its_own_criterion(folder: Path) -> None:
    after = {"prune", "retrain", "evaluate", "register", "report"}
    for criterion in ("taylor", "random"):
        first, second = (fingerprints(folder, policy="threshold", criterion=name) for name in ("apoz", criterion))
        assert all(first[stage] == second[stage] for stage in after)


def test_the_seed_enters_prune_where_the_order_is_random(folder: Path) -> None:
    given = {"method": "singletons", "epochs": 0}
    assert "prune" in changed(folder, "seed", {**given, "criterion": "random"})
    assert "prune" not in changed(folder, "seed", {**given, "criterion": "mean"})
    assert "prune" not in changed(folder, "seed", {**given, "criterion": "random", "policy": "threshold"})


@pytest.mark.parametrize(("name", "given"), [("checkpoint", {}), ("groups_file", {"method": "file"})])
def test_files_enter_by_content(folder: Path, tmp_path: Path, name: str, given: dict) -> None:
    file, copy = tmp_path / "file", tmp_path / "copy"
    file.write_text("content")
    copy.write_text("content")
    first = fingerprints(folder, **given, **{name: str(file)})
    assert fingerprints(folder, **given, **{name: str(copy)}) == first
    file.write_text("changed")
    second = fingerprints(folder, **given, **{name: str(file)})
    assert {stage for stage in STAGES if first[stage] != second[stage]} == (
        set(STAGES) if name == "checkpoint" else stages_with("groups_file")
    )


@pytest.mark.parametrize(("name", "given"), [("checkpoint", {}), ("groups_file", {"method": "file"})])
def test_a_file_that_does_not_exist_is_the_users_to_mend(folder: Path, name: str, given: dict) -> None:
    with pytest.raises(InputError, match=rf"{name}='nowhere': there is no such file"):
        fingerprints(folder, **given, **{name: "nowhere"})


def test_data_enter_by_content(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        "import numpy as np\n"
        "def load(data_dir):\n"
        "    images = np.load(f'{data_dir}/images.npy')\n"
        "    return {'train': (images, np.arange(len(images)) % 2), 'test': (images[:4], np.arange(4) % 2)}\n"
    )
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    for name in ("here", "there", "changed"):
        (tmp_path / name).mkdir()
        if name == "changed":
            images[39, 7, 7] ^= 1
        np.save(tmp_path / name / "images.npy", images)

    def stages(name: str) -> dict[str, str]:
        return fingerprints(folder, dataset=f"{tmp_path}/user.py:load", data_dir=str(tmp_path / name))

    here, there, one_bit = stages("here"), stages("there"), stages("changed")
    assert here == there
    assert not set(here.values()) & set(one_bit.values())


def test_latencies_are_of_one_runtime_device_and_batch() -> None:
    """What `promote` and `tune` take for comparable differs in each of them, and `evaluate` is not answered by another's."""
    cpu = torch.device("cpu")
    hosts = [
        timing_host("auto", cpu),
        timing_host("torch", cpu),
        timing_host("auto", torch.device("cuda", 0)),
        timing_host("auto", cpu, images=64),
    ]
    assert len({json.dumps(host) for host in hosts}) == len(hosts)
    assert timing_host("auto", cpu) == timing_host("auto", cpu, images=1)


def test_the_host_enters_what_times(folder: Path) -> None:
    threads = torch.get_num_threads()
    before = fingerprints(folder)
    try:
        torch.set_num_threads(threads + 1)
        after = fingerprints(folder)
    finally:
        torch.set_num_threads(threads)
    assert {stage for stage in STAGES if before[stage] != after[stage]} == {
        *("evaluate", "register", "report", "contention"),
    }
